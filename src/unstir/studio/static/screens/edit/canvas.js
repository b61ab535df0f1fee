/** The picture on a canvas: zoom with the wheel or two fingers, move with the middle button or space, paint a mask. */

import {onTheme} from "../../ui/colours.js";
import {html, useEffect, useLayoutEffect, useRef} from "../../ui/html.js";
import {draw} from "./draw.js";
import {View} from "./view.js";

const NONE = {left: 0, right: 0, top: 0, bottom: 0};

/**
 * @param {object} props
 * @param {HTMLImageElement} props.picture
 * @param {import("../../ui/brush.js").Mask|null} props.mask what is painted; null: this is not for painting
 * @param {number} props.version grows when the mask was changed from outside
 * @param {() => void} props.onPaint after a stroke
 * @param {{tool: "brush"|"eraser", size: number}} props.brush
 * @param {import("./draw.js").Sides|null} props.sides
 * @param {{current: object|null}} props.controls is given {zoom(factor), fit()}
 */
export function EditCanvas({picture, mask, version, onPaint, brush, sides, controls}) {
  const canvas = useRef(null);
  const props = useRef(null);
  props.current = {picture, mask, brush, sides, onPaint};
  const desk = useRef(null);

  useLayoutEffect(() => {
    desk.current = new Desk(canvas.current, () => props.current);
    controls.current = desk.current;
    return () => desk.current.close();
  }, []);
  useEffect(() => desk.current.fit(), [picture, JSON.stringify(sides)]);
  useEffect(() => desk.current.changed(), [mask, version]);
  useEffect(() => desk.current.redraw(), [brush.size]);

  const help = mask ? ". Paint with the pointer, or move with the arrow keys and press Enter" : "";
  return html`<canvas ref=${canvas} class=${`desk ${mask ? "paints" : ""}`} tabindex="0" role="application"
    aria-label=${`Picture, ${picture.width} by ${picture.height} pixels${help}`}></canvas>`;
}

/** What the pointer and the keys do to the canvas; it draws at most once a frame. */
class Desk {
  view = new View();
  /** @type {Map<number, {x: number, y: number}>} */
  pointers = new Map();
  painting = null;
  moving = false;
  space = false;
  at = null; // of the brush, in pixels of the picture
  paths = null;
  due = 0;

  /** @param {HTMLCanvasElement} canvas @param {() => object} props */
  constructor(canvas, props) {
    this.canvas = canvas;
    this.props = props;
    this.ended = new AbortController();
    const on = (target, name, take, options = {}) =>
      target.addEventListener(name, take.bind(this), {signal: this.ended.signal, ...options});
    on(canvas, "pointerdown", this.down);
    on(canvas, "pointermove", this.move);
    on(canvas, "pointerup", this.up);
    on(canvas, "pointercancel", this.up);
    on(canvas, "pointerleave", this.leave);
    on(canvas, "contextmenu", (event) => event.preventDefault());
    on(canvas, "wheel", this.wheel, {passive: false});
    on(canvas, "keydown", this.key);
    on(canvas, "keyup", (event) => event.key === " " && (this.space = false));
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(canvas);
    this.forget = onTheme(() => this.redraw());
  }

  close() {
    this.ended.abort();
    this.resized.disconnect();
    this.forget();
    cancelAnimationFrame(this.due);
  }

  // -- what others ask for
  fit() {
    const {picture, sides} = this.props();
    const {left, right, top, bottom} = sides ?? NONE;
    const all = {left: -left, top: -top, width: picture.width + left + right, height: picture.height + top + bottom};
    this.view.fit(all, {width: this.canvas.clientWidth, height: this.canvas.clientHeight});
    this.redraw();
  }

  zoom(factor) {
    this.view.zoom(factor, {x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2});
    this.redraw();
  }

  /** The mask is another one than was drawn. */
  changed() {
    this.paths = null;
    this.redraw();
  }

  redraw() {
    cancelAnimationFrame(this.due);
    this.due = requestAnimationFrame(() => {
      const {canvas, view} = this;
      const {picture, mask, brush, sides} = this.props();
      const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * devicePixelRatio));
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
      if (mask) this.paths ??= mask.paths();
      const ring = mask && this.at && {...this.at, size: brush.size};
      draw(canvas.getContext("2d"), {view, picture, paths: mask && this.paths, sides, brush: ring});
    });
  }

  // -- the pointer
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    if (this.pointers.size === 2) return this.takeBack();
    const {mask, brush} = this.props();
    this.moving = event.button === 1 || this.space || !mask;
    if (this.moving) return event.preventDefault();
    this.at = this.view.inside(this.place(event));
    this.painting = {from: this.at, erase: brush.tool === "eraser" || event.button === 2 || event.button === 5};
    mask.begin();
    return this.paint(this.at);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    const here = this.place(event);
    if (before) this.pointers.set(event.pointerId, here);
    if (this.pointers.size === 2) return before && this.pinch(event.pointerId, before, here);
    this.at = this.view.inside(here);
    if (this.painting) for (const each of coalesced(event)) this.paint(this.view.inside(this.place(each)));
    else if (this.moving && before) this.view.move(here.x - before.x, here.y - before.y);
    return this.redraw();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.moving = false;
    if (event.pointerType === "touch") this.at = null;
    if (this.painting) this.props().onPaint();
    this.painting = null;
    this.redraw();
  }

  leave() {
    if (!this.painting) this.at = null;
    this.redraw();
  }

  paint(to) {
    const {mask, brush} = this.props();
    mask.stroke(this.painting.from, to, brush.size, this.painting.erase);
    this.painting.from = to;
    this.changed();
  }

  /** A second finger: what the first one began was no stroke. */
  takeBack() {
    if (!this.painting) return;
    this.painting = null;
    this.props().mask.cancel();
    this.changed();
  }

  pinch(moved, before, here) {
    const [, other] = [...this.pointers].find(([id]) => id !== moved);
    const apart = (place) => Math.max(1, Math.hypot(place.x - other.x, place.y - other.y));
    this.view.move((here.x - before.x) / 2, (here.y - before.y) / 2);
    this.view.zoom(apart(here) / apart(before), {x: (here.x + other.x) / 2, y: (here.y + other.y) / 2});
    this.redraw();
  }

  wheel(event) {
    event.preventDefault();
    this.view.zoom(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), this.place(event));
    this.redraw();
  }

  // -- the keys, for who has no pointer
  key(event) {
    if (event.key === " ") {
      this.space = true;
      return event.preventDefault();
    }
    const {picture, mask, brush, onPaint} = this.props();
    const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key] ?? [0, 0];
    if (!mask || !(dx || dy || event.key === "Enter")) return undefined;
    event.preventDefault();
    this.at ??= {x: picture.width / 2, y: picture.height / 2};
    if (event.key === "Enter") {
      mask.begin();
      mask.stroke(this.at, this.at, brush.size, brush.tool === "eraser");
      onPaint();
      return this.changed();
    }
    const step = event.shiftKey ? Math.max(1, brush.size) : 1;
    this.at = {
      x: Math.min(picture.width - 0.5, Math.max(0.5, Math.floor(this.at.x) + 0.5 + dx * step)),
      y: Math.min(picture.height - 0.5, Math.max(0.5, Math.floor(this.at.y) + 0.5 + dy * step)),
    };
    return this.redraw();
  }
}

/** Where the pointer was since the last event, so that a fast stroke is round. */
function coalesced(event) {
  const events = event.getCoalescedEvents?.() ?? [];
  return events.length ? events : [event];
}
