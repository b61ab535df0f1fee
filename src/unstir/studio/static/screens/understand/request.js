/** Asks the server for an explanation, again whenever the request changes. */

import {post} from "../../api.js";
import {useEffect, useRef, useState} from "../../ui/html.js";

const QUIET = 150; // ms without a change before it is asked: a slider that moves is not asked at every pixel

/**
 * The explanation of the latest request. While a new one is computed the old one stays, and `busy` says so. One
 * request is under way at a time: what was changed meanwhile is asked next, what lies between is never asked.
 *
 * @param {{what: string, model: string|null, settings: object, image: string|null}|null} request
 * @returns {{explanation: object|null, busy: boolean, error: Error|null}}
 */
export function useExplanation(request) {
  const [answer, setAnswer] = useState({explanation: null, error: null});
  const [busy, setBusy] = useState(true);
  const line = useRef({wanted: null, asked: null, running: false, open: true});
  const wanted = request && JSON.stringify(request);
  line.current.wanted = wanted;

  const ask = async () => {
    const {current} = line;
    if (current.running) return;
    current.running = true;
    while (current.open && current.wanted && current.wanted !== current.asked) {
      current.asked = current.wanted;
      let next;
      try {
        next = {explanation: await post("/api/explain", JSON.parse(current.asked)), error: null};
      } catch (error) {
        next = {error};
      }
      if (current.open) setAnswer((before) => ({...before, ...next}));
    }
    current.running = false;
    if (current.open) setBusy(false);
  };

  useEffect(() => {
    if (wanted === null) return undefined;
    setBusy(true);
    const timer = setTimeout(ask, QUIET);
    return () => clearTimeout(timer);
  }, [wanted]);
  useEffect(() => {
    line.current.open = true;
    return () => (line.current.open = false);
  }, []);
  return {...answer, busy};
}
