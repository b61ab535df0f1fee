/** Settings to play with, drawn from a JSON schema: sliders and choices; what is neither is a field of the usual form. */

import {randomSeed} from "../../ui/actions.js";
import {number} from "../../ui/chart.js";
import {ask, Field, SchemaForm} from "../../ui/form.js";
import {html} from "../../ui/html.js";
import {Button} from "../../ui/parts.js";
import {Slider} from "../../ui/slider.js";
import {hintOf, leadOf, title} from "../../ui/words.js";

const nameOf = (component) => component.properties.name.const;

/**
 * @param {object} props
 * @param {object} props.schema an object schema
 * @param {object} [props.root] where its `$defs` are
 * @param {object} props.value what differs from the defaults
 * @param {(value: object) => void} props.onChange
 * @param {Record<string, any>} [props.usual] what the model makes of a setting that is left to it
 * @param {Record<string, string>} [props.errors]
 * @param {string} [props.path] of the object in the form
 * @param {(name: string) => boolean} [props.shown]
 */
export function Controls({schema, root = schema, value, onChange, usual = {}, errors = {}, path = "", shown = () => true}) {
  const fields = Object.entries(schema.properties).filter(([name, inner]) => inner.const === undefined && shown(name));
  return html`<div class="sliders">${fields.map(([name, inner]) => {
    const asked = ask(inner, root);
    const full = path + name;
    const props = {
      key: name,
      name: full,
      asked: path ? guessed(asked) : asked,
      now: name in value ? value[name] : asked.fallback ?? usual[name],
      set: (to) => onChange({...value, [name]: to}),
    };
    const Control = controlOf(name, props.asked);
    if (Control === Component) return html`<${Component} ...${props} root=${root} errors=${errors} />`;
    if (!Control) {
      return html`<${SchemaForm} key=${name} schema=${{...schema, $defs: root.$defs}} only=${[name]} value=${value}
        onChange=${onChange} errors=${errors} />`;
    }
    return html`<${Field} key=${name} label=${title(name)} hint=${hintOf(asked.text)} error=${errors[full]}>
      ${(ids) => html`<${Control} ...${props} ids=${ids} />`}<//>`;
  })}</div>`;
}

function controlOf(name, asked) {
  if (name === "seed") return Seed;
  if (asked.kind === "enum") return Choice;
  if (asked.kind === "component") return Component;
  if (asked.kind === "list" && asked.items.anyOf) return Many;
  return asked.kind === "number" && Number.isFinite(asked.minimum) && Number.isFinite(asked.maximum) ? Range : null;
}

/** The numbers of a component have no limits of their own in the schema: a slider goes some way around the default. */
function guessed(asked) {
  const {kind, fallback, minimum, whole} = asked;
  if (kind !== "number" || typeof fallback !== "number" || minimum !== undefined) return asked;
  if (fallback === 0) return {...asked, minimum: 0, maximum: 1};
  if (fallback < 0) return {...asked, minimum: 3 * fallback, maximum: -3 * fallback};
  return {...asked, minimum: whole ? Math.ceil(fallback / 10) : fallback / 10, maximum: 10 * fallback};
}

function Range({name, asked: {minimum, maximum, whole}, now, set, ids}) {
  const factors = minimum > 0 && maximum / minimum > 50 && !(whole && maximum <= 100);
  const step = whole ? 1 : Number(((maximum - minimum) / 200).toPrecision(1));
  return html`<${Slider} ...${ids} name=${name} min=${minimum} max=${maximum} step=${step} factors=${factors} value=${now ?? minimum}
    text=${now === undefined || now === null ? "auto" : number(now)} onChange=${(to) => set(whole ? Math.round(to) : to)} />`;
}

function Choice({name, asked, now, set, ids}) {
  const take = (event) => set(asked.choices.find((choice) => String(choice) === event.target.value));
  return html`<select ...${ids} name=${name} value=${String(now)} onChange=${take}>
    ${asked.choices.map((choice) => html`<option key=${choice} value=${String(choice)}>${choice}</option>`)}</select>`;
}

function Seed({name, now, set, ids}) {
  const take = (event) => set(Math.max(0, Math.round(Number(event.target.value)) || 0));
  return html`<div class="joined"><input ...${ids} name=${name} type="text" inputmode="numeric" value=${now} onChange=${take} />
    <${Button} icon="dice" kind="quiet" label="Another seed" onClick=${() => set(randomSeed())} /></div>`;
}

/** A choice of parts, each with settings of its own. */
function Component({name, asked, now, set, root, errors}) {
  const chosen = asked.choices.find((choice) => nameOf(choice) === now?.name);
  const {name: _, ...inner} = now ?? {};
  const take = (event) => set(event.target.value ? {name: event.target.value} : null);
  const own = chosen && Object.keys(chosen.properties).length > 1;
  return html`<div class="part"><${Field} label=${title(name)} hint=${leadOf(chosen?.description) || hintOf(asked.text)} error=${errors[name]}>${(ids) => html`
      <select ...${ids} name=${name} value=${now?.name ?? ""} onChange=${take}>
        ${asked.nullable && html`<option value="">${asked.fallback ? "none" : "the model's own"}</option>`}
        ${asked.choices.map((choice) => html`<option key=${nameOf(choice)} value=${nameOf(choice)}>${nameOf(choice)}</option>`)}
      </select>`}<//>
    ${own && html`<${Controls} schema=${chosen} root=${root} value=${inner} path=${`${name}.`} errors=${errors}
      onChange=${(to) => set({...to, name: now.name})} />`}
  </div>`;
}

/** Several of the parts. */
function Many({name, asked, now, set, ids}) {
  const chosen = new Set(now.map((each) => each.name));
  const names = asked.items.anyOf.map((option) => option.$ref.split(".").at(-1));
  const toggle = (each) => () => {
    const next = names.filter((one) => chosen.has(one) !== (one === each));
    if (next.length) set(next.map((one) => now.find((old) => old.name === one) ?? {name: one}));
  };
  return html`<div class="many" role="group" aria-label=${title(name)} id=${ids.id}>${names.map((each) => html`
    <button type="button" key=${each} class="button quiet" aria-pressed=${chosen.has(each)} onClick=${toggle(each)}>${each}</button>`)}</div>`;
}
