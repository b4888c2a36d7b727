// What the keyboard does, in words.

import { el, put } from "./dom.ts";
import { GOALS } from "./keyboard.ts";
import { say, type Key } from "./language.ts";

const KEYS: [keys: string, meaning: Key][] = [
  ["/", "helpSearch"],
  ["j  k", "helpMove"],
  ["o", "helpOpen"],
  ["Esc", "helpLeave"],
  ["0", "helpAll"],
  ["l", "helpLanguage"],
  ["t", "helpTheme"],
  ["?", "helpThis"],
];

export class Help {
  private readonly title = el("h2");
  private readonly list = el("dl", { class: "keys" });
  private readonly close = el("button", { type: "button" });
  readonly element = el("dialog", { id: "help" }, this.title, this.list, this.close);

  constructor() {
    this.close.addEventListener("click", () => this.element.close());
  }

  toggle(): void {
    if (this.element.open) this.element.close();
    else this.element.showModal();
  }

  translate(): void {
    put(this.title, say("help"));
    put(this.close, say("close"));
    this.list.replaceChildren(
      ...KEYS.map(([keys, meaning]) => line(keys, say(meaning))),
      ...Object.entries(GOALS).map(([letter, goal]) => line(`g ${letter}`, `${say("go")} ${say(`go_${goal}`)}`)),
    );
  }
}

function line(keys: string, meaning: string): HTMLElement {
  return el("div", {}, el("dt", {}, el("kbd", {}, keys)), el("dd", {}, meaning));
}
