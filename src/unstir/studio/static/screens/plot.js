/** X/Y plot: the same picture under two settings, as one grid. */

import {html, useEffect, useState} from "../ui/html.js";
import {isOver, jobs, modelNamed, models} from "../state.js";
import {open} from "../ui/actions.js";
import {pixelClass} from "../ui/card.js";
import {acceptsOf, errorsOf, Field, flatten, leaves, nameOf, problem, read, SchemaForm} from "../ui/form.js";
import {Away, Button, Empty, Fault, Icon, ModelPicker, Progress} from "../ui/parts.js";
import {LabelSelect} from "../ui/prompt.js";
import {generates, OWN, plotForm} from "../ui/recipe.js";
import {cancel, titleOf} from "../ui/queue.js";
import {useSchema} from "../ui/schema.js";
import {once, useSubmit} from "../ui/submit.js";
import {FixedSeed, wrongNumber} from "../ui/whole.js";
import {hintOf, title} from "../ui/words.js";

const MOST = 100;
const set = (fields) => (plotForm.value = {...plotForm.value, ...fields});

/** The settings that can be an axis: those of one value each. */
function axesOf(schema, model) {
  const words = model?.prompt ? [] : ["prompt", "negative"];
  const classes = model?.classes?.length ? [] : ["label"];
  return leaves(schema).filter(({name, ask}) => ask.kind !== "list" && !["n", ...words, ...classes].includes(name));
}

/** The values that a setting knows, where these can be listed. */
function choicesOf({kind, choices}) {
  if (kind === "component") return choices.map(nameOf);
  if (kind === "enum") return choices.map(String);
  return kind === "boolean" ? ["true", "false"] : null;
}

/** The values in a text; what `lacks`, in short, and what is `wrong` with one, in full. Prompts may hold commas, so lines part them too. */
function valuesOf({text}, axis) {
  const parts = text.split(text.includes("\n") ? "\n" : ",").map((part) => part.trim()).filter(Boolean);
  // a component by its name alone, as in a command
  const values = parts.map((part) => (axis.ask.kind === "component" ? part : read(axis.ask, part)));
  const known = choicesOf(axis.ask);
  const odd = parts.find((part, k) => (known ? !known.includes(part) : problem(axis.ask, values[k])));
  if (parts.length === 0) return {values, lacks: "values with commas between"};
  if (odd === undefined) return {values};
  const accepts = known ? `${odd} is none of these` : `${odd}: ${title(axis.name)} takes ${acceptsOf(axis.ask)}`;
  return {values, lacks: `${odd} does not fit`, wrong: accepts};
}

function Axis({label, value, axes, onChange, optional, error}) {
  const axis = axes.find(({name}) => name === value.setting);
  const hint = axis && (choicesOf(axis.ask)?.join(", ") ?? hintOf(axis.ask.text));
  return html`<fieldset class="axis"><legend>${label}</legend>
    <select aria-label=${`${label}: setting`} value=${value.setting}
      data-testid=${`${label.toLowerCase()}-setting`}
      onChange=${(event) => onChange({setting: event.target.value, text: ""})}>
      ${optional && html`<option value="">none</option>`}
      ${axes.map(({name}) => html`<option key=${name} value=${name}>${title(name)}</option>`)}</select>
    ${axis && html`<${Field} hint=${hint} error=${error}>
      ${(ids) => html`<textarea ...${ids} rows="1" value=${value.text} aria-label=${`${label}: values`}
      placeholder="2, 4, 8" data-testid=${`${label.toLowerCase()}-values`}
        onInput=${(event) => onChange({...value, text: event.target.value})} />`}<//>`}</fieldset>`;
}

/** The grid of a finished plot: its pictures under their values, each of them to be opened. */
function Grid({job}) {
  const {x, y} = job.settings;
  const [sheet, ...cells] = job.result.items;
  if (!sheet) return null;
  const head = (scope, {setting}, value) =>
    html`<th scope=${scope}><small>${title(setting)}</small> ${String(value)}</th>`;
  const row = (k) => x.values.map((value, column) => cells[k * x.values.length + column]);
  return html`<figure class="plot-grid" data-testid="plot-grid">
    ${cells.length === 0 ? html`<img src=${sheet.url} alt=${titleOf(job)} />`
      : html`<div class="plot-scroll"><table>
        <thead><tr>${y && html`<td />`}${x.values.map((value) => head("col", x, value))}</tr></thead>
        <tbody>${(y?.values ?? [null]).map((value, k) => html`<tr key=${k}>${y && head("row", y, value)}
          ${row(k).map((item, column) => html`<td key=${column}>${item && html`<button type="button" class="picture"
            aria-label=${`Open picture ${column + 1} of row ${k + 1}`} onClick=${() => open(item, cells)}>
            <img class=${pixelClass(item)} src=${item.url} alt="" /></button>`}</td>`)}</tr>`)}</tbody></table></div>`}
    <figcaption><${Button} icon="gallery" data-testid="plot-sheet"
      onClick=${() => open(sheet, [sheet])}>As one picture<//></figcaption></figure>`;
}

function Plots() {
  const [limit, setLimit] = useState(6);
  const plots = [...jobs.value.values()].filter((job) => job.kind === "plot")
    .sort((a, b) => b.created - a.created);
  if (plots.length === 0) return html`<${Empty} icon="plot" title="No plots yet">
    <p>Choose a setting and its values: the same seed is drawn with each, side by side.
    A second setting makes rows.</p><//>`;
  return html`${plots.slice(0, limit)
    .map((job) => html`<section key=${job.id} class="plot" data-testid="plot-job" data-state=${job.state}>
      <header><h3>${titleOf(job)}</h3><small>${modelNamed(job.model)?.title ?? job.model}</small>
        <span class="spread" />
        ${!isOver(job) && html`<${Button} icon="close" kind="quiet"
          onClick=${() => cancel(job)}>Cancel<//>`}</header>
      ${!isOver(job) && html`<${Progress} job=${job} />`}
      ${job.state === "cancelled" && html`<p class="muted">cancelled</p>`}
      ${job.state === "failed" && html`<${Fault} error=${job.error} />`}
      ${job.state === "done" && html`<${Grid} job=${job} />`}</section>`)}
    ${plots.length > limit && html`<${Button} onClick=${() => setLimit(limit + 6)}>Older plots<//>`}`;
}

/** The job that the form asks for, or why it cannot be sent. */
function requestOf(form, model, axes) {
  const [x, y] = [form.x, form.y].map((one) => axes.find(({name}) => name === one.setting));
  const [across, down] = [x && valuesOf(form.x, x), y && valuesOf(form.y, y)];
  const count = (across?.values.length ?? 0) * (down?.values.length ?? 1);
  const obstacle = [
    [!model, "choose a model"], [!x, "choose a setting"],
    [across?.lacks, `columns: ${across?.lacks}`], [down?.lacks, `rows: ${down?.lacks}`],
    [x && x === y, "both axes are the same setting"], [count > MOST, `${count} pictures; at most ${MOST}`],
    [wrongNumber(form), wrongNumber(form)],
  ].find(([holds]) => holds)?.[1] ?? null;
  const base = flatten({
    ...form.settings, seed: form.seed, prompt: (model?.prompt && form.prompt.trim()) || null,
    label: model?.classes?.length ? form.label : null,
  });
  const axis = (one, found) => (one ? {setting: one.name, values: found.values} : null);
  return {across, down, count, obstacle, settings: {base, x: axis(x, across), y: axis(y, down)}};
}

export default function Plot() {
  const form = plotForm.value;
  const schema = useSchema("sample");
  const model = modelNamed(form.model);
  const axes = schema ? axesOf(schema, model) : [];
  const {send, busy, error} = useSubmit();
  useEffect(() => {
    const first = models.value.find(generates);
    if (form.model === null && first) set({model: first.name});
  }, [models.value]);

  const {across, down, count, obstacle, settings} = requestOf(form, model, axes);
  const draw = () => send(() => ({kind: "plot", model: model.name, settings}));
  return html`<div class="generate">
    <form class="panel" aria-label="Plot settings" onSubmit=${(event) => event.preventDefault()}>
      <div class="panel-scroll">
      <${ModelPicker} value=${form.model} filter=${generates}
        onChange=${(name) => set({model: name, label: null})} />
      ${model?.prompt && html`<${Field} label="Prompt">
        ${(ids) => html`<textarea ...${ids} rows="2" value=${form.prompt} placeholder="a red fox"
        data-testid="plot-prompt" onInput=${(event) => set({prompt: event.target.value})} />`}<//>`}
      <${LabelSelect} model=${model} value=${form.label} onChange=${(label) => set({label})}
        none="as they come" />
      <${Axis} label="Columns" value=${form.x} axes=${axes} onChange=${(x) => set({x})}
        error=${across?.wrong} />
      <${Axis} label="Rows" value=${form.y} axes=${axes} onChange=${(y) => set({y})}
        error=${down?.wrong} optional />
      <${FixedSeed} value=${form.seed} onChange=${(seed) => set({seed})} hint="The same for every picture" />
      <details class="drawer"><summary><${Icon} name="sliders" size=${16} />Advanced</summary>
        ${schema && html`<${SchemaForm} schema=${schema} value=${form.settings} hide=${OWN}
          errors=${errorsOf(error)} defaults=${model?.defaults}
          onChange=${(to) => set({settings: to})} />`}</details>
    </div><div class="panel-foot">
      <${Fault} error=${error} />
      <${Away} asking=${busy} />
      ${schema && obstacle && html`<p class="blocked">${obstacle}</p>`}
      <${Button} icon="plot" kind="primary" busy=${busy} disabled=${Boolean(obstacle)} data-testid="plot-draw"
        onClick=${once(draw)}>
        ${obstacle ? "Draw the grid"
          : `Draw ${count} ${count === 1 ? "picture" : "pictures"}`}<//></div></form>
    <section class="results" aria-label="Plots"><${Plots} /></section></div>`;
}
