/** All runs there are. */

import {get} from "../../api.js";
import {complain, connections, jobs} from "../../state.js";
import {number} from "../../ui/chart.js";
import {html, useEffect, useState} from "../../ui/html.js";

/** @param {{state: string}} props */
export const State = ({state}) => html`<span class=${`badge ${state}`}>${state}</span>`;

/** The runs, asked for again when a job of training begins, makes its first step or ends, and when another is looked at. */
export function useRuns(current) {
  const [runs, setRuns] = useState(null);
  const training = [...jobs.value.values()].filter((job) => job.kind === "train").map((job) => job.id + job.state + (job.progress?.step > 0)).join();
  useEffect(() => {
    get("/api/runs").then(({runs: all}) => setRuns(all), complain);
  }, [training, connections.value, current]);
  return runs;
}

/** @param {{runs: object[], current: string|null}} props */
export function RunList({runs, current}) {
  return html`<ul class="run-list" aria-label="Runs">${runs.map((run) => html`<li key=${run.name}>
    <a href=${`#/train?run=${encodeURIComponent(run.name)}`} data-run=${run.name}
      aria-current=${run.name === current ? "page" : undefined}>
      <strong>${run.name}</strong><${State} state=${run.state} />
      <small>${[run.data, `${(jobs.value.get(run.job)?.progress?.step ?? run.step).toLocaleString("en-US")} steps`,
        typeof run.heldout_loss === "number" && `held out ${number(run.heldout_loss)}`].filter(Boolean).join(" · ")}</small>
    </a>
  </li>`)}</ul>`;
}
