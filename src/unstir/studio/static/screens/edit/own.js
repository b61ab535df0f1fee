/** The settings of each mode: what is told with a slider rather than found in a drawer. */

import {Field, SchemaForm} from "../../ui/form.js";
import {html} from "../../ui/html.js";
import {Slider} from "../../ui/slider.js";
import {leadOf} from "../../ui/words.js";

/** What may have happened to a picture, in plain words, by the operator that stands for it. */
const SPOILED = {
  Blur: "Out of focus",
  MotionBlur: "Moved",
  Downsample: "Too few pixels",
  JPEG: "Squeezed by JPEG",
  Grayscale: "Without colour",
  Colour: "Colours mixed up",
  HDR: "Too bright and too dark",
  Clip: "Cut off",
  RandomPixels: "Most pixels lost",
  Crop: "Border cut off",
};

/** @typedef {{part: object, set: (change: object) => void, errors: Record<string, string>, schema: object|null, model: object|null}} Props */

/** By mode. @type {Record<string, (props: Props) => any>} */
export const OWN_FIELDS = {
  inpaint: ({part, set, errors}) => html`
    <${Strength} value=${part.strength} onChange=${(strength) => set({strength})} error=${errors.strength} />
    <${Amount} label="Feather" value=${part.feather ?? 0} min=${0} max=${32} step=${1} text=${part.feather ? `${part.feather} px` : "auto"}
      hint="Pixels over which a difference in colour at the border fades" error=${errors.feather}
      onChange=${(feather) => set({feather: feather || null})} />`,

  image: ({part, set, errors}) => html`<${Strength} value=${part.strength} onChange=${(strength) => set({strength})} error=${errors.strength} />`,

  outpaint: ({part, set, errors}) => html`<fieldset class="sides"><legend>Pixels to add</legend>
    ${["left", "right", "top", "bottom"].map((side) => html`<${Field} key=${side} label=${side}>${(ids) => html`
      <input ...${ids} type="number" min="0" max="512" value=${part[side]}
        onInput=${(event) => set({[side]: Math.max(0, Math.round(Number(event.target.value)))})} />`}<//>`)}
    ${errors.extend && html`<small class="error">${errors.extend}</small>`}
  </fieldset>`,

  restore: ({part, set, errors, schema}) => schema && html`<${Spoiled} schema=${schema} value=${part} onChange=${set} errors=${errors} />`,

  upscale: ({part, set, errors, model}) => html`<${Field} label="Scale" error=${errors.scale}>${(ids) => html`
    <select ...${ids} value=${part.scale ?? ""} onChange=${(event) => set({scale: Number(event.target.value) || null})}>
      <option value="">${trained(model) ? "as the model was trained" : "2 times"}</option>
      ${(trained(model) ? [2, 3, 4, 8] : [3, 4, 8]).map((scale) => html`<option key=${scale} value=${scale}>${scale} times</option>`)}
    </select>`}<//>`,
};

/** Whether a model was trained to make pictures larger by some factor. */
const trained = (model) => model?.task === "upscale";

const Strength = ({value, onChange, error}) => html`<${Amount} label="Strength" value=${value} min=${0.05} max=${1} step=${0.05}
  text=${value.toFixed(2)} hint="How much may change: 1 is all new" onChange=${onChange} error=${error} />`;

const Amount = ({label, hint, error, ...slider}) => html`<${Field} label=${label} hint=${hint} error=${error}>
  ${(ids) => html`<${Slider} ...${ids} ...${slider} />`}<//>`;

const nameOf = (operator) => operator.properties.name.const;

/** What was done to the picture, so that it can be undone. */
function Spoiled({schema, value, onChange, errors}) {
  const operators = schema.properties.operator.anyOf.filter((option) => option.$ref)
    .map((option) => schema.$defs[option.$ref.split("/").at(-1)]).filter((each) => SPOILED[nameOf(each)]);
  const {name} = value.operator;
  const chosen = operators.find((each) => nameOf(each) === name);
  return html`
    <${Field} label="What happened to it" hint=${leadOf(chosen?.description)} error=${errors.operator}>${(ids) => html`
      <select ...${ids} value=${name} onChange=${(event) => onChange({operator: {name: event.target.value}})}>
        ${operators.map((each) => html`<option key=${nameOf(each)} value=${nameOf(each)}>${SPOILED[nameOf(each)]}</option>`)}
      </select>`}<//>
    ${chosen && html`<${SchemaForm} schema=${{...chosen, $defs: schema.$defs}} value=${value.operator} errors=${errors}
      onChange=${(operator) => onChange({operator: {...operator, name}})} />`}
    <${Amount} label="Noise" value=${value.std} min=${0} max=${0.5} step=${0.01} text=${value.std ? value.std.toFixed(2) : "none"}
      hint="Standard deviation, where black is -1 and white 1" onChange=${(std) => onChange({std})} error=${errors.std} />`;
}
