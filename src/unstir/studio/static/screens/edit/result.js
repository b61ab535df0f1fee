/** What came of an edit: while it runs its preview, then before and after under a slider. */

import {go, isOver, previews} from "../../state.js";
import {action, shown} from "../../ui/actions.js";
import {BeforeAfter, placed} from "../../ui/before-after.js";
import {html, useState} from "../../ui/html.js";
import {Button, Fault, Progress} from "../../ui/parts.js";
import {cancel} from "../../ui/queue.js";

/** Above so many pixels a picture is shown smooth. */
const SMALL = 256;
const pixels = ({width}) => (width <= SMALL ? "pixels" : "");

/**
 * @param {object} props
 * @param {object} props.job
 * @param {import("./source.js").Source} props.source
 * @param {() => void} props.onClose back to the canvas
 */
export function Result({job, source, onClose}) {
  const items = job.result?.items ?? [];
  const [chosen, choose] = useState(0);
  const item = items[chosen];
  return html`<section class="edit-result" aria-label="Result">
    <div class="edit-result-main">
      ${!isOver(job) && html`<${Previews} job=${job} source=${source} />`}
      ${item && html`<${BeforeAfter} key=${item.id} pixels=${pixels(item)} style=${placed(job.settings, source.picture, item)}
        before=${{url: source.url, alt: "before"}} after=${{...item, alt: "after"}} />`}
      <${Fault} error=${job.state === "failed" ? job.error : null} />
    </div>
    ${items.length > 1 && html`<div class="strip" role="group" aria-label="Results">${items.map((each, k) => html`
      <button type="button" key=${each.id} aria-pressed=${k === chosen} aria-label=${`Result ${k + 1}, seed ${each.seed}`} onClick=${() => choose(k)}>
        <img class=${pixels(each)} src=${each.thumb} alt="" /></button>`)}</div>`}
    <div class="edit-result-foot" role="status">
      ${!isOver(job) && html`<${Progress} job=${job} /><${Button} icon="close" onClick=${() => cancel(job)}>Cancel<//>`}
      ${isOver(job) && html`<${Button} icon="left" onClick=${onClose}>Back to the picture<//>`}
      ${item && html`
        <${Button} kind="primary" icon="edit" onClick=${() => go(`#/edit?item=${item.id}`)}>Use as input<//>
        <${Button} icon="download" label="Download" onClick=${() => action("download").run(item)} />
        <${Button} icon="info" label="All about it" onClick=${() => (shown.value = {id: item.id, items})} />`}
    </div>
  </section>`;
}

/** What it looks like so far; before there is anything, the picture itself. */
function Previews({job, source}) {
  const pictures = previews.value.get(job.id);
  if (!pictures) return html`<img class=${`waits ${pixels(source.picture)}`} src=${source.url} alt="The picture" />`;
  return html`<div class="previews">${pictures.map((url, k) => html`<img key=${k} class="pixels" src=${url} alt=${`Preview ${k + 1}`} />`)}</div>`;
}
