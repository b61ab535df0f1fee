/** Jobs that wait and run: how far they are, when they end, and how to stop them. */

import {html} from "./html.js";
import {post} from "../api.js";
import {complain, keepJob, openJobs} from "../state.js";
import {captionOf} from "./card.js";
import {Button, Progress} from "./parts.js";

const WORDS = {sample: "Generate", edit: "Edit", upscale: "Upscale", restore: "Restore", plot: "Plot",
  train: "Train", evaluate: "Evaluate", data: "Look at data"};

/** "Generate red fox" */
export const titleOf = (job) => {
  const settings = job.kind === "plot" ? job.settings.base ?? {} : job.settings;
  const what = job.kind === "train" || job.kind === "data" ? settings.data ?? settings.source ?? ""
    : captionOf({settings, model: job.model});
  return `${WORDS[job.kind] ?? job.kind} ${what}`;
};

export const cancel = (job) => post(`/api/jobs/${job.id}/cancel`).then(keepJob, complain);

export function Queue() {
  const open = openJobs.value;
  if (open.length === 0) return null;
  return html`<section class="queue" aria-label="Queue" data-testid="queue"><h2>Queue <span class="count">
    ${open.length}</span></h2>
    <ul>${open.map((job) => html`<li key=${job.id} data-testid="queue-job" data-job=${job.id}
      class=${job.state}>
      <span class="queue-title">${titleOf(job)}<small>${job.model}</small></span>
      <${Progress} job=${job} />
      <${Button} icon="close" kind="quiet" label=${`Cancel ${titleOf(job)}`}
        onClick=${() => cancel(job)} /></li>`)}</ul></section>`;
}
