// What the keyboard does, and the keyboard itself.

import { el, put } from "./dom.ts";
import { say, type Key } from "./language.ts";

const KEYS: [keys: string, meaning: Key][] = [
  ["/", "helpSearch"],
  ["j  k", "helpMove"],
  ["Enter", "helpOpen"],
  ["Esc", "helpLeave"],
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
      ...KEYS.map(([keys, meaning]) => el("div", {}, el("dt", {}, el("kbd", {}, keys)), el("dd", {}, say(meaning)))),
    );
  }
}

export interface Keyboard {
  search: HTMLInputElement;
  move: (by: number) => void;
  open: () => void;
  language: () => void;
  theme: () => void;
  help: () => void;
  helpOpen: () => boolean;
}

export function listen(keyboard: Keyboard): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target === keyboard.search) {
      if (event.key === "Escape" || event.key === "Enter") keyboard.search.blur();
      if (event.key === "Enter") keyboard.move(1);
      return;
    }
    if (keyboard.helpOpen() && event.key !== "?") return;
    const onControl = event.target instanceof Element && event.target.closest("button, select, a") !== null;
    const act = onControl && event.key === "Enter" ? undefined : action(event.key, keyboard);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function action(key: string, keyboard: Keyboard): (() => void) | undefined {
  switch (key) {
    case "/": return () => {
      keyboard.search.focus();
      keyboard.search.select();
    };
    case "j": case "ArrowDown": return () => keyboard.move(1);
    case "k": case "ArrowUp": return () => keyboard.move(-1);
    case "Enter": return keyboard.open;
    case "l": return keyboard.language;
    case "t": return keyboard.theme;
    case "?": return keyboard.help;
    default: return undefined;
  }
}
