/** Forms drawn from a JSON schema of settings. A setting that is left out, or null, is the model's own ("auto"). */

import {html, useEffect, useId, useState} from "./html.js";
import {hintOf, title} from "./words.js";

// -- schemas ------------------------------------------------------------------------------------------------

const follow = (schema, root) => (schema.$ref ? root.$defs[schema.$ref.split("/").at(-1)] : schema);

/** What a schema asks for: {kind, nullable, ...}, with `anyOf` and `$ref` resolved. */
export function ask(schema, root) {
  const options = (schema.anyOf ?? [schema]).filter((option) => option.type !== "null");
  const nullable = schema.anyOf?.some((option) => option.type === "null") ?? false;
  const common = {nullable, fallback: schema.default, text: schema.description ?? ""};
  const [first] = options.map((option) => follow(option, root));
  if (options.length && options.every((option) => option.$ref)) {
    return {...common, kind: "component", choices: options.map((option) => follow(option, root))};
  }
  if (options.length > 1) return {...common, kind: "any", options};
  if (first?.enum) return {...common, kind: "enum", choices: first.enum};
  if (first?.type === "object" && first.properties) return {...common, kind: "object", schema: first};
  if (first?.type === "array") {
    return {...common, kind: "list", items: first.items ?? first.prefixItems?.[0] ?? {}};
  }
  if (first?.type === "integer" || first?.type === "number") {
    return {...common, ...first, kind: "number", whole: first.type === "integer"};
  }
  return {...common, kind: first?.type === "boolean" ? "boolean" : "text"};
}

/** The name of a component's schema: "DDIM". */
export const nameOf = (component) => component.properties.name.const;
const isComponent = (value) => typeof value === "object" && value !== null && "name" in value;

/** {sampling: {steps: 9}} -> {"sampling.steps": 9}; what is null is left out, a component stays whole. */
export function flatten(value, path = "") {
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value) || isComponent(value)) return {[path]: value};
  const parts = Object.entries(value).map(([key, inner]) => flatten(inner, path ? `${path}.${key}` : key));
  return Object.assign({}, ...parts);
}

/** The value at "sampling.steps". */
export const at = (value, path) => path.split(".").reduce((inner, key) => inner?.[key], value);

/** A copy with the value at "sampling.steps" set; undefined or null takes it away. */
export function withAt(value, path, to) {
  const [key, ...rest] = path.split(".");
  const copy = {...value};
  const inner = rest.length ? withAt(copy[key] ?? {}, rest.join("."), to) : to;
  const empty = inner === null || inner === undefined || (rest.length && Object.keys(inner).length === 0);
  if (empty) delete copy[key];
  else copy[key] = inner;
  return copy;
}

/** The setting of this name, wherever it lies: "steps" of {sampling: {steps: 9}} or of {"sampling.steps": 9}. */
export function find(settings, name) {
  const isMeant = ([path]) => path === name || path.endsWith(`.${name}`);
  const [, value = null] = Object.entries(flatten(settings)).find(isMeant) ?? [];
  return value;
}

/** Every setting of an object schema that holds one value: [{path, name, ask}]. */
export function leaves(schema, root = schema, path = "") {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const here = path ? `${path}.${name}` : name;
    const asked = ask(inner, root);
    return asked.kind === "object" ? leaves(asked.schema, root, here) : [{path: here, name, ask: asked}];
  });
}

/** What is wrong with a value, or null. */
export function problem(asked, value) {
  if (value === null || value === undefined) return null;
  if (asked.kind === "number") {
    if (!Number.isFinite(value)) return "a number is needed";
    if (asked.whole && !Number.isSafeInteger(value)) return "a whole number is needed";
    if (value < asked.minimum) return `at least ${asked.minimum}`;
    if (value > asked.maximum) return `at most ${asked.maximum}`;
    if (value <= asked.exclusiveMinimum) return `more than ${asked.exclusiveMinimum}`;
    if (value >= asked.exclusiveMaximum) return `less than ${asked.exclusiveMaximum}`;
  }
  const unread = asked.kind === "list" && value.some?.((one) => typeof one === "number" && !Number.isFinite(one));
  return unread ? "numbers, with commas between" : null;
}

const SIMPLE = {boolean: "yes or no", text: "words", list: "values with commas between"};

/** What a setting accepts, in words: "a whole number from 1 to 10000". */
export function acceptsOf(asked) {
  const {kind, whole, minimum, maximum, exclusiveMinimum: above, exclusiveMaximum: below} = asked;
  if (kind !== "number") return SIMPLE[kind] ?? "a number or words";
  const least = minimum !== undefined ? `from ${minimum}` : above !== undefined ? `above ${above}` : "";
  const most = maximum !== undefined ? `to ${maximum}` : below === undefined ? ""
    : whole ? `to ${Math.min(below - 1, Number.MAX_SAFE_INTEGER)}` : `below ${below}`;
  return [whole ? "a whole number" : "a number", least, most].filter(Boolean).join(" ");
}

/** Text as the value that a setting takes: "20" -> 20, "" -> null. */
export function read(asked, text) {
  const plain = text.trim();
  if (plain === "") return null;
  if (asked.kind === "number") return Number(plain);
  if (asked.kind === "list") {
    return plain.split(/[\s,]+/).map((part) => (asked.items.type === "string" ? part : Number(part)));
  }
  if (asked.kind === "boolean") return plain === "true";
  const mayCount = asked.kind === "any" && asked.options.some((option) => option.type === "integer");
  if (mayCount && /^-?\d+$/.test(plain)) return Number(plain);
  return asked.kind === "text" || asked.kind === "any" ? text : plain;
}

const written = (value) => (Array.isArray(value) ? value.join(", ") : String(value ?? ""));

// -- fields -------------------------------------------------------------------------------------------------

/** A label, a control, a hint and an error that belong together; `children` is a function of the ids to refer to. */
export function Field({label, hint, error, children, wide = false}) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  const control = typeof children === "function"
    ? children({id, "aria-describedby": described, "aria-invalid": error ? "true" : undefined}) : children;
  return html`<div class=${`field ${error ? "wrong" : ""} ${wide ? "wide" : ""}`}>
    ${label && html`<label for=${typeof children === "function" ? id : undefined}>${label}</label>`}
    ${control}
    ${hint && html`<small id=${`${id}-hint`} class="hint">${hint}</small>`}
    ${error && html`<small id=${`${id}-error`} class="error">${error}</small>`}</div>`;
}

/** An input that keeps what is typed ("1e-") until it can be read. */
function Typed({asked, value, onChange, auto, ...rest}) {
  const [text, setText] = useState(written(value));
  useEffect(() => {
    if (written(read(asked, text)) !== written(value)) setText(written(value));
  }, [written(value)]);
  const take = (event) => { setText(event.target.value); onChange(read(asked, event.target.value)); };
  return html`<input ...${rest} type="text"
    inputmode=${asked.kind === "number" ? (asked.whole ? "numeric" : "decimal") : undefined}
    value=${text} placeholder=${auto} onInput=${take} autocomplete="off" spellcheck=${false} />`;
}

function Select({value, onChange, choices, auto, nullable, ...rest}) {
  return html`<select ...${rest} value=${value ?? ""}
    onChange=${(event) => onChange(event.target.value || null)}>
    ${(nullable || value === undefined) && html`<option value="">${auto}</option>`}
    ${choices.map((choice) => html`<option key=${choice} value=${choice}>${choice}</option>`)}</select>`;
}

function Control({asked, value, onChange, auto, root, path, errors, ...rest}) {
  if (asked.kind === "boolean" && !asked.nullable) {
    const take = ({target: {checked}}) => onChange(checked === asked.fallback ? null : checked);
    const on = value ?? asked.fallback;
    return html`<input ...${rest} type="checkbox" class="switch" checked=${on} onChange=${take} />`;
  }
  if (asked.kind === "boolean") {
    return html`<${Select} ...${rest} value=${{true: "yes", false: "no"}[value]} nullable auto=${auto}
      choices=${["yes", "no"]} onChange=${(to) => onChange(to === null ? null : to === "yes")} />`;
  }
  if (asked.kind === "enum")
    return html`<${Select} ...${rest} value=${value}
      nullable=${asked.nullable || asked.fallback !== undefined} auto=${auto}
      choices=${asked.choices} onChange=${(to) =>
        onChange(asked.choices.find((choice) => String(choice) === to) ?? null)} />`;
  if (asked.kind === "component") {
    const chosen = asked.choices.find((choice) => nameOf(choice) === value?.name);
    return html`<${Select} ...${rest} value=${value?.name} nullable auto=${auto}
      choices=${asked.choices.map(nameOf)}
        onChange=${(name) => onChange(name === null ? null : {name})} />
      ${chosen && Object.keys(chosen.properties).length > 1 && html`<div class="component">
        <${Settings} schema=${chosen} root=${root} value=${value} path=${path} errors=${errors}
          shown=${() => true}
          onChange=${(inner, to) => onChange(withAt(value, inner, to))} inside /></div>`}`;
  }
  return html`<${Typed} ...${rest} asked=${asked} value=${value} onChange=${onChange} auto=${auto} />`;
}

/** The fields of an object schema. `path` leads to it from the form; `inside` a component paths begin anew. */
function Settings({schema, root, value, onChange, path = "", errors, shown, defaults = {}, inside = false}) {
  return Object.entries(schema.properties).map(([name, inner]) => {
    if (inner.const !== undefined) return null;
    const asked = ask(inner, root);
    const full = path ? `${path}.${name}` : name;
    const own = inside ? name : full;
    if (asked.kind === "object") {
      const parts = Settings({schema: asked.schema, root, value, onChange, path: full, errors, shown,
        defaults}).flat().filter(Boolean);
      return parts.length > 0 && html`<fieldset key=${full} class="group"><legend>${title(name)}</legend>
        ${parts}</fieldset>`;
    }
    if (!shown(full)) return null;
    const now = at(value, own);
    const usual = defaults[full] ?? defaults[name] ?? asked.fallback;
    const auto = usual === null || usual === undefined || usual === "" ? "auto"
      : `auto (${isComponent(usual) ? usual.name : written(usual)})`;
    const error = errors?.[full] ?? errors?.[name] ?? problem(asked, now);
    return html`<${Field} key=${full} label=${title(name)} hint=${hintOf(asked.text)} error=${error}
      wide=${asked.kind === "component"}>
      ${(ids) => html`<${Control} ...${ids} asked=${asked} value=${now} auto=${auto} root=${root} path=${full}
        errors=${errors} name=${full} onChange=${(to) => onChange(own, to)} />`}<//>`;
  });
}

/**
 * A form of all settings of `schema`, or of `only` some ("sampling.steps", or "sampling" for all in it), less those of
 * `hide`. `defaults` are the model's own values, which "auto" stands for.
 * @param {{schema: object, value: object, onChange: (value: object) => void, errors?: Record<string, string>,
 *          only?: string[], hide?: string[], defaults?: Record<string, any>}} props
 */
export function SchemaForm({schema, value, onChange, errors, only, hide = [], defaults}) {
  const within = (list, path) => list.some((one) => path === one || path.startsWith(`${one}.`));
  const shown = (path) => (!only || within(only, path)) && !within(hide, path);
  return html`<div class="schema-form">
    <${Settings} schema=${schema} root=${schema} value=${value} errors=${errors} shown=${shown}
    defaults=${defaults} onChange=${(path, to) => onChange(withAt(value, path, to))} /></div>`;
}

/** An ApiError as `errors` of a form: {"steps": "at most 10000"}. */
export const errorsOf = (error) =>
  (error?.field ? {[error.field.replace(/^settings\./, "")]: error.message} : {});
