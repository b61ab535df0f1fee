/** Boards: named piles of pictures. */

import {html, signal, useEffect, useState} from "./html.js";
import {get, post, remove} from "../api.js";
import {complain, connections, toast} from "../state.js";
import {Button, Dialog} from "./parts.js";
import {Field} from "./form.js";

/** [{id, name, count}] */
export const boards = signal([]);
export const loadBoards = () => get("/api/boards").then((found) => (boards.value = found.boards), complain);

export function useBoards() {
  useEffect(() => { if (connections.value) loadBoards(); }, [connections.value]);
  return boards.value;
}

/** Asks for a name. */
function NewBoard({onClose, onMade}) {
  const [name, setName] = useState("");
  const make = async (event) => {
    event.preventDefault();
    try {
      const board = await post("/api/boards", {name: name.trim()});
      await loadBoards();
      onMade(board);
    } catch (error) {
      complain(error);
    }
    onClose();
  };
  return html`<${Dialog} title="New board" onClose=${onClose}><form class="stack" onSubmit=${make}>
    <${Field} label="Name">${(ids) =>
      html`<input ...${ids} type="text" maxlength="100" value=${name} autofocus
      data-testid="board-name" onInput=${(event) => setName(event.target.value)} />`}<//>
    <${Button} kind="primary" type="submit" disabled=${!name.trim()}>Create<//></form><//>`;
}

async function discardBoard(board, onGone) {
  try {
    await remove(`/api/boards/${board.id}`);
    onGone();
    await loadBoards();
    toast(`Board ${board.name} removed; its pictures stay`);
  } catch (error) {
    complain(error);
  }
}

/** Which board is looked at; "" is all of them. */
export function BoardBar({value, onChange}) {
  const [asking, setAsking] = useState(false);
  const chosen = boards.value.find((board) => board.id === value);
  const pick = (id, label, count) =>
    html`<button type="button" key=${id} class="pill" aria-pressed=${id === value} data-board=${id}
    onClick=${() => onChange(id)}><span>${label}</span>${count !== undefined && html`<b>${count}</b>`}</button>`;
  return html`<div class="pills" role="group" aria-label="Boards">${pick("", "All pictures")}
    ${boards.value.map((board) => pick(board.id, board.name, board.count))}
    <${Button} icon="plus" kind="quiet" data-testid="new-board" onClick=${() => setAsking(true)}>New board<//>
    ${chosen && html`<${Button} icon="trash" kind="quiet" label=${`Remove the board ${chosen.name}`}
      onClick=${() => discardBoard(chosen, () => onChange(""))} />`}
    ${asking && html`<${NewBoard} onClose=${() => setAsking(false)}
      onMade=${(board) => onChange(board.id)} />`}</div>`;
}
