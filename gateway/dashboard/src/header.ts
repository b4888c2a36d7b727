// The head of the page: name, where to go, state of the stream, search, the chosen district, language, theme, help.

import { el, mark, put } from "./dom.ts";
import { GOALS, type Goal } from "./keyboard.ts";
import { say } from "./language.ts";
import type { Connection } from "./live.ts";

export interface HeaderActions {
  search: (text: string) => void;
  go: (goal: Goal) => void;
  all: () => void;
  language: () => void;
  theme: () => void;
  help: () => void;
}

const SHAPES: Record<Connection, string> = { connecting: "◌", live: "●", lost: "▲" };

export class Header {
  private readonly name = el("h1");
  readonly search = el("input", {
    type: "search", id: "search", maxlength: "64", autocomplete: "off", spellcheck: "false",
  });
  private readonly shape = el("span", { class: "shape", "aria-hidden": "true" });
  private readonly word = el("span");
  private readonly connection = el("p", { class: "connection", role: "status" }, this.shape, " ", this.word);
  private readonly goals = el("nav", { class: "goals" });
  /** The district that everything is narrowed to; pressing it lets go. */
  private readonly narrowed = el("button", { type: "button", class: "narrowed", id: "narrowed", hidden: true });
  private readonly language = el("button", { type: "button", id: "language" });
  private readonly theme = el("button", { type: "button", id: "theme" }, "◐");
  private readonly help = el("button", { type: "button", id: "help-button" }, "?");
  readonly element = el(
    "header", { class: "header" },
    this.name, this.goals, this.connection, this.narrowed, this.search,
    el("div", { class: "tools" }, this.language, this.theme, this.help),
  );

  private state: Connection = "connecting";

  constructor(actions: HeaderActions) {
    let waiting: ReturnType<typeof setTimeout> | undefined;
    this.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => actions.search(this.search.value.trim()), 200);
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.find("");
    });
    for (const goal of Object.values(GOALS)) {
      const button = el("button", { type: "button", "data-goal": goal });
      button.addEventListener("click", () => actions.go(goal));
      this.goals.append(button);
    }
    this.narrowed.addEventListener("click", actions.all);
    this.language.addEventListener("click", actions.language);
    this.theme.addEventListener("click", actions.theme);
    this.help.addEventListener("click", actions.help);
  }

  translate(): void {
    this.name.replaceChildren("浑河", el("span", { class: "quiet" }, " Hunhe"));
    this.search.placeholder = `/  ${say("search")}`;
    this.search.setAttribute("aria-label", say("search"));
    put(this.language, say("language"));
    this.goals.setAttribute("aria-label", say("go"));
    for (const button of this.goals.querySelectorAll("button")) put(button, say(`go_${button.dataset["goal"] as Goal}`));
    this.narrowed.title = say("allDistricts");
    this.show(this.state);
    for (const [button, text] of [[this.theme, say("theme")], [this.help, say("help")]] as const) {
      button.title = text;
      button.setAttribute("aria-label", text);
    }
  }

  /** Searches for these words as if they were typed. */
  find(text: string): void {
    this.search.value = text;
    this.search.dispatchEvent(new Event("input"));
  }

  narrow(district: string | undefined): void {
    this.narrowed.hidden = district === undefined;
    put(this.narrowed, `${district ?? ""} ✕`);
  }

  show(connection: Connection): void {
    this.state = connection;
    mark(this.connection, "data-connection", connection);
    put(this.shape, SHAPES[connection]);
    put(this.word, say(connection));
  }
}
