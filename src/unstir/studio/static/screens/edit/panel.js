/** What is to be done to the picture: the mode, the model, words, numbers. */

import {randomSeed} from "../../ui/actions.js";
import {Field, SchemaForm, errorsOf} from "../../ui/form.js";
import {html} from "../../ui/html.js";
import {Button, Icon, ModelPicker, Tabs} from "../../ui/parts.js";
import {LabelSelect} from "../../ui/prompt.js";
import {useSchema} from "../../ui/schema.js";
import {Trouble} from "../../ui/trouble.js";
import {able, MODES, OWN} from "./modes.js";
import {OWN_FIELDS} from "./own.js";

/** @typedef {import("./modes.js").Form} Form */

/**
 * @param {object} props
 * @param {Form} props.form
 * @param {(change: Partial<Form>) => void} props.onChange
 * @param {import("./modes.js").Mode} props.mode
 * @param {object|null} props.model
 * @param {string} props.lacks what is still to be done
 * @param {boolean} props.busy
 * @param {Error|null} props.error what the server said
 * @param {() => void} props.onGo
 */
export function Panel({form, onChange, mode, model, lacks, busy, error, onGo}) {
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
      <${Trouble} error=${error} />
      ${lacks && html`<p class="blocked" role="status">${lacks}</p>`}
      <${Button} kind="primary" icon=${mode.icon} type="submit" busy=${busy} disabled=${Boolean(lacks)} title="Ctrl+Enter"
        data-testid="edit-go">${mode.verb}<//>
    </div>
  </form>`;
}

/** The whole number in a field. */
const atLeast = (least, event) => Math.max(least, Math.round(Number(event.target.value)) || least);

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
    ${OWN_FIELDS[mode.id]({part, set: (change) => onChange({[mode.id]: {...part, ...change}}), errors, schema})}
    <div class="pair">
      <${Field} label="Pictures" error=${errors.n}>${(ids) => html`<input ...${ids} type="number" min="1" max="64" value=${form.n}
        onInput=${(event) => onChange({n: atLeast(1, event)})} />`}<//>
      <${Field} label="Seed" error=${errors.seed}>${(ids) => html`<div class="joined">
        <input ...${ids} type="text" inputmode="numeric" value=${form.seed}
          onInput=${(event) => onChange({seed: atLeast(0, event), locked: true})} />
        <${Button} icon=${form.locked ? "lock" : "unlock"} kind="quiet" label="Keep the seed" aria-pressed=${form.locked}
          onClick=${() => onChange({locked: !form.locked})} />
        <${Button} icon="dice" kind="quiet" label="Another seed" onClick=${() => onChange({seed: randomSeed()})} /></div>`}<//>
    </div>
    <details class="drawer"><summary><${Icon} name="sliders" size=${16} />Advanced</summary>
      ${schema && html`<${SchemaForm} schema=${schema} value=${advanced} hide=${OWN} defaults=${model?.defaults} errors=${errors}
        onChange=${(value) => onChange({advanced: {...form.advanced, [mode.kind]: value}})} />`}
    </details>`;
}
