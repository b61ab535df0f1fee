/** Handing in a job from a form: once per click, whatever the connection does. */

import {useRef, useState} from "./html.js";
import {submit} from "../api.js";
import {keepJob} from "../state.js";

/** The second click of a double click asks for nothing. */
export const once = (run) => (event) => event.detail < 2 && run();

/**
 * `make` gives the job, or a promise of it; it is not called while another one is on its way. `send` gives the job as
 * the server has it, or null where it refused, which `error` tells until `forgive`.
 * @returns {{send: (make: () => object | Promise<object>) => Promise<object | null>, busy: boolean,
 *            error: Error | null, forgive: () => void}}
 */
export function useSubmit() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const sending = useRef(false);
  const send = async (make) => {
    if (sending.current) return null;
    sending.current = true;
    setBusy(true);
    let [job, failed] = [null, null];
    try {
      job = await submit(await make());
      keepJob(job);
    } catch (problem) {
      failed = problem;
    }
    sending.current = false;
    setError(failed);
    setBusy(false);
    return job;
  };
  return {send, busy, error, forgive: () => setError(null)};
}
