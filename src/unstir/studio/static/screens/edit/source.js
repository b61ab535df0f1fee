/** The picture that is being edited: a picture made here, or an upload; and its mask, which a reload keeps. */

import {get, upload} from "../../api.js";
import {complain, draft, go} from "../../state.js";
import {Mask} from "../../ui/brush.js";
import {useDrop} from "../../ui/drop.js";
import {html, useEffect, useState} from "../../ui/html.js";
import {Icon} from "../../ui/parts.js";

/** @typedef {{id: string, item: object|null, url: string, picture: HTMLImageElement, mask: Mask}} Source */

const MOST_KEPT = 40000; // letters of a mask: a draft has room for 64 KiB

/**
 * @param {string|null} item
 * @param {string|null} file
 * @returns {{source: Source|null, error: Error|null}}
 */
export function useSource(item, file) {
  const [state, setState] = useState({source: null, error: null});
  useEffect(() => {
    let open = true;
    setState({source: null, error: null});
    if (item || file) {
      load(item, file).then(
        (source) => open && setState({source, error: null}),
        (error) => open && setState({source: null, error}),
      );
    }
    return () => (open = false);
  }, [item, file]);
  return state;
}

/** @returns {Promise<Source>} */
async function load(itemId, file) {
  const item = itemId ? await get(`/api/items/${encodeURIComponent(itemId)}`) : null;
  const url = item ? item.url : `/api/files/${encodeURIComponent(file)}`;
  const id = itemId ?? file;
  const picture = await image(url);
  const mask = new Mask(picture.width, picture.height);
  const kept = draft("edit-mask", null).value;
  if (kept?.of === id) mask.read(await image(kept.png));
  return {id, item, url, picture, mask};
}

/** @param {string} url @returns {Promise<HTMLImageElement>} */
async function image(url) {
  const picture = new Image();
  picture.src = url;
  try {
    await picture.decode();
  } catch {
    throw new Error("This picture cannot be opened: it is gone, or no picture. Choose another.");
  }
  return picture;
}

/** @param {Source} source */
export async function keepMask({id, mask}) {
  const png = mask.empty ? null : mask.toDataUrl();
  draft("edit-mask", null).value = png && png.length < MOST_KEPT ? {of: id, png} : null;
}

/** Upload a picture and edit it. @param {File|undefined} file */
export async function open(file) {
  if (!file) return;
  try {
    go(`#/edit?file=${(await upload(file)).id}`);
  } catch (error) {
    complain(error);
  }
}

/** Where a picture is dropped or chosen, as long as there is none. */
export function ChoosePicture() {
  const {over, on} = useDrop(({files}) => open(files[0]));
  return html`<div class=${`choose-picture ${over ? "over" : ""}`} ...${on}>
    <${Icon} name="edit" size=${40} />
    <h1>Edit a picture</h1>
    <p>Drop a picture here, or take one of the <a href="#/gallery">gallery</a>.</p>
    <label class="file-button">Choose a picture
      <input type="file" accept="image/*" aria-label="Choose a picture" onChange=${(event) => open(event.target.files[0])} /></label>
  </div>`;
}
