/** What went wrong, and what to do about it. */

import {html} from "./html.js";
import {connected} from "../state.js";

/** @param {{error: {message: string, hint?: string|null}|null|undefined}} props */
export const Trouble = ({error}) => error ? html`<p class="error" role="alert">${error.message}
  ${error.hint && html`<small>${error.hint}</small>`}</p>` : null;

/** Said beside a button whose job is not handed in yet: it is tried again until it is. @param {{asking: boolean}} props */
export const Away = ({asking}) => asking && !connected.value && html`<p class="blocked" role="status">
  The server does not answer. Is <code>unstir studio</code> running? It is asked again until it does.</p>`;
