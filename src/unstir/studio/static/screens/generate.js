/** Generate: a form on one side, what it made on the other, newest first. */

import {html, useEffect, useState} from "../ui/html.js";
import {modelNamed, models, route} from "../state.js";
import {randomSeed} from "../ui/actions.js";
import {errorsOf, Field, flatten, SchemaForm} from "../ui/form.js";
import {sizeFor} from "../ui/flags.js";
import {useLatest} from "../ui/latest.js";
import {Away, Button, Fault, Icon, ModelPicker} from "../ui/parts.js";
import {LabelSelect, PromptBox} from "../ui/prompt.js";
import {form, generates, OWN, set} from "../ui/recipe.js";
import {flagsOf, obstacle, requestOf} from "../ui/request.js";
import {Results} from "../ui/results.js";
import {useSchema} from "../ui/schema.js";
import {once, useSubmit} from "../ui/submit.js";
import {Count, Seed} from "../ui/whole.js";

const SHAPES = ["3:2", "2:3", "4:3", "3:4", "16:9", "9:16", "2:1", "1:2"];

function SizeField({model, value, onChange, flagged}) {
  const own = `${model.size[1]}x${model.size[0]}`;
  const shapes = SHAPES.map((shape) => [shape, sizeFor(shape.split(":").map(Number), model)])
    .filter(([, size], k, all) => size !== own && all.findIndex(([, other]) => other === size) === k);
  const known = value === null || shapes.some(([, size]) => size === value);
  const [custom, setCustom] = useState(false);
  const typed = custom || !known;
  const shown = (size) => size.replace("x", " × ");
  const choose = ({target: {value: chosen}}) => {
    setCustom(chosen === "custom");
    onChange(chosen === "custom" ? value ?? own : chosen || null);
  };
  return html`<${Field} label="Size" hint=${flagged && `--ar sets ${shown(flagged)}`}>${(ids) => html`
    <select ...${ids} data-testid="size" value=${typed ? "custom" : value ?? ""} onChange=${choose}>
      <option value="">${shown(own)}, as trained</option>
      ${shapes.map(([shape, size]) => html`<option key=${shape} value=${size}>${shape}, ${shown(size)}</option>`)}
      <option value="custom">Another size</option></select>
    ${typed && html`<input type="text" aria-label="Width x height" value=${value ?? own}
      onInput=${(event) => onChange(event.target.value.trim())} />`}`}<//>`;
}

function Start({start, strength}) {
  return html`<div class="start" data-testid="start"><img src=${start.url} alt="Picture to start from" />
    <${Field} label=${`Strength ${strength}`} hint="How much may change: 1 is all new">
      ${(ids) => html`<input ...${ids} type="range" min="0.05" max="1" step="0.05" value=${strength}
        data-testid="strength" onInput=${(event) => set({strength: Number(event.target.value)})} />`}<//>
    <${Button} icon="close" kind="quiet" label="Start from noise instead"
      onClick=${() => set({start: null, parent: null})} /></div>`;
}

/** What comes out is linked to the picture whose settings were restored. */
function Remix({parent}) {
  if (!parent) return null;
  return html`<div class="start remix" data-testid="remix"><img src=${parent.url} alt="" />
    <small>A remix of this picture</small>
    <${Button} icon="close" kind="quiet" label="No remix" onClick=${() => set({parent: null})} /></div>`;
}

/** The model of the form: the first there is, or the one that the address asks for. */
function useModel(name) {
  const first = models.value.find(generates);
  const wanted = route.value.query.get("model");
  useEffect(() => {
    if (name === null && first) set({model: first.name});
  }, [name, first]);
  useEffect(() => {
    if (!wanted) return;
    set({model: wanted, label: null, size: null, settings: {}});
    history.replaceState(null, "", "#/generate");
  }, [wanted]);
  return modelNamed(name);
}

/** Ctrl+Enter, wherever the cursor is. */
function useShortcut(run) {
  const latest = useLatest(run);
  useEffect(() => {
    const keys = (event) => {
      const pressed = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      if (!pressed || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      latest();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
}

export default function Generate() {
  const {model: name, prompt, negative, label, n, size, seed, locked, settings} = form.value;
  const {start, strength, parent} = form.value;
  const schema = useSchema("sample");
  const model = useModel(name);
  const {flags, set: flagged} = flagsOf(form.value, model);
  const blocked = obstacle(form.value, model, schema);
  const {send, busy, error} = useSubmit();
  const generate = async () => {
    if (blocked) return;
    const sent = await send(() => {
      if (!form.value.locked) set({seed: randomSeed()});
      return requestOf(form.value, model);
    });
    // on a phone the pictures lie below the form
    const narrow = matchMedia("(max-width: 820px)").matches;
    if (sent && narrow) document.querySelector(".results").scrollIntoView({behavior: "smooth"});
  };
  useShortcut(generate);
  const changed = Object.keys(flatten(settings)).length;
  const habit = locked ? "Kept: the same settings make the same pictures" : "A new one each time";

  return html`<div class="generate">
    <form class="panel" aria-label="Settings" onSubmit=${(event) => event.preventDefault()}>
      <div class="panel-scroll">
        <${ModelPicker} value=${name} filter=${generates}
          onChange=${(to) => set({model: to, label: null, size: null})} />
        ${model?.prompt && html`
          <${PromptBox} value=${prompt} flags=${flags} onChange=${(text) => set({prompt: text})} />
          <${Field} label="Negative" hint=${flagged.negative && `--no sets "${flagged.negative}"`}>
            ${(ids) => html`<input ...${ids} type="text" value=${negative} placeholder="what is not to be seen"
              data-testid="negative" onInput=${(event) => set({negative: event.target.value})} />`}<//>`}
        <${LabelSelect} model=${model} value=${label} onChange=${(to) => set({label: to})}
          none="as they come" />
        ${!model?.prompt && html`<${LabelSelect} model=${model} label="Unlike" value=${negative}
          onChange=${(to) => set({negative: to ?? ""})} none="none" />`}
        ${start ? html`<${Start} start=${start} strength=${strength} />`
          : html`<${Remix} parent=${parent} />`}
        <div class="pair"><${Count} value=${n} onChange=${(to) => set({n: to})}
            hint=${flagged.n && `--n sets ${flagged.n}`} />
          ${model?.kind === "image" && !start && html`<${SizeField} key=${name} model=${model} value=${size}
            onChange=${(to) => set({size: to})} flagged=${flagged.size} />`}</div>
        <${Seed} value=${seed} locked=${locked} set=${set}
          hint=${flagged.seed === undefined ? habit : `--seed sets ${flagged.seed}`} />
        <details class="drawer" data-testid="advanced"><summary><${Icon} name="sliders" size=${16} />Advanced
          ${changed > 0 && html`<span class="count" title="changed settings">${changed}</span>`}</summary>
          ${schema && html`<${SchemaForm} schema=${schema} value=${settings} hide=${OWN}
            errors=${errorsOf(error)} defaults=${model?.defaults}
            onChange=${(to) => set({settings: to})} />`}
          <${Button} icon="undo" kind="quiet"
            onClick=${() => set({settings: {}})}>All to the model's own<//></details>
      </div>
      <div class="panel-foot">
        <${Fault} error=${error} data-testid="generate-error" />
        <${Away} asking=${busy} />
        ${blocked && html`<p class="blocked" id="blocked">${blocked}</p>`}
        <${Button} icon="generate" kind="primary" busy=${busy} disabled=${Boolean(blocked)} title="Ctrl+Enter"
          data-testid="generate" aria-describedby=${blocked ? "blocked" : undefined}
          onClick=${once(generate)}>Generate <kbd aria-hidden="true">Ctrl ⏎</kbd><//>
      </div></form>
    <${Results} /></div>`;
}
