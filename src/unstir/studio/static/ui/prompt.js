/** What the pictures are to show: words with flags, or one of the classes of a model. */

import {html} from "./html.js";
import {Field} from "./form.js";

/** The flags below the prompt box; each says what it sets, on hover and on focus. */
function Chips({flags}) {
  if (flags.length === 0) return null;
  return html`<ul class="chips" aria-label="Flags">
    ${flags.map((flag, index) => html`<li key=${index} tabIndex="0"
    class=${flag.error ? "chip wrong" : "chip"} data-flag=${flag.name}
      aria-label=${`${flag.text}: ${flag.says}`}>
    ${flag.text}<span class="tip" role="tooltip">${flag.says}</span></li>`)}
    ${flags.filter((flag) => flag.error)
      .map((flag) => html`<li class="flag-error" role="alert" key=${flag.text}>${flag.says}</li>`)}</ul>`;
}

/** @param {{value: string, flags: object[], onChange: (text: string) => void}} props */
export const PromptBox = ({value, flags, onChange}) => html`<${Field} label="Prompt">
  ${(ids) => html`<textarea ...${ids} rows="3" value=${value} data-testid="prompt"
    placeholder="a red fox --ar 3:2 --seed 7"
    onInput=${(event) => onChange(event.target.value)} /><${Chips} flags=${flags} />`}<//>`;

export function LabelSelect({model, value, onChange, label = "Class", none = "any"}) {
  if (!model?.classes?.length) return null;
  return html`<${Field} label=${label}>
    ${(ids) => html`<select ...${ids} value=${value ?? ""} data-testid=${label.toLowerCase()}
    onChange=${(event) => onChange(event.target.value || null)}>
    <option value="">${none}</option>
    ${model.classes.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select>`}<//>`;
}
