/** What went wrong, and what to do about it. */

import {html} from "./html.js";

/** @param {{error: {message: string, hint?: string|null}|null|undefined}} props */
export const Trouble = ({error}) => error ? html`<p class="error" role="alert">${error.message}
  ${error.hint && html`<small>${error.hint}</small>`}</p>` : null;
