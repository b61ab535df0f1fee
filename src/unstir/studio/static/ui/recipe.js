/** The Generate form, and the ways into it: settings of a picture made before, or a picture to start from. */

import {complain, draft, go, modelNamed, toast} from "../state.js";
import {find, flatten, leaves, nameOf, withAt} from "./form.js";
import {schemaOf} from "./schema.js";
import {upload} from "../api.js";

/**
 * `parent` is the picture that this is a remix of.
 * @typedef {{model: string | null, prompt: string, negative: string, label: string | null, n: number,
 *   size: string | null, seed: number, locked: boolean, settings: object, start: {id: string, url: string} | null,
 *   strength: number, parent: {id: string, url: string} | null}} Form
 */

/** @type {import("../vendor/signals.js").Signal<Form>} */
export const form = draft("generate", {
  model: null, prompt: "", negative: "", label: null, n: 4, size: null, seed: 0, locked: false, settings: {},
  start: null, strength: 0.6, parent: null,
});

/** The Plot form: what all pictures share, and two settings with their values as text. */
export const plotForm = draft("plot", {
  model: null, prompt: "", label: null, seed: 0, settings: {}, x: {setting: "steps", text: "2, 4, 8, 16"},
  y: {setting: "", text: ""},
});

/** The models that a picture can be asked of. */
export const generates = (model) => model.task === "generate";

export const set = (fields) => (form.value = {...form.value, ...fields});

/** What the form has a field of its own for; everything else lies in `settings`. */
export const OWN = ["n", "seed", "label", "prompt", "negative", "size", "strength", "extend", "mask", "scale",
  "operator", "kernel"];

/** Settings as the form keeps them: {steps: 9} or {"sampling.steps": 9} -> {sampling: {steps: 9}}. */
function formOf(settings, schema) {
  const given = Object.entries(flatten(settings));
  return leaves(schema).reduce((all, {path, name: last, ask}) => {
    const [, value] = given.find(([key]) => key === path) ?? given.find(([key]) => key === last) ?? [];
    if (OWN.includes(last) || value === undefined) return all;
    if (ask.kind !== "component" || typeof value !== "string") return withAt(all, path, value);
    const name = ask.choices.map(nameOf).find((one) => one.toLowerCase() === value.toLowerCase());
    return withAt(all, path, name ? {name} : null);
  }, {});
}

/** Fill the form with what made a picture: an Item, a Job, or `ofRecipe` of what lies in a file. */
export async function restore({kind, model, settings, inputs, parent, ...item}, from = "the picture") {
  if (settings.x) return restorePlot(model, settings);
  try {
    const take = (name, otherwise) => find(settings, name) ?? otherwise;
    const size = take("size", null);
    const image = kind === "edit" && inputs?.image;
    const place = parent === image ? `/api/items/${image}/image` : `/api/files/${image}`;
    set({
      model, prompt: take("prompt", ""), negative: String(take("negative", "")), n: take("n", 1),
      label: labelOf(model, take("label", null)),
      size: typeof size === "number" ? `${size}x${size}` : size, seed: take("seed", 0), locked: true,
      settings: formOf(settings, await schemaOf("sample")), start: image ? {id: image, url: place} : null,
      strength: take("strength", 0.6), parent: madeHere(item),
    });
    go("#/generate");
    if (modelNamed(model)) toast(`Settings of ${from} restored`);
    else toast(`Settings of ${from} restored. Its model, ${model}, is not here: choose another, or bring its run`,
      {kind: "error"});
  } catch (error) {
    complain(error);
  }
}

function restorePlot(model, {base = {}, x, y}) {
  const none = {setting: "", text: ""};
  const axis = (one) => (one ? {setting: one.setting.split(".").at(-1), text: one.values.join(", ")} : none);
  const {prompt = "", label = null, seed = 0, ...settings} = base;
  plotForm.value = {model, prompt, label, seed, settings, x: axis(x), y: axis(y)};
  go("#/plot");
}

const labelOf = (model, label) =>
  (typeof label === "number" ? modelNamed(model)?.classes?.[label] ?? null : label);

/** The recipe that lies in a file says its settings beside what it says about itself. */
const ofRecipe = ({verb, model, ...settings}) => ({kind: verb, model, settings, inputs: {}});

/** The link to a picture that was made here; an uploaded one has no job. */
const madeHere = ({id, job, url}) => (job ? {id, url} : null);

/** A picture to begin from: a made one, or an uploaded file. */
export function startFrom(picture) {
  set({start: {id: picture.id, url: picture.url}, parent: madeHere(picture)});
  go("#/generate");
  toast("The next pictures begin from this one");
}

/** A file that fell on the page: one of ours brings its settings back, another can be a start. */
export async function takeFile(file) {
  try {
    const {id, recipe} = await upload(file);
    if (recipe) return restore(ofRecipe(recipe), file.name);
    toast(`${file.name} holds no settings of unstir`,
      {action: {label: "Start from it", run: () => startFrom({id, url: `/api/files/${id}`})}});
  } catch (error) {
    complain(error);
  }
}
