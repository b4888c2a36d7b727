// The banner above everything: outputs of alerts that are stalled, since nobody may be called while they are.

import type { Output } from "./api.ts";
import { el, mark, put } from "./dom.ts";
import { moment } from "./format.ts";
import { say } from "./language.ts";

export function bannerText(outputs: Output[]): string {
  const stalled = outputs.filter(({ state }) => state === "stalled");
  return stalled.map(({ name, stalled_since }) => {
    const since = Date.parse(stalled_since ?? "");
    return Number.isNaN(since) ? say("outputStalled", { n: name }) : say("outputStalledSince", { n: name, at: moment(since) });
  }).join(say("sentenceGap"));
}

export class Banner {
  private readonly words = el("span");
  readonly element = el(
    "aside", { class: "banner", id: "banner", role: "alert", "data-severity": "major", hidden: true },
    el("span", { class: "shape", "aria-hidden": "true" }, "▲"), " ", this.words,
  );
  private outputs: Output[] = [];

  show(outputs: Output[]): void {
    this.outputs = outputs;
    const text = bannerText(outputs);
    put(this.words, text);
    this.element.hidden = text === "";
    mark(this.element, "title", outputs.flatMap(({ state, last_error }) => (state === "stalled" && last_error ? [last_error] : [])).join("\n"));
  }

  translate(): void {
    this.show(this.outputs);
  }
}
