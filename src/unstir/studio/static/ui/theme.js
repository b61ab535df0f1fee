/** Light or dark, as the system says or as chosen here. */

import {computed, effect, signal} from "./html.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));

/** "auto", "light" or "dark" */
export const theme = signal(localStorage.getItem("unstir.theme") ?? "auto");
export const dark = computed(() => (theme.value === "auto" ? systemDark.value : theme.value === "dark"));

effect(() => {
  document.documentElement.dataset.theme = dark.value ? "dark" : "light";
  localStorage.setItem("unstir.theme", theme.value);
});

export const nextTheme = () => (theme.value = {auto: "light", light: "dark", dark: "auto"}[theme.value]);
