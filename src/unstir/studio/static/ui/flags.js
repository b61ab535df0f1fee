/**
 * Midjourney's habits in the prompt box: "fox --ar 3:2 --seed 7 --no text". Pure functions.
 *
 * A flag takes all words up to the next one, so flags come after the prompt.
 */

const whole = (low, high) => ({
  accepts: `a whole number from ${low} to ${high}`,
  read: (text) => (/^\d+$/.test(text) && Number(text) >= low && Number(text) <= high ? Number(text)
    : undefined),
});

const MOST_GUIDANCE = 15;
const times = (factor) =>
  `sets guidance to 1 + (guidance - 1) × ${Number(factor.toFixed(2))}, at most ${MOST_GUIDANCE}`;

/** name -> {accepts, read(text) -> value or undefined, says(value, model)} */
export const FLAGS = {
  ar: {
    accepts: "width:height, such as 3:2",
    read: (text) => {
      const [, w, h] = text.match(/^(\d{1,3}):(\d{1,3})$/) ?? [];
      return Number(w) > 0 && Number(h) > 0 && w / h <= 8 && h / w <= 8 ? [Number(w), Number(h)] : undefined;
    },
    says: (value, model) => `sets size to ${sizeFor(value,
      model)}: as many pixels as the model makes, in this shape, sides in steps of 8`,
  },
  seed: {...whole(0, Number.MAX_SAFE_INTEGER), says: (value) =>
    `sets seed to ${value}: the same picture again from the same settings`},
  no: {
    accepts: "what is not to be seen, in words",
    read: (text) => text || undefined,
    says: (value) => `sets negative to "${value}": guidance moves away from it, in models that read prompts`,
  },
  chaos: {...whole(0, 100), says: (value) =>
    `${times(1 - value / 100)}: more variety, less obedience to the prompt`},
  stylize: {...whole(0, 1000), says: (value) =>
    `${times(value / 100)}: above 100 the prompt counts more, below it less`},
  n: {...whole(1, 64), says: (value) => `makes ${value} ${value === 1 ? "picture" : "pictures"}`},
  steps: {...whole(1, 10000), says: (value) =>
    `sets steps to ${value}: more are slower and nearer to the exact solution`},
};

const KNOWN = Object.keys(FLAGS).map((name) => `--${name}`).join(", ");

/** "80x56": the pixels of the model in the shape w:h, sides in steps of 8. */
export function sizeFor([w, h], model) {
  const [height, width] = model?.size ?? [64, 64];
  const side = (share) => Math.max(8, Math.round(Math.sqrt(width * height * share) / 8) * 8);
  return `${side(w / h)}x${side(h / w)}`;
}

/**
 * The prompt without its flags, and the flags in order.
 * @returns {{prompt: string, flags: {name: string, text: string, value: any, says: string, error: boolean}[]}}
 */
export function parse(text, model) {
  const [prompt, ...parts] = text.split(/(?:^|\s)(?:--|—)(?=\S)/); // phones make one long dash of two
  const seen = new Set();
  const flags = parts.map((part) => {
    const [, name, words] = part.match(/^(\S+)\s*([^]*)$/);
    const shown = `--${part.trim()}`;
    const wrong = (says) => ({name, text: shown, value: null, says, error: true});
    const flag = Object.hasOwn(FLAGS, name) ? FLAGS[name] : null;
    if (!flag) return wrong(`no flag is called --${name}. There are ${KNOWN}`);
    if (seen.has(name)) return wrong(`--${name} is given twice`);
    seen.add(name);
    const value = flag.read(words.trim());
    if (value === undefined) return wrong(`--${name} takes ${flag.accepts}; got ${words.trim()
      ? `"${words.trim()}"` : "nothing"}`);
    return {name, text: shown, value, says: flag.says(value, model), error: false};
  });
  return {prompt: prompt.trim(), flags};
}

/** The settings that valid flags set; `guidance` is what it would be without them. */
export function settingsOf(flags, model, guidance) {
  const given = Object.fromEntries(flags.filter((flag) => !flag.error)
    .map((flag) => [flag.name, flag.value]));
  const settings = {};
  for (const name of ["seed", "n", "steps"]) if (name in given) settings[name] = given[name];
  if ("ar" in given) settings.size = sizeFor(given.ar, model);
  if ("no" in given) settings.negative = given.no;
  if ("chaos" in given || "stylize" in given) {
    const factor = (1 - (given.chaos ?? 0) / 100) * ((given.stylize ?? 100) / 100);
    settings.guidance = Number(Math.min(MOST_GUIDANCE, 1 + (guidance - 1) * factor).toFixed(3));
  }
  return settings;
}
