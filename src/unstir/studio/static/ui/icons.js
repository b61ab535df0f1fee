/** Line icons on a grid of 24, drawn in the colour of the text. */

import {html} from "./html.js";

const PATHS = {
  generate: "M12 3l1.9 5.1L19 10l-5.1 1.9L12 17l-1.9-5.1L5 10l5.1-1.9zM19 16l.8 2.2L22 19l-2.2.8L19 22l-.8-2.2L16 19l2.2-.8z",
  edit: "M4 20l1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19zM14.5 6.5l3 3",
  gallery: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  plot: "M4 4v16h16M8 16l3-4 3 2 5-7",
  train: "M4 18c4 0 4-12 8-12s4 9 8 9M4 21h16",
  understand: "M12 3a6 6 0 0 0-3.5 10.9c.6.5 1 1.2 1 2.1h5c0-.9.4-1.6 1-2.1A6 6 0 0 0 12 3zM10 19h4M10.5 21.5h3",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M19 5l-1.4 1.4M6.4 17.6L5 19",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  auto: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M12 7l6.5-1M12 12h9M12 17l6.5 1",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V7a3.5 3.5 0 0 1 6.6-1.6",
  dice: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM8.5 8.5h.01M15.5 8.5h.01M12 12h.01M8.5 15.5h.01M15.5 15.5h.01",
  star: "M12 3.5l2.6 5.6 6.1.7-4.5 4.2 1.2 6L12 17l-5.4 3 1.2-6-4.5-4.2 6.1-.7z",
  download: "M12 4v11M7.5 11L12 15.5 16.5 11M4 20h16",
  upload: "M12 16V5M7.5 9L12 4.5 16.5 9M4 20h16",
  trash: "M5 7h14M10 4h4M7 7l1 13h8l1-13M10.5 11v5.5M13.5 11v5.5",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  plus: "M12 5v14M5 12h14",
  more: "M5 11.5h1v1H5zM11.5 11.5h1v1h-1zM18 11.5h1v1h-1z",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  compare: "M12 3v18M5 6h4v12H5zM15 6h4v12h-4z",
  subtle: "M4 14c3-3 5-3 8 0s5 3 8 0M4 9c3-3 5-3 8 0s5 3 8 0",
  strong: "M3 12l4-8 5 16 5-16 4 8",
  upscale: "M14 4h6v6M20 4l-7 7M10 20H4v-6M4 20l7-7",
  start: "M4 5h11v14H4zM18 12h4M19.5 9.5L22 12l-2.5 2.5M4 15l4-4 4 4",
  restore: "M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5",
  board: "M4 6h6l2 2h8v11H4z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5",
  left: "M14.5 5l-7 7 7 7",
  right: "M9.5 5l7 7-7 7",
  up: "M5 14.5l7-7 7 7",
  down: "M5 9.5l7 7 7-7",
  out_left: "M20 4h-7v16h7M9 12H2M5 9l-3 3 3 3",
  out_right: "M4 4h7v16H4M15 12h7M19 9l3 3-3 3",
  out_top: "M4 20v-7h16v7M12 9V2M9 5l3-3 3 3",
  out_bottom: "M4 4v7h16V4M12 15v7M9 19l3 3 3-3",
  play: "M7 4.5v15l12-7.5z",
  pause: "M8 5v14M16 5v14",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v6M12 7.5h.01",
  warning: "M12 4L2.5 20h19zM12 10v4.5M12 17.3h.01",
  undo: "M8 5L4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "M16 5l4 4-4 4M20 9H10a6 6 0 0 0 0 12h3",
  brush: "M20 4c-5 2-9 6-10.5 9l1.5 1.5C14 13 18 9 20 4zM8.5 14.5c-3 0-2.5 4-5 5 3 1.5 7 .5 6.5-3.5",
  eraser: "M8 20l-5-5L13 5l6 6-9 9zM8.5 9.5l6 6M8 20h12",
  invert: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  zoom_in: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5M8 11h6M11 8v6",
  zoom_out: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5M8 11h6",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  queue: "M4 6h16M4 12h16M4 18h10",
};

/** @param {{name: keyof typeof PATHS, filled?: boolean, size?: number}} props  Said by the text or the label beside it. */
export function Icon({name, filled = false, size = 18}) {
  return html`<svg class="icon" viewBox="0 0 24 24" width=${size} height=${size}
    fill=${filled ? "currentColor" : "none"}
    stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"
      aria-hidden="true">
    <path d=${PATHS[name]} /></svg>`;
}
