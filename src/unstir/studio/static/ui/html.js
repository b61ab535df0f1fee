/** Preact, its hooks and signals, and `html`, JSX as a template string: the one place that knows where they lie. */

import {h} from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export const html = htm.bind(h);
export {h, render, Fragment, createRef} from "../vendor/preact.js";
export * from "../vendor/hooks.js";
export {signal, computed, effect, batch, untracked, useSignal, useComputed,
  useSignalEffect} from "../vendor/signals.js";
