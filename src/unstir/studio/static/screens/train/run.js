/** A run, watched: its losses, its samples growing sharper; pause it, go on, try what came of it. */

import {get} from "../../api.js";
import {connections, go, isOver, jobs, models} from "../../state.js";
import {Chart, number} from "../../ui/chart.js";
import {html, useEffect, useRef, useState} from "../../ui/html.js";
import {Button, Empty, Fault, Progress, Spinner, duration} from "../../ui/parts.js";
import {Player} from "../../ui/player.js";
import {cancel} from "../../ui/queue.js";
import {once, useSubmit} from "../../ui/submit.js";
import {levelCurves, lossCurves, speed} from "./curves.js";
import {State} from "./list.js";

const EVERY = 2000; // ms between two looks at the log

/** The job of a run, the one that it names or one that goes on with it: what runs, or waits, or else was the last. */
function useJob(name, run) {
  const named = useRef(null); // a run whose job has ended names none
  named.current = run?.job ?? named.current;
  return [...jobs.value.values()]
    .filter(({id, kind, settings}) => kind === "train" && (id === named.current || settings.resume === name))
    .sort((a, b) => isOver(a) - isOver(b) || (b.state === "running") - (a.state === "running") || b.created - a.created)[0] ?? null;
}

/** The run and all of its log so far, kept up to date while it trains. @param {string} name */
function useRun(name) {
  const [run, setRun] = useState(null);
  const [rows, setRows] = useState([]);
  const [error, setError] = useState(null);
  const again = useRef(null);
  const job = useJob(name, run);
  const running = run?.state === "running" && error?.status !== 404;

  useEffect(() => {
    const path = `/api/runs/${encodeURIComponent(name)}`;
    let open = true;
    let [busy, missed] = [false, false]; // two looks at once would read the same lines twice
    let known = 0;
    const look = async () => {
      missed = busy;
      if (busy) return;
      busy = true;
      try {
        setRun(await get(path));
        for (let more = true; more && open; ) { // a long log comes in parts
          const log = await get(`${path}/metrics?after=${known}`);
          more = log.rows.length > 0 && log.next > known;
          known = log.next;
          if (open && log.rows.length) setRows((before) => [...before, ...log.rows]);
        }
        setError(null);
      } catch (problem) {
        setError(problem);
      }
      busy = false;
      if (missed && open) look();
    };
    again.current = look;
    look();
    return () => (open = false);
  }, [name]);
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => again.current(), EVERY);
    return () => clearInterval(timer);
  }, [running]);
  useEffect(() => void again.current(), [job?.id, job?.state, connections.value]);
  return {run, rows, error, job, look: () => again.current()};
}

/** Settings that let a run go on for as long again. */
const twice = ({time, steps}) => (time ? {"training.time": 2 * time} : {"training.steps": 2 * steps});

/** @param {{name: string}} props */
export function Run({name}) {
  const {run, rows, error, job, look} = useRun(name);
  const {send, busy, error: refused} = useSubmit();
  if (error?.status === 404) return html`<${Gone} name=${name} />`;
  if (error && !run) return html`<${Fault} error=${error} />`;
  if (!run) return html`<${Spinner} label="Loading" />`;
  const open = job && !isOver(job);
  const waits = job?.state === "queued";
  const resume = (settings) => once(async () => {
    const asked = await send(() => ({kind: "train", settings: {resume: name, ...settings}}));
    if (!asked) look();
  });
  const model = models.value.some((each) => each.name === name);
  return html`<div class="run" aria-label=${`Run ${name}`}>
    <header class="run-head">
      <div><h1>${name}</h1><small>trained on ${run.data}</small></div>
      <${State} state=${open ? job.state : run.state} />
      <div class="run-actions">
        ${run.report && html`<a class="button plain" href=${run.report} target="_blank" rel="noopener">Report</a>`}
        ${waits ? html`<${Button} icon="close" onClick=${() => cancel(job)}>Cancel<//>`
          : open ? html`<${Button} icon="pause" onClick=${() => cancel(job)}>Pause<//>`
          : run.state === "done" ? html`<${Button} icon="plus" title="Go on for as long again" busy=${busy} onClick=${resume(twice(run))}>Train longer<//>`
          : run.state !== "running" && html`<${Button} icon="play" busy=${busy} onClick=${resume({})}>Resume<//>`}
        <${Button} kind="primary" icon="generate" disabled=${!model && !run.samples.length}
          onClick=${() => go(`#/generate?model=${encodeURIComponent(name)}`)}>Try it<//>
      </div>
    </header>
    ${open && html`<${Progress} job=${job} />`}
    <${Fault} error=${refused ?? (job?.state === "failed" ? job.error : null)} />
    <${Facts} run=${run} rows=${rows} />
    <div class="run-figures">
      <section class="surface block"><h2>Samples</h2><${Samples} run=${run} /></section>
      <${Losses} rows=${rows} />
      <section class="surface block"><h2>Held-out loss per noise level</h2><${Levels} rows=${rows} /></section>
    </div>
  </div>`;
}

/** @param {{name: string}} props */
const Gone = ({name}) => html`<${Empty} icon="train" title="This run is gone">
  <p role="alert">There is no run ${name}: its folder was moved, renamed or deleted.</p>
  <${Button} icon="left" onClick=${() => go("#/train")}>To the runs<//><//>`;

/** @param {{run: object, rows: import("./curves.js").Row[]}} props */
function Facts({run, rows}) {
  const facts = {
    Step: run.steps ? `${run.step.toLocaleString("en-US")} of ${run.steps.toLocaleString("en-US")}` : run.step.toLocaleString("en-US"),
    "Trained for": run.seconds && duration(run.seconds),
    Speed: speed(rows) && `${number(Math.round(speed(rows)))} samples/s`,
    Loss: typeof run.loss === "number" && number(run.loss),
    "Held out": typeof run.heldout_loss === "number" && number(run.heldout_loss),
  };
  return html`<dl class="facts wide">${Object.entries(facts).filter(([, value]) => value).map(([name, value]) =>
    html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** The same seeds at every preview: the slider goes through the steps. */
function Samples({run}) {
  const {samples, name} = run;
  const first = run.settings?.training?.preview_every;
  if (!samples.length) return html`<p class="hint">The first samples are drawn ${first ? `after step ${first}` : "before long"}.</p>`;
  return html`<${Player} count=${samples.length} labels=${samples.map(({step}) => `step ${step.toLocaleString("en-US")}`)} fps=${3}
    label=${`Samples of ${name}`} follow>
    ${(k) => html`<img class="pixels" src=${samples[k].url} alt=${`Samples at step ${samples[k].step}`} />`}
  <//>`;
}

function Losses({rows}) {
  const [log, setLog] = useState(false);
  const curves = lossCurves(rows);
  return html`<section class="surface block">
    <div class="block-head"><h2>Loss</h2>
      <label class="check"><input type="checkbox" class="switch" checked=${log}
        onChange=${(event) => setLog(event.target.checked)} /> Logarithmic axis</label></div>
    ${curves.length ? html`<${Chart} x=${{label: "step"}} y=${{label: "loss", log}} curves=${curves} />`
      : html`<p class="hint">Nothing measured yet.</p>`}
  </section>`;
}

function Levels({rows}) {
  const curves = levelCurves(rows);
  if (!curves.length) return html`<p class="hint">Measured on pictures that training never sees, now and then.</p>`;
  return html`<${Chart} x=${{label: "time t"}} y=${{label: "loss"}} curves=${curves} />
    <small>Always the same pictures and noise: t = 0 is the picture, t = 1 is noise.</small>`;
}
