/** Which pictures to learn from: a built-in set, an earlier upload, or a folder; and what is in them. */

import {get, submit} from "../../api.js";
import {complain, info, jobs, waitFor} from "../../state.js";
import {useDrop} from "../../ui/drop.js";
import {html, useEffect, useRef, useState} from "../../ui/html.js";
import {Button, Fault, Icon, Progress} from "../../ui/parts.js";
import {chosen, dropped, send} from "./upload.js";

/** @typedef {{id: string, name: string}} Choice */

const ABOUT = {
  digits: "1,797 handwritten digits, 8×8, ten classes",
  emoji: "1,902 pictures with captions, up to 64×64",
  "fashion-mnist": "70,000 pieces of clothing, 28×28, ten classes",
};

const counted = (number, one, many) => `${number.toLocaleString("en-US")} ${number === 1 ? one : many}`;

/** "28 pictures, 29 captions and lists" @param {{count: number, pictures: number}} dataset */
const holds = ({count, pictures}) => [counted(pictures, "picture", "pictures"),
  count > pictures && counted(count - pictures, "caption or list", "captions and lists")].filter(Boolean).join(", ");

/** @param {{value: Choice|null, onChange: (choice: Choice|null) => void}} props */
export function DataChoice({value, onChange}) {
  const [uploads, setUploads] = useState([]);
  useEffect(() => {
    get("/api/datasets").then(({datasets}) => setUploads(datasets.filter((each) => each.count)), () => {});
  }, [value?.id]);
  const card = (id, title, text) => html`<button type="button" key=${id} class="choice" data-source=${id}
    aria-pressed=${value?.id === id} onClick=${() => onChange({id, name: title})}>
    <strong>${title}</strong><span>${text}</span>
  </button>`;
  const builtin = info.value?.data ?? [];
  return html`<div class="choices small" role="group" aria-label="Data sets">
      ${builtin.map((name) => card(name, name, ABOUT[name] ?? (name.startsWith("points:") ? "points in the plane" : "built in")))}
      ${uploads.map((each) => card(each.id, each.name, holds(each)))}
    </div>
    <${FolderDrop} onReady=${onChange} />`;
}

/** @param {{onReady: (choice: Choice) => void}} props */
function FolderDrop({onReady}) {
  const [sending, setSending] = useState(null);
  const {over, on} = useDrop(async ({items}) => take(await dropped(items)));
  const [problem, setProblem] = useState(null);
  const stop = useRef(null);

  const take = async ({name, entries}) => {
    if (!entries.length) return setProblem({message: "There is no picture in it", hint: "PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are read"});
    setProblem(null);
    stop.current = new AbortController();
    setSending({name, done: 0, count: entries.length});
    try {
      const {signal} = stop.current;
      const data = await send(name, entries, (done) => setSending({name, done, count: entries.length}), signal);
      if (signal.aborted) return undefined;
      if (data.failed.length) setProblem({message: `${data.failed.length} files were not accepted`, hint: data.failed.slice(0, 3).join(", ")});
      if (data.failed.length < entries.length) onReady({id: data.id, name});
    } catch (error) {
      complain(error);
    } finally {
      setSending(null);
    }
    return undefined;
  };
  if (sending) {
    return html`<div class="folder-drop">
      <label for="upload-progress">Uploading ${sending.name}: ${sending.done} of ${sending.count} files</label>
      <progress id="upload-progress" max=${sending.count} value=${sending.done}></progress>
      <${Button} onClick=${() => stop.current.abort()}>Stop<//>
    </div>`;
  }
  return html`<div class=${`folder-drop ${over ? "over" : ""}`} ...${on}>
    <${Icon} name="upload" size=${22} />
    <div><strong>Drop a folder of your pictures</strong>
      <span>Sub-folders become classes. Captions are read from name.txt beside name.png, or from captions.jsonl.</span></div>
    <label class="file-button">Choose a folder
      <input type="file" webkitdirectory multiple aria-label="Choose a folder of pictures"
        onChange=${(event) => take(chosen(event.target.files))} /></label>
    <${Fault} error=${problem} />
  </div>`;
}

/** What is in the data, and what is wrong with it. @param {{source: string}} props */
export function DataReport({source}) {
  const [job, setJob] = useState(null);
  useEffect(() => {
    let open = true;
    setJob(null);
    submit({kind: "data", settings: {source}}).then(async (asked) => {
      if (open) setJob(asked);
      const ended = await waitFor(asked.id);
      if (open) setJob(ended);
    }, (error) => open && setJob({state: "failed", error}));
    return () => (open = false);
  }, [source]);
  const live = jobs.value.get(job?.id) ?? job;
  if (!live) return html`<p role="status">Looking at the data…</p>`;
  if (live.error) return html`<${Fault} error=${live.error} />`;
  if (live.state !== "done") return html`<div role="status"><span>Looking at the data…</span><${Progress} job=${live} /></div>`;
  return html`<${Report} ...${live.result} />`;
}

/** @typedef {{path: string, code: string, detail: string}} Unread  a file that could not be read */

/** @param {{report: object, problems: Unread[], sheet: string|null}} props */
function Report({report, problems: unread = [], sheet}) {
  const {count, heldout, shape, classes = [], class_counts: counts = [], told, warnings = [], notes = []} = report;
  const problems = [...unread.map(({path, detail}) => `${path}: ${detail}`), ...warnings];
  const most = Math.max(...counts, 1);
  const facts = [
    ["To learn from", count.toLocaleString("en-US")],
    ["Kept aside to check", heldout.toLocaleString("en-US")],
    report.kind === "image" && ["Size", `${shape[2]} × ${shape[1]}, ${shape[0] === 1 ? "grey" : "colour"}`],
    told && ["Captions", "yes: it will read prompts"],
    classes.length > 0 && ["Classes", classes.length],
  ].filter(Boolean);
  return html`<div class="data-report" aria-label="Data report">
    ${sheet && html`<img class="pixels data-sheet" src=${sheet} alt="Some of the pictures" />`}
    <div>
      <dl class="facts">${facts.map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd>${text}</dd></div>`)}</dl>
      ${classes.length > 0 && html`<ul class="class-bars" aria-label="Pictures per class">${classes.slice(0, 20).map((name, k) =>
        html`<li key=${name}><span>${name}</span><meter min="0" max=${most} value=${counts[k]} aria-label=${name} /><span>${counts[k]}</span></li>`)}</ul>`}
      ${classes.length > 20 && html`<p class="hint">and ${classes.length - 20} more classes</p>`}
      ${problems.length ? html`<ul class="problems" aria-label="Problems">${problems.map((text) =>
        html`<li key=${text}><${Icon} name="warning" size=${16} /><span>${text}</span></li>`)}</ul>`
        : html`<p class="fine"><${Icon} name="check" size=${16} /> No problems found.</p>`}
      ${notes.map((note) => html`<p key=${note} class="hint">${note}</p>`)}
    </div>
  </div>`;
}
