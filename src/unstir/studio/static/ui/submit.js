/** Handing in a job from a form: once per click, whatever the connection does. */

import {useRef, useState} from "./html.js";
import {submit} from "../api.js";
import {keepJob} from "../state.js";

/** The second click of a double click asks for nothing. */
export const once = (run) => (event) => event.detail < 2 && run();

/**
 * `make` gives the job; it is not called while another one is on its way.
 * @returns {{send: (make: () => object) => Promise<boolean>, busy: boolean, error: Error | null}}
 */
export function useSubmit() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const sending = useRef(false);
  const send = async (make) => {
    if (sending.current) return false;
    sending.current = true;
    setBusy(true);
    let failed = null;
    try {
      keepJob(await submit(make()));
    } catch (problem) {
      failed = problem;
    }
    sending.current = false;
    setError(failed);
    setBusy(false);
    return !failed;
  };
  return {send, busy, error};
}
