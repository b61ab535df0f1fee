/** The job that the Generate form asks for: pure, so that what is shown and what is sent cannot differ. */

import {parse, settingsOf} from "./flags.js";
import {find, flatten, leaves, problem} from "./form.js";
import {wrongNumber} from "./whole.js";
import {title} from "./words.js";

/** The flags in the prompt, and what they set. */
export function flagsOf(form, model) {
  const {prompt, flags} = model?.prompt ? parse(form.prompt, model) : {prompt: "", flags: []};
  const guidance = find(form.settings, "guidance") ?? model?.defaults?.guidance ?? 1;
  return {prompt, flags, set: settingsOf(flags, model, guidance)};
}

/** {kind, model, settings, inputs, parent}; flags count more than fields. */
export function requestOf(form, model) {
  const {prompt, set} = flagsOf(form, model);
  const {steps, guidance, ...plain} = set;
  const parent = form.parent?.id ?? null;
  const reads = model.prompt || model.classes?.length > 0;
  const settings = flatten({
    ...form.settings, n: form.n, seed: form.seed, prompt: prompt || null,
    label: model.classes?.length ? form.label : null, negative: (reads && form.negative) || null,
    ...(form.start ? {strength: form.strength} : {size: form.size}), ...plain,
  });
  if (steps !== undefined) settings["sampling.steps"] = steps;
  if (guidance !== undefined) settings["sampling.guidance"] = guidance;
  if (!form.start) return {kind: "sample", model: model.name, settings, inputs: {}, parent};
  delete settings.size;
  return {kind: "edit", model: model.name, settings, inputs: {image: form.start.id}, parent};
}

/** Why the form cannot be sent, or null. */
export function obstacle(form, model, schema) {
  if (!model) return form.model ? `${form.model} is not here: choose a model` : "choose a model";
  if (flagsOf(form, model).flags.some((flag) => flag.error)) return "a flag in the prompt is not right";
  const odd = wrongNumber(form);
  if (odd) return odd;
  if (form.size && !/^\d+x\d+$/.test(form.size)) return "the size is width x height, such as 96x64";
  for (const {path, name, ask} of schema ? leaves(schema) : []) {
    const wrong = problem(ask, find(form.settings, path));
    if (wrong) return `${title(name)}: ${wrong}`;
  }
  return null;
}
