/** Frames played one after the other: play and pause, a slider to scrub, the keyboard. */

import {html, useEffect, useState} from "./html.js";
import {Button} from "./parts.js";

/** Whether the person asked for less movement. */
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * @param {object} props
 * @param {number} props.count how many frames there are
 * @param {(frame: number) => any} props.children draws one of them
 * @param {string[]} [props.labels] a text per frame
 * @param {number} [props.fps]
 * @param {string} props.label what is played, for a screen reader
 * @param {boolean} [props.autoplay] play at once, unless less movement is asked for
 * @param {boolean} [props.follow] start at the last frame and stay there as more arrive
 */
export function Player({count, children, labels, fps = 12, label, autoplay = false, follow = false}) {
  const last = count - 1;
  const [frame, setFrame] = useState(follow ? Infinity : 0); // Infinity: the last, whichever that is
  const [playing, setPlaying] = useState(autoplay && !still());
  const shown = Math.min(frame, last);

  useEffect(() => {
    if (!playing || count < 2) return undefined;
    let wanted = 0;
    let since = performance.now();
    const tick = (now) => {
      // the ends are held for a moment, so that one sees where it began and what came of it
      const hold = shown === last || shown === 0 ? 900 : 1000 / fps;
      if (now - since >= hold) setFrame(shown >= last ? 0 : shown + 1);
      else wanted = requestAnimationFrame(tick);
    };
    wanted = requestAnimationFrame(tick);
    return () => cancelAnimationFrame(wanted);
  }, [playing, shown, count, fps]);

  const seek = (to) => {
    setPlaying(false);
    setFrame(follow && to >= last ? Infinity : Math.max(0, Math.min(last, to)));
  };
  const toggle = () => {
    setFrame(!playing && shown >= last ? 0 : shown);
    setPlaying(!playing);
  };
  const onKeyDown = (event) => {
    if (event.key !== " " || event.target.tagName === "BUTTON") return;
    event.preventDefault();
    toggle();
  };
  if (count < 1) return null;
  const said = labels?.[shown] ?? `${shown + 1} of ${count}`;
  return html`<div class="player" role="group" aria-label=${label} onKeyDown=${onKeyDown}>
    <div class="player-frame">${children(shown)}</div>
    <div class="player-bar">
      <${Button} icon=${playing ? "pause" : "play"} label=${playing ? "Pause" : "Play"} disabled=${count < 2} onClick=${toggle} />
      <input type="range" min="0" max=${last} step="1" value=${shown} aria-label=${`Frame of ${label}`} aria-valuetext=${said}
        onInput=${(event) => seek(Number(event.target.value))} />
      <output>${said}</output>
    </div>
  </div>`;
}
