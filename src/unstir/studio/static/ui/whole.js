/** Fields of whole numbers: how many pictures, and the seed. What is typed stays, as text where it is no number. */

import {html} from "./html.js";
import {randomSeed} from "./actions.js";
import {Field} from "./form.js";
import {Button} from "./parts.js";

const PICTURES = {least: 1, most: 64};
const SEEDS = {least: 0, most: Number.MAX_SAFE_INTEGER};

const wrong = (value, {least, most}) => (Number.isInteger(value) && value >= least && value <= most ? null
  : `a whole number from ${least} to ${most}`);

/** What is wrong with either, or null. @param {{n?: number | string, seed: number | string}} form */
export function wrongNumber({n = 1, seed}) {
  const found = [["pictures", wrong(n, PICTURES)], ["seed", wrong(seed, SEEDS)]].find(([, problem]) => problem);
  return found ? found.join(": ") : null;
}

/** "7" -> 7; larger numbers than JavaScript counts to are no numbers. */
const read = (text) => (/^\d+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : text);

const Typed = ({value, onChange, ...rest}) => html`<input ...${rest} type="text" inputmode="numeric"
  autocomplete="off" value=${value} onInput=${(event) => onChange(read(event.target.value.trim()))} />`;

/** - 4 + */
export function Count({value, onChange, hint, error}) {
  const by = (step) => {
    const {least, most} = PICTURES;
    onChange(Math.max(least, Math.min(most, (Number(value) || least) + step)));
  };
  return html`<${Field} label="Pictures" hint=${hint} error=${error ?? wrong(value, PICTURES)}>
    ${(ids) => html`<div class="stepper">
      <${Button} kind="quiet" label="One picture less" disabled=${value <= PICTURES.least} onClick=${() => by(-1)}>−<//>
      <${Typed} ...${ids} value=${value} onChange=${onChange} data-testid="n" />
      <${Button} kind="quiet" label="One picture more" disabled=${value >= PICTURES.most} onClick=${() => by(1)}>+<//>
    </div>`}<//>`;
}

/** A seed that stays the same. */
export const FixedSeed = ({value, onChange, hint}) =>
  html`<${Field} label="Seed" hint=${hint} error=${wrong(value, SEEDS)}>
    ${(ids) => html`<${Typed} ...${ids} value=${value} onChange=${onChange} />`}<//>`;

/** A seed, kept or a new one each time. `set` takes {seed, locked}. */
export const Seed = ({value, locked, set, hint, error}) =>
  html`<${Field} label="Seed" hint=${hint} error=${error ?? wrong(value, SEEDS)}>
    ${(ids) => html`<div class="joined">
      <${Typed} ...${ids} value=${value} onChange=${(seed) => set({seed, locked: true})} data-testid="seed" />
      <${Button} icon=${locked ? "lock" : "unlock"} kind="quiet" label="Keep the seed" aria-pressed=${locked}
        data-testid="seed-lock" onClick=${() => set({locked: !locked})} />
      <${Button} icon="dice" kind="quiet" label="Another seed" data-testid="seed-random"
        onClick=${() => set({seed: randomSeed()})} /></div>`}<//>`;
