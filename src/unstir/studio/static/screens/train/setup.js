/** A new model: the data, how long, its name. */

import {draft, go, info} from "../../state.js";
import {SchemaForm, errorsOf, flatten} from "../../ui/form.js";
import {html} from "../../ui/html.js";
import {Away, Button, Fault, Icon} from "../../ui/parts.js";
import {useSchema} from "../../ui/schema.js";
import {useSubmit} from "../../ui/submit.js";
import {DataChoice, DataReport} from "./data.js";

const SMALL = "cpu-small";
/** `every`: steps between two looks at samples and at the held-out loss, so that something is seen of short runs as well. */
const PRESETS = [
  {id: "quick", title: "Quick look", time: 120, every: 100, small: true, about: "2 minutes", text: "A small network: enough to see whether it works."},
  {id: "small", title: "Small", time: 900, every: 250, small: true, about: "15 minutes", text: "A small network that has seen the data often."},
  {id: "thorough", title: "Thorough", time: 3600, every: 500, about: "60 minutes", text: "A network whose size suits the data. The best pictures."},
];
const NOTHING = {data: null, preset: "quick", name: "", advanced: {}};

/** `job` is what was made of it, as long as nothing is changed. */
/** @typedef {{data: {id: string, name: string}|null, preset: string, name: string, advanced: object, job?: string}} Form */
const formOf = () => draft("train", NOTHING);

/** The form begins anew once its job has become a run; until then it may be needed again. @param {string} job */
export function emptied(job) {
  const form = formOf();
  if (form.value.job === job) form.value = {...NOTHING, preset: form.value.preset};
}

/** The settings of the job, by their full names. @param {Form} form */
function settingsOf({data, preset, name, advanced}) {
  const {time, every, small} = PRESETS.find((each) => each.id === preset);
  const own = flatten(advanced);
  const length = own["training.steps"] || own["training.time"] ? {} : {"training.time": time};
  const network = small && !own.network && info.value?.presets.includes(SMALL) ? {preset: SMALL} : {};
  const looks = {"training.preview_every": every, "training.heldout_every": every};
  return {data: data.id, ...(name ? {name} : {}), ...network, ...length, ...looks, ...own};
}

export function Setup() {
  const form = formOf();
  const schema = useSchema("train");
  const {send, busy, error, forgive} = useSubmit();
  const {data, preset, name, advanced} = form.value;
  const set = (change) => {
    forgive();
    form.value = {...form.value, ...change, job: undefined};
  };
  const typed = ({target}) => {
    target.setCustomValidity(""); // a message that stays makes the field wrong for good
    set({name: target.value});
  };
  const start = async (event) => {
    event.preventDefault();
    const job = await send(() => ({kind: "train", settings: settingsOf(form.value)}));
    if (!job) return;
    form.value = {...form.value, job: job.id};
    go(`#/train?job=${job.id}`);
  };
  return html`<form class="setup" onSubmit=${start} aria-label="Train a model">
    <section class="surface block"><h2><span class="number-of-step">1</span> What should it learn?</h2>
      <${DataChoice} value=${data} onChange=${(choice) => set({data: choice})} />
      ${data && html`<h3>${data.name}</h3><${DataReport} source=${data.id} />`}
    </section>
    <section class="surface block"><h2><span class="number-of-step">2</span> How long may it take?</h2>
      <div class="choices" role="radiogroup" aria-label="How long">
        ${PRESETS.map((each) => html`<label key=${each.id} class="choice">
          <input type="radio" class="sr-only" name="preset" value=${each.id} checked=${each.id === preset}
            onChange=${() => set({preset: each.id})} />
          <strong>${each.title}</strong><span class="about">${each.about}</span><span>${each.text}</span>
        </label>`)}
      </div>
      <details class="drawer"><summary><${Icon} name="sliders" size=${16} />Advanced</summary>
        ${schema && html`<${SchemaForm} schema=${schema} value=${advanced} errors=${errorsOf(error)}
          onChange=${(value) => set({advanced: value})} />`}
      </details>
    </section>
    <section class="surface block"><h2><span class="number-of-step">3</span> Its name</h2>
      <div class="start-row">
        <input id="run-name" type="text" value=${name} placeholder=${data?.name.replaceAll(":", "-") ?? "my-model"} maxlength="64"
          pattern="[A-Za-z0-9][A-Za-z0-9._\\-]*" title="Letters, digits, dots, - and _" aria-label="Name of the model"
          autocomplete="off" spellcheck=${false} onInput=${typed}
          onInvalid=${({target}) => target.setCustomValidity("letters, digits, dots, - and _, the first a letter or digit")} />
        <${Button} kind="primary" icon="train" type="submit" busy=${busy} disabled=${!data}>Start training<//>
      </div>
      ${!data && html`<p class="hint">Choose what it should learn first.</p>`}
      <${Fault} error=${error} />
      <${Away} asking=${busy} />
    </section>
  </form>`;
}
