/** The records of a run's log as curves. */

/** @typedef {{step: number, loss?: number, heldout_loss?: number, heldout_levels?: number[], per_second?: number}} Row */

const POINTS = 300;
const LEVELS_SHOWN = 4;

/** Training loss, averaged where steps are many, and the held-out loss. @param {Row[]} rows */
export function lossCurves(rows) {
  const train = rows.filter((row) => typeof row.loss === "number");
  const held = rows.filter((row) => typeof row.heldout_loss === "number");
  const width = Math.max(1, Math.ceil(train.length / POINTS));
  const means = [];
  for (let k = 0; k < train.length; k += width) {
    const part = train.slice(k, k + width);
    means.push({step: part.at(-1).step, loss: part.reduce((sum, row) => sum + row.loss, 0) / part.length});
  }
  const shown = means.slice(Math.floor(means.length / 50)); // the first steps fall from 1 and would flatten the rest
  return [
    {name: "training", x: shown.map((row) => row.step), values: shown.map((row) => row.loss)},
    {name: "held out", x: held.map((row) => row.step), values: held.map((row) => row.heldout_loss)},
  ].filter((curve) => curve.values.length);
}

/** The held-out loss at ten noise levels: first, latest, and some between. @param {Row[]} rows */
export function levelCurves(rows) {
  const measured = [...new Map(rows.filter((row) => row.heldout_levels).map((row) => [row.step, row])).values()];
  const last = measured.length - 1;
  const picked = new Set(Array.from({length: LEVELS_SHOWN}, (_, k) => Math.round((k * last) / (LEVELS_SHOWN - 1))));
  return measured.filter((_, k) => picked.has(k)).map(({step, heldout_levels: values}) => ({
    name: `step ${step.toLocaleString("en-US")}`,
    x: values.map((_, k) => (k + 0.5) / values.length),
    values,
  }));
}

/** Samples per second, of late. @param {Row[]} rows */
export const speed = (rows) => rows.findLast((row) => row.per_second)?.per_second ?? null;
