/** Draws what is being edited: the picture, its mask, the border to be added, the brush. */

import {colour} from "../../ui/colours.js";

/** @typedef {{left: number, right: number, top: number, bottom: number}} Sides */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {object} scene
 * @param {import("./view.js").View} scene.view
 * @param {CanvasImageSource & {width: number, height: number}} scene.picture
 * @param {{area: Path2D, border: Path2D}|null} scene.paths of the mask, where one is painted
 * @param {Sides|null} scene.sides the border to be added
 * @param {{x: number, y: number, size: number}|null} scene.brush in pixels of the picture
 */
export function draw(context, {view, picture, paths, sides, brush}) {
  const ratio = devicePixelRatio;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
  context.imageSmoothingEnabled = view.scale < 1;
  const hair = 1 / view.scale;
  if (sides) added(context, picture, sides, hair);
  context.drawImage(picture, 0, 0);
  if (paths) masked(context, paths, hair);
  if (brush) ring(context, brush, hair);
}

function masked(context, {area, border}, hair) {
  context.fillStyle = colour("--mask");
  context.globalAlpha = 0.5;
  context.fill(area);
  context.globalAlpha = 1;
  twice(context, hair, () => context.stroke(border));
}

function ring(context, {x, y, size}, hair) {
  context.beginPath();
  context.arc(x, y, size / 2, 0, 2 * Math.PI);
  twice(context, hair, () => context.stroke());
}

/** A dark line in a light one: seen on any picture. */
function twice(context, hair, stroke) {
  for (const [width, ink] of [[3, "rgb(255 255 255 / 0.9)"], [1.25, "rgb(0 0 0 / 0.85)"]]) {
    context.lineWidth = width * hair;
    context.strokeStyle = ink;
    stroke();
  }
}

function added(context, {width, height}, {left, right, top, bottom}, hair) {
  context.beginPath();
  context.rect(-left, -top, width + left + right, height + top + bottom);
  context.fillStyle = colour("--mask");
  context.globalAlpha = 0.25;
  context.fill();
  context.globalAlpha = 1;
  context.setLineDash([6 * hair, 4 * hair]);
  context.lineWidth = 1.5 * hair;
  context.strokeStyle = colour("--mask");
  context.stroke();
  context.setLineDash([]);
}
