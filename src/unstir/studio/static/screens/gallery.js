/** Gallery: every picture that was made, to search, sort into boards, star and delete. */

import {html, useEffect, useMemo, useRef, useState} from "../ui/html.js";
import {go, models} from "../state.js";
import {change, discard, open, picking} from "../ui/actions.js";
import {BoardBar, loadBoards, useBoards} from "../ui/boards.js";
import {captionOf, pixelClass, Star} from "../ui/card.js";
import {useItems, useMore} from "../ui/items.js";
import {useLatest} from "../ui/latest.js";
import {Menu} from "../ui/menu.js";
import {Button, Empty, Icon, Spinner} from "../ui/parts.js";

const EVERYTHING = {q: "", model: "", board: "", starred: false, from: "", to: ""};
/** As in style.css, --gap of .tiles. */
const GAP = 12;
const NARROWEST = 148;
/** "2026-11-29" -> seconds at the start of that day here; `days` later */
const dayOf = (date, days = 0) => (date ? new Date(`${date}T00:00:00`).getTime() / 1000 + days * 86400 : null);

/** What the filters ask the server for. */
const queryOf = ({q, model, board, starred, from, to}) => ({
  q: q.trim(), model, board, starred: starred ? 1 : "", since: dayOf(from), until: dayOf(to, 1),
});

function Filters({value, set}) {
  const [text, setText] = useState(value.q);
  const timer = useRef(null);
  useEffect(() => { if (!value.q) setText(""); }, [value.q]);
  const search = (event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set({q: event.target.value}), 250);
  };
  return html`<div class="filters" role="search">
    <div class="search"><${Icon} name="search" />
      <input type="search" placeholder="Search prompts" aria-label="Search prompts, classes and seeds"
        value=${text} data-testid="search" onInput=${search} /></div>
    <select aria-label="Model" value=${value.model} data-testid="filter-model"
      onChange=${(event) => set({model: event.target.value})}>
      <option value="">All models</option>
      ${models.value.map(({name, title}) => html`<option key=${name} value=${name}>${title ?? name}</option>`)}</select>
    <label class="dated">from <input type="date" value=${value.from} max=${value.to || undefined}
      data-testid="from" onChange=${(event) => set({from: event.target.value})} /></label>
    <label class="dated">to <input type="date" value=${value.to} min=${value.from || undefined}
      data-testid="to" onChange=${(event) => set({to: event.target.value})} /></label>
    <${Button} icon="star" filled=${value.starred} aria-pressed=${value.starred}
      class=${value.starred ? "starred" : ""} data-testid="filter-starred"
      onClick=${() => set({starred: !value.starred})}>Starred<//></div>`;
}

function Tile({item, list, chosen, choosing, onToggle}) {
  const caption = captionOf(item);
  const click = (event) => (event.ctrlKey || event.metaKey || event.shiftKey || choosing
    ? onToggle(item, event.shiftKey) : open(item, list.current));
  const marks = `${chosen ? "chosen" : ""} ${picking.value?.id === item.id ? "picked" : ""}`;
  return html`<article class=${`card tile ${marks}`} data-testid="tile" data-item=${item.id}>
    <button type="button" class="picture" aria-label=${`Open ${caption}, seed ${item.seed}`} onClick=${click}>
      <img class=${pixelClass(item)} src=${item.thumb} alt=${caption} loading="lazy"
        decoding="async" /></button>
    <input type="checkbox" class="choose" aria-label=${`Select ${caption}`} checked=${chosen}
      onClick=${(event) => onToggle(item, event.shiftKey)} />
    <div class="card-top"><${Star} item=${item} kind="over" /></div></article>`;
}

/** Which pictures are selected; with shift all from the last one on. */
function useSelection(items) {
  const [chosen, setChosen] = useState(new Set());
  const last = useRef(null);
  // one function for ever: with another each time all tiles would be drawn anew
  const toggle = useLatest((item, range) => {
    const from = items.findIndex(({id}) => id === last.current);
    const to = items.findIndex(({id}) => id === item.id);
    const next = new Set(chosen);
    const add = !chosen.has(item.id);
    const span = range && from >= 0 ? items.slice(Math.min(from, to), Math.max(from, to) + 1) : [item];
    span.forEach(({id}) => (add ? next.add(id) : next.delete(id)));
    last.current = item.id;
    setChosen(next);
  });
  // what a filter or a deletion took out of sight is not selected any more
  const seen = useMemo(() => items.filter((item) => chosen.has(item.id)), [items, chosen]);
  return {seen, chosen, toggle, clear: () => setChosen(new Set())};
}

function SelectionBar({seen, clear, boards, board}) {
  if (seen.length === 0) return null;
  const each = (fields) => async () => {
    await Promise.all(seen.map((item) => change(item, fields)));
    loadBoards();
    clear();
  };
  const entries = [...boards.filter(({id}) => id !== board)
    .map(({id, name}) => ({id, icon: "board", label: name, run: each({board: id})})),
    ...(seen.some((item) => item.board)
      ? [{id: "none", icon: "close", label: "Off the board", run: each({board: null})}] : [])];
  return html`<div class="selection" role="toolbar" aria-label="Selected pictures" data-testid="selection">
    <strong>${seen.length} selected</strong>
    <${Button} icon="star" kind="quiet" onClick=${each({starred: true})}>Star<//>
    ${entries.length > 0 && html`<${Menu} icon="board" label="Move to a board" text="Board"
      entries=${entries} />`}
    <${Button} icon="trash" kind="quiet" data-testid="delete-selected"
      onClick=${() => { discard(seen); clear(); }}>Delete<//>
    <${Button} icon="close" kind="quiet" label="Clear the selection" onClick=${clear} /></div>`;
}

/** How many tiles fit side by side, and the side of one. */
function useColumns(ref) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([{contentRect}]) => setWidth(Math.floor(contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  const columns = Math.max(3, Math.floor((width + GAP) / (NARROWEST + GAP)));
  return {columns, side: (width + GAP) / columns - GAP};
}

/**
 * Tiles in blocks of whole rows: the browser lays out and paints only the blocks in sight, so thousands cost no more
 * than a screenful. A block out of sight has the height it would have.
 */
function Tiles({items, chosen, choosing, onToggle}) {
  const box = useRef(null);
  const list = useRef(items);
  list.current = items;
  const {columns, side} = useColumns(box);
  const block = columns * Math.ceil(60 / columns);
  const blocks = Array.from({length: Math.ceil(items.length / block)}, (_, k) =>
    items.slice(k * block, (k + 1) * block));
  const height = (count) => `${Math.ceil(count / columns) * (side + GAP)}px`;
  return html`<div ref=${box} class=${`tiles ${choosing ? "choosing" : ""}`} style=${{"--columns": columns}}
    data-testid="gallery" onKeyDown=${keysOf(items, columns, onToggle)}>
    ${blocks.map((some, k) => html`<div class="tile-block" key=${k}
      style=${{containIntrinsicHeight: height(some.length)}}>
      ${some.map((item) => html`<${Tile} key=${item.id} item=${item} list=${list}
        chosen=${chosen.has(item.id)} choosing=${choosing} onToggle=${onToggle} />`)}</div>`)}</div>`;
}

/** Arrow keys walk the grid, space selects, s stars, Delete deletes. */
function keysOf(items, columns, toggle) {
  return (event) => {
    const tile = event.target.closest?.(".tile");
    if (!tile || event.target.tagName === "INPUT") return;
    const tiles = [...event.currentTarget.querySelectorAll(".tile")];
    const index = tiles.indexOf(tile);
    const item = items[index];
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns}[event.key];
    const act = by ? () => tiles[index + by]?.querySelector(".picture").focus()
      : {" ": () => toggle(item, false), s: () => change(item, {starred: !item.starred}),
         Delete: () => discard([item])}[event.key];
    if (!act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
  };
}

export default function Gallery() {
  const [filters, setFilters] = useState(EVERYTHING);
  const set = (fields) => setFilters((old) => ({...old, ...fields}));
  const {items, loading, more} = useItems(queryOf(filters));
  const boards = useBoards();
  const end = useMore(more);
  const {seen, chosen, toggle, clear} = useSelection(items);
  useEffect(() => {
    clear();
    document.getElementById("main").scrollTo(0, 0);
  }, [filters]);
  const same = (others) => JSON.stringify(filters) === JSON.stringify(others);
  return html`<div class="gallery"><header class="gallery-head">
      <${Filters} value=${filters} set=${set} />
      <${BoardBar} value=${filters.board} onChange=${(board) => set({board})} /></header>
    <${Tiles} items=${items} chosen=${chosen} choosing=${seen.length > 0} onToggle=${toggle} />
    ${items.length === 0 && !loading && (same(EVERYTHING)
      ? html`<${Empty} title="No pictures yet"><p>Whatever you make is kept here.</p>
        <${Button} icon="generate" onClick=${() => go("#/generate")}>Generate<//><//>`
      : html`<${Empty} ...${same({...EVERYTHING, board: filters.board})
        ? {icon: "board", title: "Nothing on this board yet"} : {icon: "search", title: "No picture is like that"}}>
        <${Button} onClick=${() => setFilters(EVERYTHING)}>Show all<//><//>`)}
    <div class="end" ref=${end}>${loading && html`<${Spinner} label="Loading" />`}</div>
    <${SelectionBar} seen=${seen} clear=${clear} boards=${boards} board=${filters.board} /></div>`;
}
