/** Curves on axes: uPlot, in the colours of the page, as wide as there is room. */

import uPlot from "../vendor/uplot.js";
import {html, useEffect, useLayoutEffect, useRef} from "./html.js";
import {colour, onTheme} from "./colours.js";

/** @typedef {{label: string, log?: boolean}} Axis */
/** @typedef {{name: string, values: (number|null)[], x?: number[]}} Curve  `x` where it has its own */

/**
 * @param {{title?: string, x: Axis & {values?: number[]}, y: Axis, curves: Curve[], height?: number}} props
 */
export function Chart({title, x, y, curves, height = 260}) {
  const place = useRef(null);
  const drawn = useRef(/** @type {{plot: uPlot, kind: string}|null} */ (null));
  const kind = JSON.stringify([curves.map((curve) => curve.name), x.label, x.log, y.label, y.log, height]);

  useEffect(() => {
    const data = columns(x, curves, y.log);
    if (drawn.current?.kind === kind) {
      drawn.current.plot.setData(data);
      return;
    }
    drawn.current?.plot.destroy();
    const width = place.current.clientWidth;
    drawn.current = {plot: new uPlot(options(x, y, curves, width, height), data, place.current), kind};
  }, [x, y, curves, kind]);

  // its end comes before the place is gone, which that of `useEffect` does not
  useLayoutEffect(() => {
    const resized = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width > 0 && drawn.current && drawn.current.plot.width !== width) {
        drawn.current.plot.setSize({width, height});
      }
    });
    resized.observe(place.current);
    const forget = onTheme(() => drawn.current?.plot.redraw());
    return () => {
      resized.disconnect();
      forget();
      drawn.current?.plot.destroy();
      drawn.current = null;
    };
  }, []);

  return html`<figure class="chart">
    ${title && html`<figcaption>${title}</figcaption>`}
    <div ref=${place} role="img" aria-label=${summary(title, x, y, curves)}></div>
  </figure>`;
}

const FEW = 25; // points that are drawn as points
const DECADES = 12; // shown on a logarithmic axis at most

/** The ends of a logarithmic axis, at whole powers of ten. */
function logRange(_, low, high) {
  const top = Math.ceil(Math.log10(high ?? 1));
  const bottom = Math.max(Math.floor(Math.log10(low ?? 0.1)), top - DECADES);
  return [10 ** Math.min(bottom, top - 1), 10 ** top];
}

/** Powers of ten, so many that their labels do not touch. */
function logTicks(_, __, low, high) {
  const [from, to] = [low, high].map((end) => Math.round(Math.log10(end)));
  const by = Math.ceil((to - from) / 6);
  return Array.from({length: Math.floor((to - from) / by) + 1}, (___, k) => 10 ** (from + k * by));
}

/** All curves over the union of their x, as uPlot wants them; on a logarithmic axis what is not above 0 is left out. */
function columns(x, curves, log) {
  const clean = (values) => (log ? values.map((value) => (value > 0 ? value : null)) : values);
  if (curves.every((curve) => !curve.x)) return [x.values, ...curves.map((curve) => clean(curve.values))];
  return uPlot.join(curves.map((curve) => [curve.x ?? x.values, clean(curve.values)]));
}

function options(x, y, curves, width, height) {
  const axis = (of, size) => ({
    label: of.label,
    stroke: () => colour("--muted"),
    grid: {stroke: () => colour("--line"), width: 1},
    ticks: {stroke: () => colour("--line"), width: 1, size: 4},
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 18,
    size,
    values: (_, ticks) => ticks.map((tick) => (of.log ? power(tick) : number(tick))),
    ...(of.log ? {splits: logTicks} : {}),
  });
  const yRange = {min: {pad: 0.06, soft: 0, mode: 2}, max: {pad: 0.06}};
  return {
    width,
    height,
    padding: [8, 22, 0, 0],
    scales: {
      x: {time: false, ...(x.log ? {distr: 3, range: logRange} : {})},
      y: y.log ? {distr: 3, range: logRange} : {range: yRange},
    },
    axes: [axis(x, 30), axis(y, 54)],
    series: [
      {label: x.label, value: read},
      ...curves.map(({name: label}, k) => ({
        label,
        stroke: () => colour(`--series-${(k % 8) + 1}`),
        width: 1.75,
        spanGaps: true,
        pxAlign: 0,
        points: {fill: () => colour("--surface"), show: (plot, index) => plot.data[index].filter((value) => value !== null).length < FEW},
        value: read,
      })),
    ],
    legend: {markers: {width: 0, fill: (_, k) => `var(--series-${((k - 1) % 8) + 1})`}},
    cursor: {drag: {x: false, y: false}, points: {size: 7}},
  };
}

/** The value under the pointer; nothing where there is none. */
const read = (_, value) => (value === null || value === undefined ? "" : number(value));

const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
/** 0.001 -> 10⁻³ */
function power(tick) {
  const exponent = Math.round(Math.log10(tick));
  return `10${exponent < 0 ? "⁻" : ""}${[...String(Math.abs(exponent))].map((digit) => RAISED[digit]).join("")}`;
}

/** A number in few digits. @param {number|null|undefined} value */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en-US");
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** What the picture says, for who does not see it. */
function summary(title, x, y, curves) {
  const ends = curves.map(({name, values}) => {
    const known = values.filter((value) => value !== null);
    return known.length ? `${name} from ${number(known[0])} to ${number(known.at(-1))}` : `${name}, nothing yet`;
  });
  return `${title ? `${title}: ` : ""}${y.label} over ${x.label}. ${ends.join("; ")}.`;
}
