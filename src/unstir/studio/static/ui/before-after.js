/** Two pictures of one scene under a slider: left of it the one before, right of it the one after. */

import {html, useState} from "./html.js";

/**
 * @param {object} props
 * @param {{url: string, alt: string}} props.before
 * @param {{url: string, alt: string, width: number, height: number}} props.after
 * @param {object} [props.style] of the picture before, where it covers only a part
 * @param {string} [props.pixels] the class of pictures whose pixels are to be seen
 */
export function BeforeAfter({before, after, style = {}, pixels = ""}) {
  const [share, setShare] = useState(50);
  return html`<div class="compare" style=${{aspectRatio: `${after.width} / ${after.height}`}}>
    <img class=${`after ${pixels}`} src=${after.url} alt=${after.alt} />
    <div class="before-part" style=${{clipPath: `inset(0 ${100 - share}% 0 0)`}}>
      <img class=${`before ${pixels}`} src=${before.url} alt=${before.alt} style=${style} /></div>
    <span class="tag" aria-hidden="true">before</span><span class="tag" aria-hidden="true">after</span>
    <i style=${{left: `${share}%`}} />
    <input type="range" min="0" max="100" step="0.5" value=${share} aria-label="How much of the picture before is shown"
      onInput=${(event) => setShare(Number(event.target.value))} />
  </div>`;
}

/**
 * Where the old picture lies in one that was extended, as a style.
 * @param {{extend?: string}} settings of the one after, such as "right:16"
 */
export function placed({extend}, before, after) {
  if (!extend) return {};
  const by = Object.fromEntries(extend.split(",").map((part) => part.split(":")));
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  return {
    left: percent(Number(by.left ?? 0), after.width),
    top: percent(Number(by.top ?? 0), after.height),
    width: percent(before.width, after.width),
    height: percent(before.height, after.height),
  };
}
