/** For what is set up once and has to act on how things are now. */

import {useCallback, useRef} from "./html.js";

/** A function that stays the same from one drawing to the next, and does what the newest `run` does. */
export function useLatest(run) {
  const latest = useRef(run);
  latest.current = run;
  return useCallback((...given) => latest.current?.(...given), []);
}
