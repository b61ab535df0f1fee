/** Schemas of the server, each asked for once. */

import {useEffect, useState} from "./html.js";
import {get} from "../api.js";
import {complain} from "../state.js";

const asked = new Map();

export function schemaOf(kind) {
  if (!asked.has(kind)) asked.set(kind, get(`/api/schema/${kind}`)
    .catch((error) => { asked.delete(kind); throw error; }));
  return asked.get(kind);
}

/** The schema of the settings of "sample", "edit", "train" ...; null until it is here. */
export function useSchema(kind) {
  const [schema, setSchema] = useState(null);
  useEffect(() => void schemaOf(kind).then(setSchema, complain), [kind]);
  return schema;
}
