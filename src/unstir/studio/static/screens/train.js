/** Train: from pictures to a model, and all runs there are. */

import {connected, go, isOver, jobs, route} from "../state.js";
import {html, useEffect} from "../ui/html.js";
import {Button, Empty, Fault, Progress, Spinner} from "../ui/parts.js";
import {cancel} from "../ui/queue.js";
import {RunList, useRuns} from "./train/list.js";
import {Run} from "./train/run.js";
import {emptied, Setup} from "./train/setup.js";

export default function Train() {
  const {query} = route.value;
  const [name, job] = [query.get("run"), query.get("job")];
  const runs = useRuns(name);
  return html`<div class="train">
    <aside aria-label="Runs">
      <a class=${`button ${name || job ? "primary" : "plain"}`} id="new-model" href="#/train"
        aria-current=${name || job ? undefined : "page"}>New model</a>
      ${runs === null ? html`<${Spinner} />` : html`<${RunList} runs=${runs} current=${name} />`}
    </aside>
    <div class="train-main">
      ${name ? html`<${Run} key=${name} name=${name} />`
        : job ? html`<${Starting} id=${job} runs=${runs ?? []} />` : html`<h1>Train a model</h1><${Setup} />`}
    </div>
  </div>`;
}

/** A job whose run is not there yet: it waits, or is about to begin. @param {{id: string, runs: object[]}} props */
function Starting({id, runs}) {
  const job = jobs.value.get(id);
  const run = job?.result?.run ?? runs.find((each) => each.job === id)?.name;
  useEffect(() => {
    if (!run) return;
    emptied(id);
    location.replace(`#/train?run=${encodeURIComponent(run)}`); // the way back does not lead here again
  }, [run]);
  if (!job && !connected.value) return html`<${Spinner} label="Loading" />`;
  if (!job) return html`<${Empty} icon="train" title="This is long over"><p>Its run is in the list of runs, if it came to one.</p><//>`;
  if (isOver(job)) {
    return html`<section class="surface block"><h1>Training did not start</h1>
      ${job.state === "failed" ? html`<${Fault} error=${job.error} />`
        : html`<p role="status">Cancelled before it began.</p>`}
      <div><${Button} icon="left" onClick=${() => go("#/train")}>Back to the form<//></div>
    </section>`;
  }
  return html`<section class="surface block"><h1>Training starts</h1>
    <p class="hint">The data is read and the network is built.</p>
    <${Progress} job=${job} />
    <div><${Button} icon="close" onClick=${() => cancel(job)}>Cancel<//></div>
  </section>`;
}
