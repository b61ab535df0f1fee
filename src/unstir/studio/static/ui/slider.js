/** A slider with its value beside it; over a large range it moves by factors rather than by equal steps. */

import {html} from "./html.js";

/**
 * @param {object} props the rest goes to the input: its id, name, aria-*
 * @param {number} props.value
 * @param {number} props.min
 * @param {number} props.max
 * @param {number} [props.step]
 * @param {string} props.text the value in words
 * @param {boolean} [props.factors] equal distances are equal factors
 * @param {(value: number) => void} props.onChange
 */
export function Slider({value, min, max, step, text, factors = false, onChange, ...rest}) {
  const scale = factors ? {min: Math.log(min), max: Math.log(max), step: "any", value: Math.log(value)} : {min, max, step, value};
  const take = (event) => {
    const x = Number(event.target.value);
    onChange(factors ? Number(Math.exp(x).toPrecision(2)) : x);
  };
  return html`<span class="slider"><input ...${rest} type="range" ...${scale} aria-valuetext=${text} onInput=${take} />
    <output>${text}</output></span>`;
}
