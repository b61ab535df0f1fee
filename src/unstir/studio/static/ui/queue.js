/** Jobs that wait and run: how far they are, when they end, and how to stop them. */

import {html} from "./html.js";
import {post} from "../api.js";
import {complain, keepJob, modelNamed, openJobs} from "../state.js";
import {saidOf} from "./card.js";
import {find} from "./form.js";
import {Button, Progress} from "./parts.js";

const WORDS = {sample: "Generate", edit: "Edit", upscale: "Upscale", restore: "Restore", plot: "Plot",
  evaluate: "Evaluate"};

const called = ({data_name: name, data, source}) => name ?? data ?? source;
/** What a job that makes no pictures is about. */
const ABOUT = {
  train: ({resume, name, ...settings}) => (resume ? `Resume ${resume}` : `Train ${name || called(settings)}`),
  data: (settings) => `Look at ${called(settings)}`,
  explain: ({what}) => `Explain ${what}`,
};

/** A job, or a picture, for which no words were given: "4 pictures by emoji", "Upscale with emoji" */
export function unsaid({kind, model}, n) {
  if (kind !== "sample") return `${WORDS[kind] ?? kind} with ${model}`;
  return n > 1 ? `${n} pictures by ${model}` : `A picture by ${model}`;
}

/** "Generate red fox", "Train my-run" */
export function titleOf(job) {
  const {kind, model, settings} = job;
  if (ABOUT[kind]) return ABOUT[kind](settings);
  const said = saidOf({model, settings: kind === "plot" ? settings.base ?? {} : settings});
  return said ? `${WORDS[kind] ?? kind} ${said}` : unsaid(job, find(settings, "n"));
}

/** End a job; one that trains leaves a checkpoint to go on from. */
export const cancel = (job) => post(`/api/jobs/${job.id}/cancel`).then(keepJob, complain);

export function Queue() {
  const open = openJobs.value;
  if (open.length === 0) return null;
  return html`<section class="queue" aria-label="Queue" data-testid="queue"><h2>Queue <span class="count">
    ${open.length}</span></h2>
    <ul>${open.map((job) => html`<li key=${job.id} data-testid="queue-job" data-job=${job.id}
      class=${job.state}>
      <span class="queue-title">${titleOf(job)}<small>${modelNamed(job.model)?.title ?? job.model}</small></span>
      <${Progress} job=${job} />
      <${Button} icon="close" kind="quiet" label=${`Cancel ${titleOf(job)}`}
        onClick=${() => cancel(job)} /></li>`)}</ul></section>`;
}
