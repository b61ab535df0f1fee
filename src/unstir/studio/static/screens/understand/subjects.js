/** What can be explained, each as the question it answers. */

/**
 * @typedef {object} Subject
 * @property {string} what the name the server knows
 * @property {string} question
 * @property {string} hint what one sees
 * @property {boolean} [model] whether a model is looked at
 * @property {boolean} [picture] whether one's own picture can be
 */

/** @type {Subject[]} */
export const SUBJECTS = [
  {what: "forward", question: "What does noise do to a picture?", hint: "Your own picture, dissolving frame by frame.",
    picture: true},
  {what: "schedule", question: "How fast does the noise come?", hint: "Signal, noise and their ratio over time."},
  {what: "distribution", question: "Where do all the points go?", hint: "A cloud that becomes noise, and finds back."},
  {what: "trajectory", question: "How does a picture emerge?", hint: "Samples of a model, from noise to picture.",
    model: true},
  {what: "solvers", question: "Which way leads back fastest?", hint: "The same seed, several solvers and numbers of steps.",
    model: true},
  {what: "attention", question: "What does the model look at?", hint: "Attention maps over a picture as it emerges.",
    model: true},
];
