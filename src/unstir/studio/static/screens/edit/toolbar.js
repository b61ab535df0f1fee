/** The tools above the picture, and the keys for them. */

import {html, useEffect, useRef} from "../../ui/html.js";
import {Button} from "../../ui/parts.js";

/** @typedef {{tool: "brush"|"eraser", size: number}} Brush */

/**
 * @param {object} props
 * @param {import("../../ui/brush.js").Mask|null} props.mask null: nothing is painted in this mode
 * @param {Brush} props.brush
 * @param {(brush: Brush) => void} props.onBrush
 * @param {() => void} props.onMask after the mask was changed
 * @param {{current: {zoom: (factor: number) => void, fit: () => void}}} props.controls of the canvas
 * @param {number} props.largest size of the brush
 */
export function Toolbar({mask, brush, onBrush, onMask, controls, largest}) {
  const act = (name) => () => {
    mask[name]();
    onMask();
  };
  const tool = (name) => () => onBrush({...brush, tool: name});
  const resize = (by) => () => onBrush({...brush, size: Math.min(largest, Math.max(1, brush.size + by))});
  const step = Math.max(1, Math.round(brush.size / 8));
  const keys = useRef({});
  keys.current = {
    ...(mask && {
      b: tool("brush"),
      e: tool("eraser"),
      "[": resize(-step),
      "]": resize(step),
      i: act("invert"),
      "ctrl+z": act("undo"),
      "ctrl+shift+z": act("redo"),
      "ctrl+y": act("redo"),
    }),
    "+": () => controls.current.zoom(1.25),
    "-": () => controls.current.zoom(0.8),
    0: () => controls.current.fit(),
  };
  useEffect(() => {
    const press = (event) => {
      if (event.defaultPrevented || event.altKey || event.target.closest("input:not([type=range]), textarea, select, dialog")) return;
      const held = event.ctrlKey || event.metaKey ? `ctrl+${event.shiftKey ? "shift+" : ""}` : "";
      const run = keys.current[held + event.key.toLowerCase()];
      if (!run) return;
      event.preventDefault();
      run();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);

  return html`<div class="toolbar" role="toolbar" aria-label="Tools">
    ${mask && html`
      <span class="tools">
        <${Button} icon="brush" label="Brush (B)" kind="quiet" aria-pressed=${brush.tool === "brush"} onClick=${tool("brush")} />
        <${Button} icon="eraser" label="Eraser (E)" kind="quiet" aria-pressed=${brush.tool === "eraser"} onClick=${tool("eraser")} />
      </span>
      <label class="brush-size" title="[ and ]"><span>Size</span>
        <input type="range" min="1" max=${largest} value=${brush.size} aria-label="Brush size" aria-valuetext=${`${brush.size} pixels`}
          onInput=${(event) => onBrush({...brush, size: Number(event.target.value)})} />
        <output>${brush.size}</output></label>
      <span class="tools">
        <${Button} icon="undo" label="Undo (Ctrl+Z)" kind="quiet" disabled=${!mask.past.length} onClick=${act("undo")} />
        <${Button} icon="redo" label="Redo (Ctrl+Shift+Z)" kind="quiet" disabled=${!mask.future.length} onClick=${act("redo")} />
        <${Button} icon="invert" label="Invert (I)" kind="quiet" onClick=${act("invert")} />
        <${Button} icon="trash" label="Clear the mask" kind="quiet" disabled=${mask.empty} onClick=${act("clear")} />
      </span>`}
    <span class="tools zooms">
      <${Button} icon="zoom_out" label="Smaller (-)" kind="quiet" onClick=${() => controls.current.zoom(0.8)} />
      <${Button} icon="zoom_in" label="Larger (+)" kind="quiet" onClick=${() => controls.current.zoom(1.25)} />
      <${Button} label="Fit (0)" kind="quiet" onClick=${() => controls.current.fit()}>Fit<//>
    </span>
  </div>`;
}
