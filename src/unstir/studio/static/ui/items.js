/** Lists of pictures: fetched page by page, then kept up to date by the events of the server. */

import {useEffect, useRef, useState} from "./html.js";
import {get, withQuery} from "../api.js";
import {complain, connections, onItem} from "../state.js";
import {useLatest} from "./latest.js";

const PAGE = 60;

/** Does a picture belong to the answer to `query`? As the server decides it, for pictures that events tell of. */
function fits(item, {q, model, board, starred, kind, since, until}) {
  const said = `${item.prompt ?? ""} ${item.label ?? ""} ${item.seed} ${item.model}`.toLowerCase();
  const words = (q ?? "").toLowerCase().split(/\s+/);
  return !item.deleted && words.every((word) => said.includes(word)) && (!model || item.model === model)
    && (!board || item.board === board) && (!starred || item.starred) && (!kind || item.kind === kind)
    && (!since || item.created >= since) && (!until || item.created < until);
}

const newestFirst = (a, b) => b.created - a.created || a.index - b.index || (a.id < b.id ? 1 : -1);

function updated(items, {id, item}, query) {
  const left = items.filter((other) => other.id !== id);
  return item && fits(item, query) ? [...left, item].sort(newestFirst) : left;
}

/**
 * The pictures that `query` asks for ({q, model, board, starred, since, until}), newest first.
 * `more` fetches the next page; it is null while one is under way, and at the end.
 * @returns {{items: object[], loading: boolean, more: (() => void) | null}}
 */
export function useItems(query = {}) {
  const key = JSON.stringify(query);
  const [state, setState] = useState({key, items: [], next: null, loading: true});
  const current = useRef(key);
  current.current = key;

  const fetchPage = (before) => get(withQuery("/api/items", {...query, limit: PAGE, before}));
  const settle = async (promise, take) => {
    try {
      const page = await promise;
      if (current.current !== key) return; // the answer to a question of before
      const none = {items: [], next: null};
      setState((old) => ({key, loading: false, ...take(page, old.key === key ? old : none)}));
    } catch (error) {
      setState((old) => ({...old, loading: false}));
      if (error.status) complain(error);
    }
  };

  useEffect(() => {
    if (!connections.value) return;
    setState((old) => ({...old, loading: true}));
    settle(fetchPage(null), (page, old) => {
      // after a lost connection: the first page anew, and below it what was scrolled to before
      const last = page.items.at(-1);
      const older = last ? old.items.filter((item) => item.created < last.created) : [];
      return {items: [...page.items, ...older].sort(newestFirst), next: older.length ? old.next : page.next};
    });
  }, [key, connections.value]);

  useEffect(() => onItem((event) => setState((old) => ({...old, items: updated(old.items, event, query)}))), [key]);

  const more = state.next && !state.loading ? () => {
    setState((old) => ({...old, loading: true}));
    settle(fetchPage(state.next), (page, old) => {
      const known = new Set(old.items.map((item) => item.id));
      const fresh = page.items.filter((item) => !known.has(item.id));
      return {items: [...old.items, ...fresh].sort(newestFirst), next: page.next};
    });
  } : null;
  return {items: state.items, loading: state.loading, more};
}

/** A ref for what lies at the end of a list: `more` is called as it comes near. */
export function useMore(more) {
  const ref = useRef(null);
  const latest = useLatest(more);
  useEffect(() => {
    const near = ([end]) => end.isIntersecting && latest();
    const observer = new IntersectionObserver(near, {rootMargin: "800px"});
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, [more !== null]);
  return ref;
}
