/** What is to be done to the picture: the mode, the model, words, numbers. */

import {Field, SchemaForm, errorsOf} from "../../ui/form.js";
import {html} from "../../ui/html.js";
import {Away, Button, Fault, Icon, ModelPicker, Tabs} from "../../ui/parts.js";
import {LabelSelect} from "../../ui/prompt.js";
import {useSchema} from "../../ui/schema.js";
import {Count, Seed} from "../../ui/whole.js";
import {able, MODES, OWN} from "./modes.js";
import {OWN_FIELDS} from "./own.js";

/** @typedef {import("./modes.js").Form} Form */

/**
 * @param {object} props
 * @param {Form} props.form
 * @param {(change: Partial<Form>) => void} props.onChange
 * @param {import("./modes.js").Mode} props.mode
 * @param {object|null} props.model
 * @param {{width: number, height: number}} props.picture
 * @param {string} props.lacks what is still to be done
 * @param {boolean} props.asking the job is being handed in
 * @param {boolean} props.busy
 * @param {Error|null} props.error what the server said
 * @param {() => void} props.onGo
 */
export function Panel({form, onChange, mode, model, picture, lacks, asking, busy, error, onGo}) {
  const go = (event) => {
    event.preventDefault();
    onGo();
  };
  const keys = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go(event);
  };
  return html`<form class="panel" aria-label="What to do" onSubmit=${go} onKeyDown=${keys}>
    <div class="panel-scroll">
      <${Tabs} label="Mode" value=${mode.id} tabs=${MODES} onChange=${(id) => onChange({mode: id})} />
      <${ModelPicker} value=${model?.name ?? null} filter=${able(mode)} onChange=${(name) => onChange({model: name})} />
      <${Settings} key=${mode.kind} form=${form} onChange=${onChange} mode=${mode} model=${model} errors=${errorsOf(error)} />
    </div>
    <div class="panel-foot">
      <${Fault} error=${error} />
      ${model && html`<${Outcome} form=${form} mode=${mode} model=${model} picture=${picture} />`}
      <${Away} asking=${asking} />
      ${lacks && html`<p class="blocked" role="status">${lacks}</p>`}
      <${Button} kind="primary" icon=${mode.icon} type="submit" busy=${busy} disabled=${Boolean(lacks)} title="Ctrl+Enter"
        data-testid="edit-go">${mode.verb}<//>
    </div>
  </form>`;
}

/** A picture of so many times the pixels of the model is done in one go, or nearly. */
const AT_ONCE = 4;
/** Neighbouring windows share half of their width and height. */
const OVERLAP = 4;

/** How large the picture will be, and whether it takes long. */
function Outcome({form, mode, model, picture}) {
  const [width, height] = mode.becomes?.(form, picture, model) ?? [picture.width, picture.height];
  const times = (width * height) / (model.size[0] * model.size[1]);
  const grows = width * height > picture.width * picture.height;
  return html`
    ${grows && html`<p class="blocked">${picture.width} × ${picture.height} becomes ${width} × ${height}</p>`}
    ${times > AT_ONCE && html`<p class="blocked" role="status">The model makes ${model.size[1]} × ${model.size[0]} at a
      time: this is done in about ${Math.ceil(times * OVERLAP).toLocaleString("en-US")} windows and may take long.</p>`}`;
}

function Settings({form, onChange, mode, model, errors}) {
  const schema = useSchema(mode.kind);
  const advanced = form.advanced[mode.kind] ?? {};
  const part = form[mode.id];
  const typed = (name) => (event) => onChange({[name]: event.target.value});
  return html`
    ${model?.prompt && html`
      <${Field} label="Prompt" error=${errors.prompt}>${(ids) => html`<textarea ...${ids} rows="2" value=${form.prompt} data-testid="edit-prompt"
        placeholder="what is to be there" onInput=${typed("prompt")} />`}<//>
      <${Field} label="Negative" error=${errors.negative}>${(ids) => html`<input ...${ids} type="text" value=${form.negative}
        placeholder="what is not to be seen" onInput=${typed("negative")} />`}<//>`}
    <${LabelSelect} model=${model} value=${form.label} onChange=${(label) => onChange({label})} />
    ${OWN_FIELDS[mode.id]({part, set: (change) => onChange({[mode.id]: {...part, ...change}}), errors, schema, model})}
    <div class="pair">
      <${Count} value=${form.n} onChange=${(n) => onChange({n})} error=${errors.n} />
      <${Seed} value=${form.seed} locked=${form.locked} set=${onChange} error=${errors.seed} />
    </div>
    <details class="drawer"><summary><${Icon} name="sliders" size=${16} />Advanced</summary>
      ${schema && html`<${SchemaForm} schema=${schema} value=${advanced} hide=${OWN} defaults=${model?.defaults} errors=${errors}
        onChange=${(value) => onChange({advanced: {...form.advanced, [mode.kind]: value}})} />`}
    </details>`;
}
