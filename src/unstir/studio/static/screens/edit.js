/** Edit: paint a part of a picture anew, change all of it, extend, restore or enlarge it. */

import {upload} from "../api.js";
import {draft, isOver, jobs, models, route} from "../state.js";
import {randomSeed} from "../ui/actions.js";
import {useDrop} from "../ui/drop.js";
import {html, useEffect, useRef, useState} from "../ui/html.js";
import {Fault, Spinner} from "../ui/parts.js";
import {useSubmit} from "../ui/submit.js";
import {wrongNumber} from "../ui/whole.js";
import {EditCanvas} from "./edit/canvas.js";
import {able, FORM, jobOf, MODES} from "./edit/modes.js";
import {Panel} from "./edit/panel.js";
import {Result} from "./edit/result.js";
import {ChoosePicture, keepMask, open, useSource} from "./edit/source.js";
import {Toolbar} from "./edit/toolbar.js";

/** Where this screen was left, and what was asked of each picture: who comes back finds it again. */
let left = null;
const asked = new Map();

export default function Edit() {
  const {query} = route.value;
  const [item, file] = [query.get("item"), query.get("file")];
  const {source, error} = useSource(item, file);
  useEffect(() => {
    if (error) left = null;
    else if (item || file) left = `#/edit?${query}`;
    else if (left) location.replace(left);
  }, [item, file, error]);
  if (error) return html`<${ChoosePicture} /><div class="centred"><${Fault} error=${error} /></div>`;
  if (!item && !file) return html`<${ChoosePicture} />`;
  if (!source) return html`<div class="loading"><${Spinner} label="Loading" /></div>`;
  return html`<${Editor} key=${source.id} source=${source} />`;
}

/** A job about the picture that is not over: a reload finds it again. */
const underWay = (id) => [...jobs.value.values()].find((job) => job.inputs?.image === id && !isOver(job))?.id ?? null;

/** @param {{source: import("./edit/source.js").Source}} props */
function Editor({source}) {
  const form = draft("edit", FORM);
  const {mask, picture, item} = source;
  const [version, setVersion] = useState(0);
  const [brush, setBrush] = useState({tool: "brush", size: Math.max(1, Math.round(Math.max(picture.width, picture.height) / 8))});
  const [jobId, setJob] = useState(asked.get(source.id) ?? null);
  const {send, busy, error, forgive} = useSubmit();
  const controls = useRef(null);
  const {over, on} = useDrop(({files}) => open(files[0]));

  const mode = MODES.find((each) => each.id === form.value.mode) ?? MODES[0];
  const fitting = models.value.filter(able(mode));
  const model = fitting.find((each) => each.name === (form.value.model ?? item?.model)) ?? fitting[0] ?? null;
  const lacks = model ? wrongNumber(form.value) ?? mode.lacks({form: form.value, mask})
    : "No model can do this yet: train one.";
  const followed = jobs.value.get(jobId);
  const job = followed?.state === "cancelled" ? null : followed; // the picture is there again
  const follow = (id) => {
    asked.set(source.id, id);
    setJob(id);
  };

  useEffect(() => {
    if (item?.prompt && !form.value.prompt) form.value = {...form.value, prompt: item.prompt};
  }, [item]);
  useEffect(() => {
    if (!job) follow(underWay(source.id));
  }, [jobs.value]);
  const change = (fields) => {
    forgive();
    form.value = {...form.value, ...fields};
  };
  const painted = () => {
    setVersion((before) => before + 1);
    keepMask(source);
  };
  const start = async () => {
    if (lacks) return;
    const handed = await send(async () => {
      if (!form.value.locked) form.value = {...form.value, seed: randomSeed()};
      const inputs = {image: source.id};
      if (mode.id === "inpaint") inputs.mask = (await upload(await mask.toPng(), "mask.png")).id;
      return {...jobOf(form.value, mode, model, inputs), parent: item?.id ?? null, board: item?.board ?? null};
    });
    if (handed) follow(handed.id);
  };
  const paints = mode.id === "inpaint" ? mask : null;
  return html`<div class="edit">
    <div class=${`edit-stage ${over ? "over" : ""}`} ...${on}>
      ${job ? html`<${Result} key=${job.id} job=${job} source=${source} onClose=${() => follow(null)} />` : html`
        <${Toolbar} mask=${paints} brush=${brush} onBrush=${setBrush} onMask=${painted} controls=${controls}
          largest=${Math.max(8, Math.round(Math.max(picture.width, picture.height) / 2))} />
        <${EditCanvas} picture=${picture} mask=${paints} version=${version} onPaint=${painted} brush=${brush}
          sides=${mode.id === "outpaint" ? form.value.outpaint : null} controls=${controls} />
        <p class="edit-foot"><span>${picture.width} × ${picture.height}</span>
          <span>${paints && !mask.empty ? `${Math.max(1, Math.round(100 * mask.share))}% painted` : ""}</span>
          <label class="link">Another picture<input type="file" class="sr-only" accept="image/*" aria-label="Choose another picture"
            onChange=${(event) => open(event.target.files[0])} /></label></p>`}
    </div>
    <${Panel} form=${form.value} onChange=${change} mode=${mode} model=${model} picture=${picture} lacks=${lacks}
      error=${error} onGo=${start} asking=${busy} busy=${busy || Boolean(job && !isOver(job))} />
  </div>`;
}
