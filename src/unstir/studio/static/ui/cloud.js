/** Points in the plane that move from frame to frame, and the arrows of the field that moves them. */

import {colour, onTheme} from "./colours.js";
import {html, useEffect, useLayoutEffect, useRef} from "./html.js";
import {Player} from "./player.js";

/** @typedef {{label: string, points: number[][], arrows: number[][]|null}} Frame */
/** @typedef {{title: string, x: number[], y: number[], frames: Frame[], groups: number[]|null, fps: number}} CloudData */

/** @param {{cloud: CloudData, autoplay?: boolean}} props */
export function Cloud({cloud, autoplay = true}) {
  return html`<figure class="cloud">
    <figcaption>${cloud.title}</figcaption>
    <${Player} count=${cloud.frames.length} labels=${cloud.frames.map((frame) => frame.label)} fps=${cloud.fps}
      label=${cloud.title} autoplay=${autoplay}>
      ${(k) => html`<${Plane} cloud=${cloud} frame=${cloud.frames[k]} />`}
    <//>
  </figure>`;
}

/** @param {{cloud: CloudData, frame: Frame}} props */
function Plane({cloud, frame}) {
  const canvas = useRef(null);
  const latest = useRef(null);
  latest.current = () => draw(canvas.current, cloud, frame);
  useEffect(() => latest.current(), [cloud, frame]);
  useLayoutEffect(() => { // ends before the canvas is gone
    const again = () => latest.current();
    const resized = new ResizeObserver(again);
    resized.observe(canvas.current);
    const forget = onTheme(again);
    return () => {
      resized.disconnect();
      forget();
    };
  }, []);
  const arrows = frame.arrows ? ` and ${frame.arrows.length} arrows` : "";
  return html`<canvas ref=${canvas} class="plane" role="img"
    aria-label=${`${cloud.title}, ${frame.label}: ${frame.points.length} points${arrows}`}></canvas>`;
}

/** @param {HTMLCanvasElement} canvas @param {CloudData} cloud @param {Frame} frame */
function draw(canvas, cloud, frame) {
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (!side) return;
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const [left, right] = cloud.x;
  const [bottom, top] = cloud.y;
  const across = (x) => ((x - left) / (right - left)) * side;
  const down = (y) => ((top - y) / (top - bottom)) * side;
  context.clearRect(0, 0, side, side);
  axes(context, across(0), down(0), side);
  if (frame.arrows) arrows(context, frame.arrows, across, down, side);
  context.globalAlpha = 0.75;
  const radius = Math.max(1.2, Math.min(3, 90 / Math.sqrt(frame.points.length))) * devicePixelRatio;
  const inks = Array.from({length: 8}, (_, k) => colour(`--series-${k + 1}`));
  frame.points.forEach(([x, y], k) => {
    context.fillStyle = inks[(cloud.groups?.[k] ?? 0) % 8];
    context.beginPath();
    context.arc(across(x), down(y), radius, 0, 2 * Math.PI);
    context.fill();
  });
  context.globalAlpha = 1;
}

function axes(context, x, y, side) {
  context.strokeStyle = colour("--line");
  context.lineWidth = devicePixelRatio;
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, side);
  context.moveTo(0, y);
  context.lineTo(side, y);
  context.stroke();
}

/** Arrows [x, y, dx, dy], all scaled alike so that the longest fits the space between two of them. */
function arrows(context, field, across, down, side) {
  const longest = Math.max(...field.map(([, , dx, dy]) => Math.hypot(dx, dy)), 1e-9);
  const room = side / Math.max(2, Math.sqrt(field.length));
  context.strokeStyle = colour("--muted");
  context.lineWidth = 1.2 * devicePixelRatio;
  context.globalAlpha = 0.7;
  context.beginPath();
  for (const [x, y, dx, dy] of field) {
    const size = Math.hypot(dx, dy);
    // the square root: a score is far longer at the edge than where the data is, and both should be seen
    const length = size ? (room * Math.sqrt(size / longest)) / size : 0;
    const [fromX, fromY] = [across(x), down(y)];
    const [byX, byY] = [dx * length, -dy * length];
    const [toX, toY] = [fromX + byX, fromY + byY];
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
    context.moveTo(toX - 0.3 * byX - 0.18 * byY, toY - 0.3 * byY + 0.18 * byX);
    context.lineTo(toX, toY);
    context.lineTo(toX - 0.3 * byX + 0.18 * byY, toY - 0.3 * byY - 0.18 * byX);
  }
  context.stroke();
  context.globalAlpha = 1;
}
