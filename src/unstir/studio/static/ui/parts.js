/** The small parts that every screen is made of. */

import {html, useId, useLayoutEffect, useRef, useState} from "./html.js";
import {Icon} from "./icons.js";
import {connected, models} from "../state.js";

export {Icon};

/**
 * A button with an icon, a text or both; one with an icon alone needs `label`.
 * @param {{icon?: string, label?: string, kind?: "primary" | "plain" | "quiet" | "danger" | "over", busy?: boolean,
 *          filled?: boolean}} props
 */
export function Button({icon, label, kind = "plain", busy = false, filled = false, children,
  class: extra = "", ...rest}) {
  const bare = icon && !children;
  return html`<button type="button" title=${bare ? label : rest.title} aria-label=${label} ...${rest}
    class=${`button ${kind} ${bare ? "bare" : ""} ${extra}`} disabled=${rest.disabled || busy}>
    ${busy ? html`<${Spinner} />` : icon && html`<${Icon} name=${icon} filled=${filled} />`}
    ${children && html`<span>${children}</span>`}</button>`;
}

export function Spinner({label}) {
  return html`<span class="spinner" role=${label ? "status" : undefined} aria-label=${label} />`;
}

/** Nothing here yet, and what to do about it. */
export function Empty({icon = "gallery", title, children}) {
  return html`<div class="empty"><${Icon} name=${icon} size=${36} /><h2>${title}</h2>
    <div>${children}</div></div>`;
}

/** What went wrong, and what to do about it: an ApiError, or the error of a job. */
export function Fault({error, ...rest}) {
  return error && html`<p class="error" role="alert" ...${rest}>${error.message}
    ${error.hint && html`<small>${error.hint}</small>`}</p>`;
}

/** Said beside a button whose job is not handed in yet: it is tried again until it is. @param {{asking: boolean}} props */
export const Away = ({asking}) => asking && !connected.value && html`<p class="blocked" role="status">
  The server does not answer. Is <code>unstir studio</code> running? It is asked again until it does.</p>`;

/** A modal window; Escape, the cross and a click beside it close it. */
export function Dialog({title, onClose, wide = false, children, ...rest}) {
  const ref = useRef(null);
  const heading = useId();
  // closed while it is still there, so that the focus goes back to where it was
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return html`<dialog ref=${ref} class=${wide ? "dialog wide" : "dialog"} aria-labelledby=${heading}
    ...${rest} onCancel=${(event) => { event.preventDefault(); onClose(); }}
    onPointerDown=${(event) => event.target === ref.current && onClose()}>
    <header><h2 id=${heading}>${title}</h2>
      <${Button} icon="close" kind="quiet" label="Close" onClick=${onClose} /></header>
    <div class="dialog-body">${children}</div></dialog>`;
}

/**
 * @param {{tabs: {id: string, label: string, icon?: string}[], value: string, onChange: (id: string) => void,
 *          label: string}} props
 */
export function Tabs({tabs, value, onChange, label}) {
  const step = (event) => {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!by) return;
    const to = (tabs.findIndex((tab) => tab.id === value) + by + tabs.length) % tabs.length;
    onChange(tabs[to].id);
    event.currentTarget.children[to].focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${step}>
    ${tabs.map((tab) => html`<button type="button" role="tab" key=${tab.id} aria-selected=${tab.id === value}
      tabIndex=${tab.id === value ? 0 : -1} onClick=${() => onChange(tab.id)}>
      ${tab.icon && html`<${Icon} name=${tab.icon} />`}${tab.label}</button>`)}</div>`;
}

/** 75 -> "1:15", 4000 -> "1 h 7 min" */
export function duration(seconds) {
  if (seconds < 1) return "< 1 s";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const rest = String(Math.floor(seconds % 60)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}:${rest} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** The bar of a job, with how far it is in words. */
export function Progress({job}) {
  const {progress, state, position} = job;
  const waits = state === "queued";
  const fraction = state === "done" ? 1 : progress?.fraction ?? 0;
  const text = waits ? (position ? `${position} before it` : "next in line")
    : state !== "running" ? state
    : [progress?.text || (progress?.steps ? `step ${progress.step} of ${progress.steps}` : "starting"),
       progress?.eta != null && `${duration(progress.eta)} left`].filter(Boolean).join(", ");
  return html`<div class=${`progress ${state}`}>
    <div class="bar" role="progressbar" aria-label=${`Progress of the ${job.kind} job`} aria-valuemin="0"
      aria-valuemax="100" aria-valuenow=${Math.round(fraction * 100)} aria-valuetext=${text}>
      <i class=${state === "running" && !progress ? "unknown" : ""}
        style=${{width: `${fraction * 100}%`}} /></div>
    <small>${text}</small></div>`;
}

// -- models -------------------------------------------------------------------------------------------------

const short = (number) =>
  Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3}).format(number);

/** "64 × 64, text prompts, 5.8M parameters" */
export function aboutModel(model) {
  const count = model.classes?.length;
  const reads = model.prompt ? "text prompts" : count ? `${count} classes` : null;
  const size = model.kind === "image" ? `${model.size[1]} × ${model.size[0]}` : model.kind;
  return [size, reads, model.parameters && `${short(model.parameters)} parameters`]
    .filter(Boolean).join(", ");
}

export const Sheet = ({model}) => model.sheet
  ? html`<img class="sheet" src=${model.sheet} alt=${`Samples of ${model.title ?? model.name}`}
    loading="lazy" />`
  : html`<span class="sheet none"><${Icon} name="generate" size=${22} /></span>`;

function ModelCard({model, chosen, onPick}) {
  const numbers = Object.entries(model.metrics ?? {}).slice(0, 4);
  const origin = model.shipped ? "comes with unstir" : model.source;
  const training = model.steps && `${short(model.steps)} steps of training`;
  return html`<button type="button" class="model-card" aria-pressed=${chosen} data-model=${model.name}
    onClick=${onPick}>
    <${Sheet} model=${model} />
    <span class="model-about"><strong>${model.title ?? model.name}</strong><small>${aboutModel(model)}</small>
      ${numbers.length > 0 && html`<span class="numbers">
        ${numbers.map(([name, value]) => html`<span key=${name}>${`${name.replaceAll("_", " ")} `}
          <b>${Number(value.toPrecision(3))}</b></span>`)}</span>`}
      <small>${[origin, training].filter(Boolean).join(", ")}</small></span>
    ${chosen && html`<${Icon} name="check" />`}</button>`;
}

/** The chosen model, by its name, and a window to choose another of those that pass the filter. */
export function ModelPicker({value, onChange, filter = () => true, label = "Model"}) {
  const [open, setOpen] = useState(false);
  const choice = models.value.filter(filter);
  const model = choice.find((one) => one.name === value);
  const pick = (one) => { setOpen(false); onChange(one.name); };
  return html`<div class="model-picker">
    <button type="button" class="model-current" aria-haspopup="dialog"
      aria-label=${`${label}: ${model?.title ?? value ?? "none"}`}
      data-testid="model-picker" onClick=${() => setOpen(true)}>
      ${model && html`<${Sheet} model=${model} />`}
      <span class="model-about"><strong>${model?.title ?? value ?? "No model"}</strong>
        <small>${model ? aboutModel(model) : value ? "not here" : "train one first"}</small></span>
      <${Icon} name="down" size=${16} /></button>
    ${open && html`<${Dialog} title="Choose a model" onClose=${() => setOpen(false)} wide>
      <div class="model-list">${choice.map((one) => html`<${ModelCard} key=${one.name} model=${one}
        chosen=${one.name === value} onPick=${() => pick(one)} />`)}</div>
      ${choice.length === 0 && html`<${Empty} icon="train" title="No model fits here">
        <p>Train one: it appears here by itself.</p><//>`}<//>`}</div>`;
}
