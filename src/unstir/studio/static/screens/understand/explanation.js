/** Draws an explanation: what it says, its clouds, movies, pictures, charts and table. */

import {Chart, number} from "../../ui/chart.js";
import {Cloud} from "../../ui/cloud.js";
import {html} from "../../ui/html.js";
import {Player} from "../../ui/player.js";

/** @param {{explanation: object}} props */
export function Explanation({explanation}) {
  const {title, text, charts = [], clouds = [], movies = [], pictures = [], table} = explanation;
  return html`<article class="explanation">
    <h2>${title}</h2>
    <p class="explanation-text">${text}</p>
    <div class="figures">
      ${clouds.map((cloud) => html`<${Cloud} key=${cloud.title} cloud=${cloud} />`)}
      ${movies.map((movie) => html`<${Movie} key=${movie.title} movie=${movie} />`)}
      ${pictures.map((picture) => html`<${Picture} key=${picture.title} picture=${picture} />`)}
      ${charts.map((chart) => html`<${Chart} key=${chart.title} ...${chart} />`)}
    </div>
    ${table && html`<${Table} table=${table} />`}
  </article>`;
}

/** @param {{movie: {title: string, frames: string[], labels: string[], fps: number}}} props */
function Movie({movie}) {
  return html`<figure>
    <figcaption>${movie.title}</figcaption>
    <${Player} count=${movie.frames.length} labels=${movie.labels} fps=${movie.fps} label=${movie.title} autoplay>
      ${(k) => html`<img class="pixels" src=${movie.frames[k]} alt=${`${movie.title}, ${movie.labels?.[k] ?? k + 1}`} />`}
    <//>
  </figure>`;
}

/** @param {{picture: {title: string, src: string, width: number, height: number}}} props */
function Picture({picture}) {
  const wide = picture.width > 2 * picture.height;
  return html`<figure class=${wide ? "wide" : ""}>
    <figcaption>${picture.title}</figcaption>
    <img class="pixels" src=${picture.src} alt=${picture.title} />
  </figure>`;
}

/** @param {{table: {head: string[], rows: (string|number|null)[][]}}} props */
function Table({table}) {
  const cell = (value) => (typeof value === "number" || value === null ? number(value) : value);
  return html`<div class="table-scroll" tabindex="0" role="region" aria-label="Numbers">
    <table>
      <thead><tr>${table.head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>${table.rows.map((row) => html`<tr>${row.map((value) =>
        html`<td class=${typeof value === "number" ? "number" : ""}>${cell(value)}</td>`)}</tr>`)}</tbody>
    </table>
  </div>`;
}
