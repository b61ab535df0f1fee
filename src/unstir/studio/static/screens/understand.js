/** Understand: what introductions show as still figures, alive. Every number is computed by the server. */

import {upload} from "../api.js";
import {complain, connected, draft, models, route} from "../state.js";
import {errorsOf} from "../ui/form.js";
import {html, useEffect, useRef} from "../ui/html.js";
import {Button, Fault, ModelPicker, Spinner} from "../ui/parts.js";
import {Controls} from "./understand/controls.js";
import {useSchema} from "../ui/schema.js";
import {Explanation} from "./understand/explanation.js";
import {useExplanation} from "./understand/request.js";
import {SUBJECTS} from "./understand/subjects.js";

const canGenerate = (model) => model.task === "generate";
const NOTHING = {model: null, settings: {}, image: null, name: null};

export default function Understand() {
  const schemas = useSchema("explain");
  const what = route.value.query.get("what");
  const subject = SUBJECTS.find((each) => each.what === what) ?? SUBJECTS[0];
  const list = useRef(null);
  useEffect(() => {
    // `scrollIntoView` would make the next Tab begin from here
    const {offsetLeft, offsetWidth} = list.current.querySelector("[aria-current]");
    list.current.scrollLeft = offsetLeft - list.current.offsetLeft - (list.current.clientWidth - offsetWidth) / 2;
  }, [subject]);
  return html`<div class="understand">
    <nav class="subjects" aria-label="Subjects" ref=${list}>
      ${SUBJECTS.map((each) => html`<a href=${`#/understand?what=${each.what}`} id=${`subject-${each.what}`}
        aria-current=${each === subject ? "page" : undefined}>
        <strong>${each.question}</strong><span>${each.hint}</span>
      </a>`)}
    </nav>
    ${!schemas && html`<${Spinner} label="Loading" />`}
    ${schemas?.[subject.what] && html`<${Lesson} key=${subject.what} subject=${subject} schema=${schemas[subject.what]} />`}
  </div>`;
}

/** Settings that say nothing to a model: it reads words, or knows classes, or neither. */
function hidden(model) {
  if (model?.prompt) return ["label", "right", "down"];
  return model?.classes?.length ? ["prompt"] : ["prompt", "label"];
}

/** @param {{subject: import("./understand/subjects.js").Subject, schema: object}} props */
function Lesson({subject, schema}) {
  const form = draft(`understand-${subject.what}`, NOTHING);
  const {model: chosen, settings, image, name} = form.value;
  const set = (change) => (form.value = {...form.value, ...change});
  const able = models.value.filter(canGenerate);
  const model = subject.model ? able.find((each) => each.name === chosen) ?? able[0] ?? null : null;
  const request = subject.model && !connected.value ? null : {what: subject.what, model: model?.name ?? null, settings, image};
  const {explanation, busy, error} = useExplanation(request);
  const shown = (field) => !hidden(model).includes(field);
  return html`
    <section class="lesson-settings surface" aria-label="Settings">
      ${subject.model && html`<${ModelPicker} value=${model?.name ?? null} filter=${canGenerate}
        onChange=${(to) => set({model: to, settings: {}})} />`}
      ${subject.picture && html`<${OwnPicture} image=${image} name=${name} onChange=${set} />`}
      <${Controls} schema=${schema} value=${settings} usual=${model?.defaults} errors=${errorsOf(error)} shown=${shown}
        onChange=${(value) => set({settings: value})} />
      <${Button} icon="restore" kind="quiet" onClick=${() => set({settings: {}})} disabled=${!Object.keys(settings).length}>Reset<//>
    </section>
    <section class=${`lesson ${busy ? "busy" : ""}`} aria-label="Explanation" aria-busy=${busy}>
      <p class="sr-only" role="status">${busy ? "Computing" : explanation ? "Up to date" : ""}</p>
      <${Fault} error=${error} />
      ${explanation ? html`<${Explanation} explanation=${explanation} />` : !error && html`<div class="loading"><${Spinner} label="Computing" /></div>`}
    </section>`;
}

/** @param {{image: string|null, name: string|null, onChange: (change: object) => void}} props */
function OwnPicture({image, name, onChange}) {
  const take = async (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (!file) return;
    try {
      onChange({image: (await upload(file)).id, name: file.name});
    } catch (error) {
      complain(error);
    }
  };
  return html`<div class="own-picture">
    <label class="file-button">${image ? `Picture: ${name}` : "Use your own picture"}
      <input type="file" accept="image/*" aria-label="Your own picture" onChange=${take} /></label>
    ${image && html`<${Button} onClick=${() => onChange({image: null, name: null})}>Use the built-in one<//>`}
  </div>`;
}
