/** Where a picture lies on a canvas: how far it is scaled up, and moved. Places are in pixels of the page. */

const SMALLEST = 0.1;
const LARGEST = 64;

export class View {
  scale = 1;
  x = 0;
  y = 0;

  /** All of a rectangle in the middle; scaled by a whole number where that makes pixels of equal size. */
  fit({left, top, width, height}, room) {
    const scale = Math.min((room.width - 24) / width, (room.height - 24) / height);
    this.scale = scale >= 2 ? Math.floor(scale) : Math.max(scale, SMALLEST);
    this.x = Math.round((room.width - width * this.scale) / 2 - left * this.scale);
    this.y = Math.round((room.height - height * this.scale) / 2 - top * this.scale);
  }

  /** What is at `place` stays there. */
  zoom(factor, place) {
    const scale = Math.min(LARGEST, Math.max(SMALLEST, this.scale * factor));
    this.x = place.x - ((place.x - this.x) * scale) / this.scale;
    this.y = place.y - ((place.y - this.y) * scale) / this.scale;
    this.scale = scale;
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
  }

  /** The place in pixels of the picture. */
  inside({x, y}) {
    return {x: (x - this.x) / this.scale, y: (y - this.y) / this.scale};
  }
}
