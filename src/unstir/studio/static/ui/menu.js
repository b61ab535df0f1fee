/** A button that opens a list of things to do. It lies above everything, so no card can clip it. */

import {html, useId, useLayoutEffect, useRef, useState} from "./html.js";
import {Button, Icon} from "./parts.js";

/**
 * @param {{label: string, icon?: string, text?: string,
 *          entries: {id: string, label: string, icon?: string, hint?: string, run: () => void}[]}} props
 */
export function Menu({label, icon = "more", entries, text, kind = "quiet"}) {
  const id = useId();
  const list = useRef(null);
  const button = useRef(null);
  const [open, setOpen] = useState(false);

  useLayoutEffect(() => {
    if (!open) return;
    const at = button.current.getBoundingClientRect();
    const {offsetWidth: width, offsetHeight: height} = list.current;
    const below = at.bottom + height + 8 < innerHeight;
    list.current.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
    list.current.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - height - 4)}px`;
    list.current.querySelector("button")?.focus();
  }, [open]);
  const keys = (event) => {
    const by = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const all = [...list.current.querySelectorAll("button")];
    all[(all.indexOf(document.activeElement) + by + all.length) % all.length].focus();
  };
  return html`<span class="menu" ref=${(span) => (button.current = span?.firstElementChild)}>
    <${Button} icon=${icon} kind=${kind} label=${label} aria-haspopup="menu" aria-expanded=${open}
      onClick=${() => list.current.togglePopover()}>${text}<//>
    <div class="menu-list" id=${id} ref=${list} popover="auto" role="menu" aria-label=${label}
      onToggle=${(event) => setOpen(event.newState === "open")} onKeyDown=${keys}>
      ${open && entries.map((entry) =>
        html`<button type="button" role="menuitem" key=${entry.id} data-action=${entry.id} title=${entry.hint}
        onClick=${() => { list.current.hidePopover(); entry.run(); }}>
        ${entry.icon && html`<${Icon} name=${entry.icon} />`}${entry.label}</button>`)}</div></span>`;
}
