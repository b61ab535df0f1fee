/** A mask at the resolution of a picture, painted with a round brush: what is done to it can be undone. */

const STEPS = 100; // that can be undone,
const BYTES = 5e7; // or fewer of a large picture

/** What is to be painted anew: 255, and 0 elsewhere. */
export class Mask {
  /** @param {number} width @param {number} height */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.values = new Uint8Array(width * height);
    /** @type {Uint8Array[]} */
    this.past = [];
    /** @type {Uint8Array[]} */
    this.future = [];
  }

  get empty() {
    return !this.values.includes(255);
  }

  /** Share of the picture that is masked. */
  get share() {
    return this.values.reduce((sum, value) => sum + value, 0) / 255 / this.values.length;
  }

  /** Remember how it is: what follows is one step of undo. */
  begin() {
    this.past.push(this.values.slice());
    if (this.past.length > Math.min(STEPS, BYTES / this.values.length)) this.past.shift();
    this.future = [];
  }

  /** It is as if nothing had been begun. */
  cancel() {
    this.values = this.past.pop() ?? this.values;
  }

  undo() {
    this.#swap(this.past, this.future);
  }

  redo() {
    this.#swap(this.future, this.past);
  }

  #swap(from, to) {
    const values = from.pop();
    if (!values) return;
    to.push(this.values);
    this.values = values;
  }

  clear() {
    this.begin();
    this.values.fill(0);
  }

  invert() {
    this.begin();
    this.values = this.values.map((value) => 255 - value);
  }

  /**
   * A stroke of the brush from one place to the next, in pixels of the picture.
   * @param {{x: number, y: number}} from
   * @param {{x: number, y: number}} to
   * @param {number} size its diameter
   * @param {boolean} erase
   */
  stroke(from, to, size, erase) {
    const radius = Math.max(size, 1) / 2;
    const [left, right] = span(from.x, to.x, radius, this.width);
    const [top, bottom] = span(from.y, to.y, radius, this.height);
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const square = dx * dx + dy * dy;
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const [x, y] = [column + 0.5 - from.x, row + 0.5 - from.y];
        const along = square ? Math.max(0, Math.min(1, (x * dx + y * dy) / square)) : 0;
        const near = Math.hypot(x - along * dx, y - along * dy) <= radius;
        if (near || this.#holds(column, row, to)) this.values[row * this.width + column] = erase ? 0 : 255;
      }
    }
  }

  /** The pixel under the pointer is painted by the smallest brush as well. */
  #holds(column, row, {x, y}) {
    return Math.floor(x) === column && Math.floor(y) === row;
  }

  /** White where it is 255, black elsewhere. */
  #canvas() {
    const canvas = Object.assign(document.createElement("canvas"), {width: this.width, height: this.height});
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.width, this.height);
    const whole = new Uint32Array(pixels.data.buffer);
    this.values.forEach((value, k) => (whole[k] = value ? 0xffffffff : 0xff000000));
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /** @returns {Promise<Blob>} */
  toPng() {
    return new Promise((resolve) => this.#canvas().toBlob(resolve, "image/png"));
  }

  toDataUrl() {
    return this.#canvas().toDataURL("image/png");
  }

  /** What is light in a picture of the same size. @param {CanvasImageSource} picture */
  read(picture) {
    const canvas = Object.assign(document.createElement("canvas"), {width: this.width, height: this.height});
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    const {data} = context.getImageData(0, 0, this.width, this.height);
    this.values = this.values.map((_, k) => (data[4 * k] > 127 ? 255 : 0));
  }

  /** The lines between what is masked and what is not, and the mask itself, as paths in pixels of the picture. */
  paths() {
    const area = new Path2D();
    const border = new Path2D();
    const at = (x, y) => x >= 0 && y >= 0 && x < this.width && y < this.height && this.values[y * this.width + x] > 0;
    for (let y = 0; y <= this.height; y++) {
      let begun = -1;
      for (let x = 0; x <= this.width; x++) {
        const here = at(x, y);
        if (here && begun < 0) begun = x;
        if (!here && begun >= 0) {
          area.rect(begun, y, x - begun, 1);
          begun = -1;
        }
        if (here !== at(x - 1, y)) line(border, x, y, x, y + 1);
        if (here !== at(x, y - 1)) line(border, x, y, x + 1, y);
      }
    }
    return {area, border};
  }
}

/** The pixels that a stroke between two coordinates can reach. */
function span(a, b, radius, size) {
  const low = Math.floor(Math.min(a, b) - radius);
  const high = Math.ceil(Math.max(a, b) + radius);
  return [Math.max(0, low), Math.min(size - 1, high)];
}

function line(path, x, y, toX, toY) {
  path.moveTo(x, y);
  path.lineTo(toX, toY);
}
