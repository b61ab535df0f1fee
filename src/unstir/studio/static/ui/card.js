/** A picture in a grid, and the place of one that is not there yet. */

import {html} from "./html.js";
import {modelNamed} from "../state.js";
import {Button, Spinner} from "./parts.js";
import {Menu} from "./menu.js";
import {action, actionsOf, change, open, picking} from "./actions.js";
import {find} from "./form.js";

/** What was asked for in words, of a picture or a job: the prompt, or the name of the class; null without either. */
export function saidOf({prompt, label, settings, model}) {
  const said = prompt ?? find(settings, "prompt") ?? label ?? find(settings, "label");
  if (said === null || said === "") return null;
  return typeof said === "number" ? modelNamed(model)?.classes?.[said] ?? `class ${said}` : String(said);
}

/** The same, with a name for what nothing was said of. */
export const captionOf = (one) => saidOf(one) ?? `a picture by ${one.model}`;

// so few pixels look better as squares than blurred
export const pixelClass = ({width}) => (width < 40 ? "pixels" : "");

export const Star = ({item, kind = "quiet", text}) =>
  html`<${Button} icon="star" kind=${kind} filled=${item.starred}
  class=${item.starred ? "starred" : ""} aria-pressed=${item.starred}
    label=${item.starred ? "Remove star" : "Star"} data-action="star"
  onClick=${() => change(item, {starred: !item.starred})}>${text}<//>`;

const QUICK = ["subtle", "strong", "upscale"].map(action);

/** @param {{item: object, items: object[]}} props  `items` is the list that the arrow keys walk in the detail view */
export function Card({item, items}) {
  const caption = captionOf(item);
  const entry = (one) => ({...one, run: () => one.run(item)});
  return html`<article class=${`card ${picking.value?.id === item.id ? "picked" : ""}`} data-testid="card"
    data-item=${item.id}>
    <button type="button" class="picture" aria-label=${`Open ${caption}, seed ${item.seed}`}
      onClick=${() => open(item, items)}>
      <img class=${pixelClass(item)} src=${item.url} alt=${caption} loading="lazy" width=${item.width}
        height=${item.height} /></button>
    <div class="card-top"><${Star} item=${item} kind="over" /></div>
    <div class="card-tools">${QUICK.filter((one) => one.fits(item))
      .map((one) => html`<${Button} key=${one.id} icon=${one.icon} kind="over" label=${one.label}
        title=${one.hint ?? one.label} data-action=${one.id} onClick=${() => one.run(item)} />`)}
      <${Menu} label="More actions" kind="over" entries=${actionsOf(item).map(entry)} /></div></article>`;
}

/** A picture in the making: its preview, or where it will be. */
export function Slot({preview, ratio, state, caption}) {
  return html`<div class=${`card slot ${state}`} data-testid="slot">
    <div class="picture" style=${{aspectRatio: ratio}}>
    ${preview ? html`<img src=${preview} alt=${`Preview of ${caption}`} data-testid="preview" />`
      : state === "running" ? html`<${Spinner} />` : html`<small>${state}</small>`}</div></div>`;
}
