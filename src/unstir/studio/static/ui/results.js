/** What was asked for and what came of it: one group of pictures for each job, newest first. */

import {html, useMemo} from "./html.js";
import {go, isOver, jobs, MAKES, modelNamed, previews} from "../state.js";
import {Card, captionOf, saidOf, Slot} from "./card.js";
import {find} from "./form.js";
import {useItems, useMore} from "./items.js";
import {Button, Empty, Fault, Spinner} from "./parts.js";
import {cancel, Queue, unsaid} from "./queue.js";
import {restore} from "./recipe.js";

const VERBS = {edit: "Edit of ", upscale: "Upscale of ", restore: "Restored "};

/** "64x96" or the model's own, as a CSS ratio. */
function ratioOf(job) {
  const [w, h] = String(find(job.settings, "size") ?? "").split("x").map(Number);
  const [height, width] = modelNamed(job.model)?.size ?? [1, 1];
  return w && h ? `${w} / ${h}` : `${width} / ${height}`;
}

/** Jobs and pictures put together: [{id, job | null, items}], newest first. */
function groupsOf(items) {
  const groups = new Map();
  for (const job of jobs.value.values()) {
    const {id, kind, state, created: at} = job;
    if (MAKES.has(kind) && state !== "done") groups.set(id, {id, job, at, items: []});
  }
  for (const item of items) {
    const group = groups.get(item.job)
      ?? {id: item.job, job: jobs.value.get(item.job) ?? null, at: item.created, items: []};
    group.at = group.job?.created ?? Math.min(group.at, item.created);
    group.items.push(item);
    groups.set(item.job, group);
  }
  for (const group of groups.values()) group.items.sort((a, b) => a.index - b.index);
  return [...groups.values()].sort((a, b) => b.at - a.at);
}

function Slots({job, items}) {
  if (isOver(job)) return null;
  const made = new Set(items.map((item) => item.index));
  const pictures = previews.value.get(job.id) ?? [];
  return Array.from({length: find(job.settings, "n") ?? 1}, (_, index) => !made.has(index)
    && html`<${Slot} key=${index} preview=${pictures[index]} ratio=${ratioOf(job)} state=${job.state}
      caption=${captionOf(job)} />`);
}

function Group({job, items, all}) {
  const [first] = items;
  const about = job ?? first;
  const said = saidOf(about);
  const state = job?.state ?? "done";
  return html`<section class="group-of-job" data-testid="group" data-job=${job?.id ?? first.job}
    data-state=${state}>
    <header><h3>${said ? `${VERBS[about.kind] ?? ""}${said}` : unsaid(about, job ? find(job.settings, "n") : items.length)}</h3>
      <small>${modelNamed(about.model)?.title ?? about.model}</small>
      ${state !== "done" && html`<span class=${`badge ${state}`}>${state}</span>`}
      <span class="spread" />
      ${job && !isOver(job) && html`<${Button} icon="close" kind="quiet" label="Cancel"
        onClick=${() => cancel(job)} />`}
      <${Button} icon="restore" kind="quiet" label="Restore settings"
        onClick=${() => restore(about)} /></header>
    ${job?.state === "failed" && html`<${Fault} error=${job.error} />`}
    <div class="grid">${job && html`<${Slots} job=${job} items=${items} />`}
      ${items.map((item) => html`<${Card} key=${item.id} item=${item} items=${all} />`)}</div></section>`;
}

export function Results() {
  const {items: all, loading, more} = useItems();
  const items = useMemo(() => all.filter((item) => item.kind !== "plot"), [all]);
  const end = useMore(more);
  const groups = groupsOf(items);
  const inOrder = groups.flatMap((group) => group.items);
  return html`<section class="results" aria-label="Results" data-testid="results">
    <${Queue} />
    ${groups.map((group) => html`<${Group} key=${group.id} ...${group} all=${inOrder} />`)}
    ${groups.length === 0 && !loading && html`<${Empty} icon="generate" title="Nothing made yet">
      <p>Say what you would like to see and press Generate, or drop a picture that unstir made
      to get its settings back.</p>
      <${Button} icon="understand" onClick=${() => go("#/understand")}>See how it works<//><//>`}
    <div class="end" ref=${end}>${loading && html`<${Spinner} label="Loading" />`}</div></section>`;
}
