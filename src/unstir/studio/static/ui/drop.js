/** What is dropped on one part of the page; the rest of the page sees that it was taken. */

import {useState} from "./html.js";

/**
 * @param {(data: DataTransfer) => void} take
 * @returns {{over: boolean, on: object}} whether something is above it; the listeners for it
 */
export function useDrop(take) {
  const [over, setOver] = useState(false);
  const hover = (inside) => (event) => {
    event.preventDefault();
    setOver(inside);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer);
  };
  return {over, on: {onDragOver: hover(true), onDragLeave: hover(false), onDrop: drop}};
}
