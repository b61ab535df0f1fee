/** The colours of the page, for what is drawn on a canvas. */

/** The value of a custom property, such as --line. @param {string} name */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";

/**
 * Calls `draw` when the page turns dark or light; returns what ends that.
 * @param {() => void} draw
 */
export function onTheme(draw) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = new MutationObserver(draw);
  system.addEventListener("change", draw);
  chosen.observe(document.documentElement, {attributes: true});
  return () => {
    system.removeEventListener("change", draw);
    chosen.disconnect();
  };
}
