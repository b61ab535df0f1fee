/** What every screen sees: the lists of the server, kept up to date by its events, and the address of the page. */

import {batch, computed, signal} from "./ui/html.js";
import {get, put, withQuery} from "./api.js";

export const info = signal(null);
export const models = signal([]);
/** Map id -> Job, the newest of them; live. */
export const jobs = signal(new Map());
/** Map id -> [dataURL or nothing]: what a running job's pictures look like so far. */
export const previews = signal(new Map());
export const connected = signal(false);
/** Counts connections: a screen that lists things fetches them again when it grows. */
export const connections = signal(0);

/** The kinds of jobs whose pictures Generate shows. */
export const MAKES = new Set(["sample", "edit", "upscale", "restore"]);
const FINAL = new Set(["done", "failed", "cancelled"]);
export const isOver = (job) => FINAL.has(job.state);
export const openJobs = computed(() =>
  [...jobs.value.values()].filter((job) => !isOver(job))
    .sort((a, b) => (b.state === "running") - (a.state === "running")
    || (a.position ?? 0) - (b.position ?? 0) || a.created - b.created));
export const modelNamed = (name) => models.value.find((model) => model.name === name) ?? null;

// -- the address --------------------------------------------------------------------------------------------

function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return {screen: path || "generate", query: new URLSearchParams(query)};
}

export const route = signal(parse(location.hash));
addEventListener("hashchange", () => (route.value = parse(location.hash)));
/** go("#/edit?item=ID") */
export const go = (hash) => (location.hash = hash);

// -- messages -----------------------------------------------------------------------------------------------

export const toasts = signal([]);
let count = 0;

/** @param {string} text  @param {{kind?: "info" | "error", action?: {label: string, run: () => void}}} [options] */
export function toast(text, {kind = "info", action = null} = {}) {
  const id = ++count;
  const dismiss = () => (toasts.value = toasts.value.filter((other) => other.id !== id));
  toasts.value = [...toasts.value.slice(-3), {id, text, kind, action, dismiss}];
  setTimeout(dismiss, kind === "error" || action ? 9000 : 4500);
  return dismiss;
}

/** What an ApiError says, as a message. */
export function complain(error) {
  toast([error.message, error.hint].filter(Boolean).join(": "), {kind: "error"});
}

// -- jobs and items -----------------------------------------------------------------------------------------

const waiting = new Map();
const itemListeners = new Set();

/** @param {(event: {id: string, change: "new" | "changed" | "deleted" | "restored", item: object}) => void} listener */
export function onItem(listener) {
  itemListeners.add(listener);
  return () => itemListeners.delete(listener);
}

/** Tell the screens what this page itself changed, rather than wait for the server to tell it back. */
export const announce = (change, item) =>
  itemListeners.forEach((listener) => listener({id: item.id, change, item}));

/** An answer that came late: it tells of an attempt before, or that a job has not ended which has. */
const isStale = (job, known) => job.attempt < known.attempt
  || (job.attempt === known.attempt && isOver(known) && !isOver(job));

export function keepJob(job) {
  const before = jobs.value.get(job.id);
  if (before && isStale(job, before)) return;
  batch(() => {
    // `progress` comes by events of its own; a job told anew must not take it back
    jobs.value = new Map(jobs.value).set(job.id,
      {...job, progress: job.progress ?? (isOver(job) ? null : before?.progress ?? null)});
    if (isOver(job) && previews.value.has(job.id)) {
      const left = new Map(previews.value);
      left.delete(job.id);
      previews.value = left;
    }
  });
  if (!isOver(job)) return;
  waiting.get(job.id)?.forEach((done) => done(job));
  waiting.delete(job.id);
}

/** The job once it is done, failed or cancelled.  @returns {Promise<object>} */
export function waitFor(id) {
  const job = jobs.value.get(id);
  if (job && isOver(job)) return Promise.resolve(job);
  return new Promise((done) => waiting.set(id, [...(waiting.get(id) ?? []), done]));
}

function keepProgress({id, progress, previews: pictures}) {
  const job = jobs.value.get(id);
  if (!job || isOver(job)) return;
  batch(() => {
    jobs.value = new Map(jobs.value).set(id, {...job, state: "running", position: null, progress});
    if (pictures) previews.value = new Map(previews.value).set(id,
      Object.assign([...(previews.value.get(id) ?? [])], pictures));
  });
}

// -- the stream of events -----------------------------------------------------------------------------------

let source = null;
let retry = null;

async function loadModels() {
  models.value = (await get("/api/models")).models;
}

async function loadJobs() {
  const [open, recent] = await Promise.all([
    get("/api/jobs?state=queued,running&limit=200"), get("/api/jobs?limit=100"),
  ]);
  const known = new Map([...recent.jobs, ...open.jobs].map((job) => [job.id, job]));
  // a job that someone waits for may have ended, and left the list, while the connection was lost
  for (const id of waiting.keys()) if (!known.has(id)) known.set(id, await get(`/api/jobs/${id}`));
  batch(() => {
    jobs.value = new Map();
    for (const job of known.values()) keepJob(job);
  });
}

function later() {
  source?.close();
  source = null;
  connected.value = false;
  clearTimeout(retry);
  retry = setTimeout(connect, 1000);
}

/** Lists first, then the events since: nothing falls between. A lost connection comes back the same way. */
export async function connect() {
  clearTimeout(retry);
  try {
    const about = await get("/api/info");
    info.value = about;
    await Promise.all([loadModels(), loadJobs()]);
    source?.close();
    source = new EventSource(withQuery("/api/events", {after: about.cursor}));
  } catch (error) {
    if (error.status === 401) return void (info.value = {denied: true});
    return later();
  }
  const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  source.onopen = () => batch(() => { connected.value = true; connections.value += 1; });
  source.onerror = later;
  on("job", keepJob);
  on("progress", keepProgress);
  on("item", (event) => itemListeners.forEach((listener) => listener(event)));
  on("models", () => loadModels().catch(() => {}));
}

// A browser opens six connections to one server, over all tabs: one that nobody looks at gives its own back.
let hidden = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.hidden) hidden = setTimeout(() => { source?.close(); source = null; }, 30000);
  else if (!source && info.value && !info.value.denied) connect();
});

// -- forms that are not lost --------------------------------------------------------------------------------

const drafts = new Map();

/** A signal that survives a reload, here and, through the server, in another browser. `name` of a-z, 0-9 and -. */
export function draft(name, initial) {
  if (drafts.has(name)) return drafts.get(name);
  const place = `unstir.draft.${name}`;
  let stored = {at: 0, value: initial};
  try {
    stored = JSON.parse(localStorage.getItem(place)) ?? stored;
  } catch { /* what cannot be read is begun anew */ }
  const kept = signal(stored.value);
  drafts.set(name, kept);

  const begun = stored.at; // what the page fills in by itself while it waits for the server does not count
  let timer = null;
  let quiet = true; // what is read is not written back
  const send = () => put(`/api/drafts/${name}`, {value: stored}).catch(() => {});
  kept.subscribe((value) => {
    if (quiet) return;
    stored = {at: Date.now(), value};
    localStorage.setItem(place, JSON.stringify(stored));
    clearTimeout(timer);
    timer = setTimeout(send, 600);
  });
  quiet = false;
  get(`/api/drafts/${name}`).then(({value}) => {
    const at = value?.at ?? 0;
    if (at < begun) send(); // typed shortly before a reload, or while the server was away
    if (at <= begun) return;
    clearTimeout(timer);
    quiet = true;
    stored = value;
    kept.value = value.value;
    quiet = false;
  }, () => {});
  return kept;
}
