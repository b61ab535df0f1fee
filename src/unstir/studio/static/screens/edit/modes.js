/** What can be done to a picture, and the job that each makes of the form. */

import {flatten} from "../../ui/form.js";

/** @typedef {import("./draw.js").Sides} Sides */
/**
 * @typedef {object} Form what is chosen; kept as a draft
 * @property {string} mode
 * @property {string|null} model
 * @property {string} prompt
 * @property {string} negative
 * @property {string|null} label
 * @property {number} seed
 * @property {boolean} locked keep the seed; else each click takes a new one
 * @property {number} n
 * @property {{strength: number, feather: number|null}} inpaint
 * @property {{strength: number}} image
 * @property {Sides} outpaint
 * @property {{operator: {name: string}, std: number}} restore
 * @property {{scale: number|null}} upscale
 * @property {Record<string, object>} advanced by kind of job
 */

/** @type {Form} */
export const FORM = {
  mode: "inpaint",
  model: null,
  prompt: "",
  negative: "",
  label: null,
  seed: 0,
  locked: false,
  n: 1,
  inpaint: {strength: 1, feather: null},
  image: {strength: 0.6},
  outpaint: {left: 0, right: 16, top: 0, bottom: 0},
  restore: {operator: {name: "Blur"}, std: 0},
  upscale: {scale: null},
  advanced: {},
};

/**
 * @typedef {object} Mode
 * @property {string} id
 * @property {string} label
 * @property {string} icon
 * @property {string} verb on the button
 * @property {string} kind of the job
 * @property {string[]} tasks of models that can do it
 * @property {(form: Form) => object} settings of its own
 * @property {(form: Form, picture: {width: number, height: number}, model: object) => number[]} [becomes]
 *   width and height of what comes out, where it is another size than the picture
 * @property {(state: {form: Form, mask: object}) => string} lacks what is still to be done; "" = it can begin
 */

/** How many times larger; NaN where only the model knows, which was trained for it. */
const scaleOf = (scale, {task}) => scale ?? (task === "upscale" ? NaN : 2);
const strength = (value) => (value < 1 ? {strength: value} : {});
const sides = (form) => Object.entries(form.outpaint).filter(([, pixels]) => pixels > 0);

/** @type {Mode[]} */
export const MODES = [
  {
    id: "inpaint",
    label: "Inpaint",
    icon: "brush",
    verb: "Repaint",
    kind: "edit",
    tasks: ["generate", "inpaint"],
    settings: ({inpaint}) => ({...strength(inpaint.strength), ...(inpaint.feather ? {feather: inpaint.feather} : {})}),
    lacks: ({mask}) => (mask.empty ? "Paint over what is to be made anew." : ""),
  },
  {
    id: "image",
    label: "Image to image",
    icon: "start",
    verb: "Change",
    kind: "edit",
    tasks: ["generate"],
    settings: ({image}) => ({strength: image.strength}),
    lacks: () => "",
  },
  {
    id: "outpaint",
    label: "Outpaint",
    icon: "out_right",
    verb: "Extend",
    kind: "edit",
    tasks: ["generate", "inpaint"],
    settings: (form) => ({extend: sides(form).map(([side, pixels]) => `${side}:${pixels}`).join(",")}),
    becomes: ({outpaint: {left, right, top, bottom}}, {width, height}) => [width + left + right, height + top + bottom],
    lacks: ({form}) => (sides(form).length ? "" : "Say by how many pixels, on which side."),
  },
  {
    id: "restore",
    label: "Restore",
    icon: "restore",
    verb: "Restore",
    kind: "restore",
    tasks: ["generate"],
    settings: ({restore}) => ({operator: restore.operator, ...(restore.std ? {std: restore.std} : {})}),
    lacks: () => "",
  },
  {
    id: "upscale",
    label: "Upscale",
    icon: "upscale",
    verb: "Make larger",
    kind: "upscale",
    tasks: ["generate", "upscale"],
    settings: ({upscale}) => (upscale.scale ? {scale: upscale.scale} : {}),
    becomes: ({upscale}, {width, height}, model) => [width, height].map((side) => side * scaleOf(upscale.scale, model)),
    lacks: () => "",
  },
];

/** The job that does it to `image`. @param {Form} form @param {Mode} mode @param {object} model @param {{image: string, mask?: string}} inputs */
export function jobOf(form, mode, model, inputs) {
  const words = {
    ...(model.prompt && form.prompt.trim() ? {prompt: form.prompt.trim()} : {}),
    ...(model.prompt && form.negative.trim() ? {negative: form.negative.trim()} : {}),
    ...(model.classes?.includes(form.label) ? {label: form.label} : {}),
  };
  const settings = {n: form.n, seed: form.seed, ...words, ...mode.settings(form), ...flatten(form.advanced[mode.kind] ?? {})};
  return {kind: mode.kind, model: model.name, settings, inputs};
}

/** Whether a model can do it. @param {Mode} mode */
export const able = (mode) => (model) => model.kind === "image" && mode.tasks.includes(model.task);

/** The names of settings that the panel has controls for; the others are in the drawer. */
export const OWN = ["n", "seed", "label", "prompt", "negative", "strength", "feather", "extend", "scale", "operator", "std"];
