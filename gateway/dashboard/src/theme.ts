// Dark or light, and the colours that hold for it where CSS does not reach: on a canvas.

import { remember, remembered } from "./memory.ts";

export function startTheme(): void {
  const light = window.matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset["theme"] = remembered("theme") ?? (light ? "light" : "dark");
}

export function changeTheme(): void {
  const next = document.documentElement.dataset["theme"] === "light" ? "dark" : "light";
  document.documentElement.dataset["theme"] = next;
  remember("theme", next);
}

/** The colour of a token of tokens.css. */
export const colour = (token: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${token}`).trim();

/** The page's own letters, for text on a canvas. */
export const font = (): string => getComputedStyle(document.body).fontFamily;
