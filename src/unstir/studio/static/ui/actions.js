/** What can be done with a picture, in one place: cards and the detail view draw the same table. */

import {signal} from "./html.js";
import {patch, post, remove, submit} from "../api.js";
import {announce, complain, go, keepJob, modelNamed, toast} from "../state.js";
import {find} from "./form.js";
import {form, restore, startFrom} from "./recipe.js";

/** The picture shown large, with the list that the arrow keys walk: {id, items} or null. */
export const shown = signal(null);
/** Two pictures under the slider, [before, after], or null. */
export const compared = signal(null);
/** A picture waits for the one to compare it with. */
export const picking = signal(null);

export const randomSeed = () => Math.floor(Math.random() * 2 ** 32);

const KEPT = ["prompt", "label", "negative", "guidance"];

/** Hand in a job about a picture, which becomes the parent of what comes out. */
async function derive(item, kind, settings, said) {
  try {
    const able = modelNamed(item.model)?.task === "generate" || kind === "upscale";
    const same = KEPT.map((name) => [name, find(item.settings, name)]).filter(([, value]) => value !== null);
    keepJob(await submit({
      kind, model: able ? item.model : form.value.model,
      inputs: {image: item.id}, parent: item.id, board: item.board,
      settings: {...Object.fromEntries(same), seed: randomSeed(), ...settings},
    }));
    toast(said);
  } catch (error) {
    complain(error);
  }
}

const vary = (strength, word) => (item) =>
  derive(item, "edit", {strength, n: 4}, `Four ${word} variations are on their way`);
const extend = (side) => (item) => {
  const along = side === "left" || side === "right" ? item.width : item.height;
  return derive(item, "edit", {extend: `${side}:${Math.max(1, Math.round(along / 4))}`, n: 1},
    `The picture grows to the ${side}`);
};

export async function change(item, fields) {
  announce("changed", {...item, ...fields});
  try {
    await patch(`/api/items/${item.id}`, fields);
  } catch (error) {
    announce("changed", item);
    complain(error);
  }
}

/** Delete, with a way back. @param {object[]} items */
export async function discard(items) {
  try {
    await Promise.all(items.map((item) => remove(`/api/items/${item.id}`)));
    items.forEach((item) => announce("deleted", {...item, deleted: true}));
    const said = items.length === 1 ? "Picture deleted" : `${items.length} pictures deleted`;
    toast(said, {action: {label: "Undo", run: () => bringBack(items)}});
  } catch (error) {
    complain(error);
  }
}

async function bringBack(items) {
  try {
    await Promise.all(items.map((item) => post(`/api/items/${item.id}/restore`)));
    items.forEach((item) => announce("restored", {...item, deleted: null}));
  } catch (error) {
    complain(error);
  }
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Command copied");
  } catch {
    // the clipboard is refused to pages that did not come over https or from this machine
    toast(text);
  }
}

export function download(item) {
  const link = document.createElement("a");
  link.href = `/api/items/${item.id}/image?download=1`;
  link.download = "";
  link.click();
}

/** Not the labelled sheet of a plot. */
const single = (item) => !item.settings?.x;

/** {id, icon, label, run(item)}; `hint` says more than the label, `fits` for which pictures it is. */
export const ACTIONS = [
  {id: "subtle", icon: "subtle", label: "Vary subtly", hint: "Four pictures near this one (strength 0.4)",
    fits: single, run: vary(0.4, "subtle")},
  {id: "strong", icon: "strong", label: "Vary strongly",
    hint: "Four pictures further from this one (strength 0.75)", fits: single, run: vary(0.75, "strong")},
  {id: "upscale", icon: "upscale", label: "Upscale 2×", fits: single,
    run: (item) => derive(item, "upscale", {scale: 2, n: 1}, "A larger one is on its way")},
  {id: "edit", icon: "edit", label: "Edit", fits: single, run: (item) => go(`#/edit?item=${item.id}`)},
  {id: "start", icon: "start", label: "Use as start", hint: "The next pictures begin from this one",
    fits: single, run: startFrom},
  {id: "compare", icon: "compare", label: "Compare", run: (item) => compare(item)},
  {id: "left", icon: "out_left", label: "Extend left", fits: single, run: extend("left")},
  {id: "right", icon: "out_right", label: "Extend right", fits: single, run: extend("right")},
  {id: "top", icon: "out_top", label: "Extend up", fits: single, run: extend("top")},
  {id: "bottom", icon: "out_bottom", label: "Extend down", fits: single, run: extend("bottom")},
  {id: "restore", icon: "restore", label: "Restore settings",
    hint: "Fill the form with what made this picture", run: (item) => restore(item)},
  {id: "copy", icon: "copy", label: "Copy command", fits: (item) => item.command,
    run: (item) => copy(item.command)},
  {id: "download", icon: "download", label: "Download", run: download},
  {id: "delete", icon: "trash", label: "Delete", run: (item) => discard([item])},
];
/** Those that make sense for a picture. */
export const actionsOf = (item) => ACTIONS.filter((one) => !one.fits || one.fits(item));
export const action = (id) => ACTIONS.find((one) => one.id === id);

/** With its parent, or, where it has none, with one that is picked next. */
export function compare(item) {
  shown.value = null;
  const before = item.parent ?? item.inputs?.image;
  if (before) compared.value = [before, item.id];
  else pickAnother(item);
}

let dismissHint = () => {};

export function pickAnother(item) {
  compared.value = null;
  picking.value = item;
  dismissHint = toast("Click the picture to compare it with",
    {action: {label: "Cancel", run: () => (picking.value = null)}});
}

/** A click on a picture: show it large, or take it as the second one of a comparison. */
export function open(item, items) {
  if (picking.value && picking.value.id !== item.id) compared.value = [picking.value.id, item.id];
  else if (!picking.value) shown.value = {id: item.id, items};
  picking.value = null;
  dismissHint();
}
