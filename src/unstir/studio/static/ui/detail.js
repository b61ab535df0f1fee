/** One picture large, with its settings and what can be done with it; the arrow keys walk the list it came from. */

import {html, useEffect, useState} from "./html.js";
import {get} from "../api.js";
import {complain, modelNamed, onItem} from "../state.js";
import {actionsOf, change, compared, discard, pickAnother, shown} from "./actions.js";
import {BeforeAfter, placed} from "./before-after.js";
import {captionOf, pixelClass, Star} from "./card.js";
import {flatten} from "./form.js";
import {Button, Dialog, duration, Icon, Spinner} from "./parts.js";

const written = (value) => (Array.isArray(value) ? value.join(", ") : String(value?.name ?? value));
const DATE = {dateStyle: "medium", timeStyle: "short"};

/** Name and value of everything that made a picture. */
function facts(item) {
  const {x, y, base = item.settings} = item.settings;
  const axis = (one) => one && `${one.setting}: ${written(one.values)}`;
  const rest = Object.entries(flatten(base)).map(([path, value]) => [path.split(".").at(-1), value])
    .filter(([name]) => !["prompt", "label", "seed", "n"].includes(name))
    .map(([name, value]) => [name.replaceAll("_", " "), written(value)]);
  return [
    ["Model", modelNamed(item.model)?.title ?? item.model], ["Prompt", item.prompt], ["Class", item.label],
    ["Columns", axis(x)], ["Rows", axis(y)], ["Seed", item.seed], ["Size", `${item.width} × ${item.height}`], ...rest,
    ["Kind", item.kind], ["Made", new Date(item.created * 1000).toLocaleString(undefined, DATE)],
    ["Took", item.seconds && duration(item.seconds)],
  ].filter(([, value]) => value !== null && value !== undefined && value !== 0);
}

/** An item, fetched where it is not at hand, and kept as it changes. */
function useItem(id, known) {
  const [item, setItem] = useState(known);
  useEffect(() => {
    setItem(known);
    if (!known) get(`/api/items/${id}`).then(setItem, complain);
    return onItem((event) => event.id === id && event.item && setItem(event.item));
  }, [id]);
  return item?.id === id ? item : known ?? null;
}

function Detail({id, items}) {
  const index = items.findIndex((item) => item.id === id);
  const item = useItem(id, items[index]);
  const close = () => (shown.value = null);
  const to = (other) => other && (shown.value = {id: other.id, items});
  const remove = () => {
    const neighbour = items[index + 1] ?? items[index - 1];
    shown.value = neighbour ? {id: neighbour.id, items: items.filter((other) => other.id !== id)} : null;
    discard([item]);
  };
  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => to(items[index - 1]), ArrowRight: () => to(items[index + 1]),
      Delete: remove, s: () => change(item, {starred: !item.starred}),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };
  if (!item) return null;
  const act = (one) => {
    if (one.id === "delete") return remove();
    if (["restore", "start", "edit"].includes(one.id)) close();
    one.run(item);
  };
  return html`<${Dialog} title=${captionOf(item)} onClose=${close} wide onKeyDown=${keys}
    data-testid="detail">
    <div class="detail"><figure>
      <img class=${pixelClass(item)} src=${item.url} alt=${captionOf(item)} width=${item.width}
        height=${item.height} />
      ${items.length > 1 && html`<figcaption>
        <${Button} icon="left" kind="quiet" label="Newer picture" disabled=${index <= 0}
          onClick=${() => to(items[index - 1])} />
        <small>${index + 1} of ${items.length}</small>
        <${Button} icon="right" kind="quiet" label="Older picture" disabled=${index >= items.length - 1}
          onClick=${() => to(items[index + 1])} />
      </figcaption>`}</figure>
      <div class="detail-side">
        <dl>${facts(item).map(([name, value]) =>
          html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
        ${item.parent && html`<button type="button" class="link" onClick=${() => to({id: item.parent})}>
          <${Icon} name="undo" size=${15} /> Made from another picture</button>`}
        ${item.command && html`<pre class="command" tabIndex="0" aria-label="Command that makes it again">
          ${item.command}</pre>`}
        <div class="actions"><${Star} item=${item} kind="plain" text=${item.starred ? "Starred" : "Star"} />
          ${actionsOf(item).map((one) =>
            html`<${Button} key=${one.id} icon=${one.icon} title=${one.hint} data-action=${one.id}
            kind=${one.id === "delete" ? "danger" : "plain"} onClick=${() => act(one)}>
              ${one.label}<//>`)}</div>
      </div></div><//>`;
}

function Compare({ids: [first, second]}) {
  const before = useItem(first);
  const after = useItem(second);
  const picture = (item) => ({...item, alt: captionOf(item)});
  return html`<${Dialog} title="Compare" onClose=${() => (compared.value = null)} wide data-testid="compare">
    ${before && after ? html`<${BeforeAfter} before=${picture(before)} after=${picture(after)}
      pixels=${pixelClass(after)}
      style=${after.parent === before.id ? placed(after.settings, before, after) : {}} />`
        : html`<${Spinner} label="Loading" />`}
    <div class="compare-names"><span>${before && `${captionOf(before)}, seed ${before.seed}`}</span>
      <${Button} icon="compare" onClick=${() => pickAnother(after)}>Another picture<//>
      <span>${after && `${captionOf(after)}, seed ${after.seed}`}</span></div><//>`;
}

/** The windows above the screens. */
export const Lightbox = () => html`${shown.value && html`<${Detail} ...${shown.value} />`}
  ${compared.value && html`<${Compare} ids=${compared.value} />`}`;
