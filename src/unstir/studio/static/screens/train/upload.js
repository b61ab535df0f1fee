/** A folder of pictures on its way to the server: what is in it, and the upload, several files at a time. */

import {post, uploadTo} from "../../api.js";

/** @typedef {{path: string, file: File}} Entry  the path below the folder: "cats/one.png" */

const PICTURES = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif|heic|npy)$/i;
const CAPTIONS = /\.txt$|(^|\/)(captions|metadata)\.(jsonl|csv|parquet)$/i;
const AT_ONCE = 4;
const TRIES = 3;

/** @param {DataTransferItemList} items @returns {Promise<{name: string, entries: Entry[]}>} */
export async function dropped(items) {
  // all at once: after the first wait the browser has forgotten what was dropped
  const roots = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  /** @type {Entry[]} */
  const entries = [];
  for (const root of roots) await walk(root, "", entries);
  return named(entries);
}

/** @param {FileList} files of an <input webkitdirectory> @returns {{name: string, entries: Entry[]}} */
export const chosen = (files) => named([...files].map((file) => ({path: file.webkitRelativePath || file.name, file})));

async function walk(entry, above, found) {
  const path = above + entry.name;
  if (entry.isFile) {
    found.push({path, file: await new Promise((resolve, reject) => entry.file(resolve, reject))});
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await walk(inner, `${path}/`, found);
  }
}

/** Sub-folders are classes, the folder that holds all of them is not: its name is that of the data set. */
function named(entries) {
  const used = entries.filter(({path}) => !/(^|\/)\./.test(path) && (PICTURES.test(path) || CAPTIONS.test(path)));
  const tops = new Set(used.map(({path}) => (path.includes("/") ? path.slice(0, path.indexOf("/")) : "")));
  const [top] = tops;
  if (tops.size !== 1 || !top) return {name: "pictures", entries: used};
  return {name: top, entries: used.map(({path, file}) => ({path: path.slice(top.length + 1), file}))};
}

/**
 * @param {string} name
 * @param {Entry[]} entries
 * @param {(done: number) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<{id: string, name: string, failed: string[]}>}
 */
export async function send(name, entries, onProgress, signal) {
  const {id} = await post("/api/datasets", {name});
  const left = [...entries];
  const failed = [];
  let done = 0;
  const lane = async () => {
    for (let entry = left.shift(); entry && !signal.aborted; entry = left.shift()) {
      if (!(await sent(id, entry))) failed.push(entry.path);
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, lane));
  return {id, name, failed};
}

/** Whether the server has the file; one that it refuses is not tried again. */
async function sent(id, {path, file}) {
  for (let attempt = 1; ; attempt++) {
    try {
      await uploadTo(id, path, file);
      return true;
    } catch (error) {
      const passing = error.status === 0 || error.status === 429 || error.status >= 500;
      if (!passing || attempt === TRIES) return false;
      await new Promise((done) => setTimeout(done, 1000 * (error.retryAfter ?? attempt)));
    }
  }
}
