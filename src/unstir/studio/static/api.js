/** The HTTP API. Paths are written as the server has them: `await get("/api/items?limit=60")`. */

/** What went wrong: `message` what was got, `hint` what to do, `field` which setting is meant, as "settings.steps". */
export class ApiError extends Error {
  /**
   * @param {number} status 0 where the server was not reached
   * @param {{code?: string, message?: string, field?: string, hint?: string}} error
   */
  constructor(status, error, retryAfter = null) {
    super(error.message || `the server answered ${status}`);
    this.status = status;
    this.code = error.code ?? "error";
    this.field = error.field ?? null;
    this.hint = error.hint ?? null;
    this.retryAfter = retryAfter;
  }
}

async function call(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, {method, body, headers, credentials: "same-origin"});
  } catch {
    throw new ApiError(0, {code: "offline", message: "the server does not answer",
      hint: "is `unstir studio` running?"});
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    if (answer.ok) throw new ApiError(answer.status, {code: "no_json", message: `${path} answered no JSON`});
  }
  if (answer.ok) return value;
  throw new ApiError(answer.status, value?.error ?? {}, Number(answer.headers.get("Retry-After")) || null);
}

const send = (method) => (path, value, headers = {}) =>
  call(method, path, value === undefined ? undefined : JSON.stringify(value),
    {"Content-Type": "application/json", ...headers});

export const get = (path) => call("GET", path);
export const remove = (path) => call("DELETE", path);
export const post = send("POST");
export const patch = send("PATCH");
export const put = send("PUT");

/** `/api/items` + {q: "fox", board: null} -> `/api/items?q=fox`: what is empty is left out. */
export function withQuery(path, query) {
  const pairs = Object.entries(query)
    .filter(([, value]) => value !== null && value !== undefined && value !== "");
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}

/** @returns {Promise<{id: string, width: number, height: number, recipe: object | null}>} */
export function upload(blob, name = blob.name ?? "picture.png") {
  return call("POST", withQuery("/api/files", {name}), blob,
    {"Content-Type": blob.type || "application/octet-stream"});
}

/** One file of a data set, by its path in the dropped folder. */
export function uploadTo(dataset, path, blob) {
  return call("POST", withQuery(`/api/datasets/${dataset}/files`, {path}), blob,
    {"Content-Type": "application/octet-stream"});
}

// crypto.randomUUID needs https or localhost; this does not
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
  byte.toString(16).padStart(2, "0")).join("");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Hand in a job. The key makes it safe to ask again when an answer was lost: the server then returns the same job. */
export async function submit({kind, model, settings = {}, inputs = {}, parent = null, priority = 0,
  board = null}) {
  const headers = {"Idempotency-Key": newKey()};
  const body = {kind, model, settings, inputs, parent, priority, board};
  for (let wait = 500; ; wait *= 2) {
    try {
      return await post("/api/jobs", body, headers);
    } catch (error) {
      const lost = error.status === 0 || error.status === 502 || error.status === 503;
      if (!lost || wait > 16000) throw error;
      await pause(wait);
    }
  }
}
