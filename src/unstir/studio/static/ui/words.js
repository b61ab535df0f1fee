/** What settings are called and what is said of them on a page, where the schema speaks to the command line. */

const NAMES = {n: "pictures"};

/** "heldout_every" -> "heldout every" */
export const title = (name) => NAMES[name] ?? name.replaceAll("_", " ");

/** Ways to say a value that only the command line knows: runs by name, files with prompts, other commands. */
const COMMANDS = /\bRUN\b|@FILE|`unstir /;
const FEWEST = 4;
const sentences = (text) => text.split(/(?<=\.)\s+/);

/** A sentence up to where it speaks of the command line; where too little is left, nothing. */
function cut(sentence) {
  if (!COMMANDS.test(sentence)) return sentence;
  const clauses = sentence.split(/(?<=[,;:])\s+/);
  const left = clauses.slice(0, clauses.findIndex((clause) => COMMANDS.test(clause))).join(" ");
  return left.split(" ").length < FEWEST ? "" : left.replace(/[,;:]$/, ".");
}

/** The hint of a setting. In a form what is not given is "auto". */
export const hintOf = (text) =>
  sentences(text).map(cut).filter(Boolean).join(" ").replace(/`| \(docs\/\S+\)/g, "").replace(/\bNone\b/g, "auto");

/** Of a solver, an operator, a schedule: its first sentence, unless that is a formula or goes on elsewhere. */
export function leadOf(text = "") {
  const [first] = sentences(text);
  return /[=^~]| [+] /.test(first) || !first.endsWith(".") ? "" : hintOf(first);
}
