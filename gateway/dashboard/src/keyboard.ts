// The keyboard. `g` waits for a letter that names where to go; every other key acts at once.

/** Where `g` and a letter lead: ids of panels. */
export const GOALS = {
  m: "map", a: "alerts", c: "chart", d: "devices", l: "ledger", q: "quarantine", w: "gateway",
} as const;
export type Goal = (typeof GOALS)[keyof typeof GOALS];

const GO_WITHIN_MS = 1_500;

export interface Keyboard {
  search: HTMLInputElement;
  move: (by: number) => void;
  open: () => void;
  go: (goal: Goal) => void;
  all: () => void;
  language: () => void;
  theme: () => void;
  help: () => void;
  helpOpen: () => boolean;
}

export function listen(keyboard: Keyboard): void {
  let goAt = -Infinity;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target === keyboard.search) {
      if (event.key === "Escape" || event.key === "Enter") keyboard.search.blur();
      if (event.key === "Enter") keyboard.move(1);
      return;
    }
    if (keyboard.helpOpen() && event.key !== "?") return;
    const going = event.timeStamp - goAt < GO_WITHIN_MS;
    goAt = event.key === "g" && !going ? event.timeStamp : -Infinity;
    const onControl = event.target instanceof Element && event.target.closest("button, select, a") !== null;
    const own = onControl && (event.key === "Enter" || event.key.startsWith("Arrow"));
    const act = own ? undefined : going ? goal(event.key, keyboard) : action(event.key, keyboard);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function goal(key: string, keyboard: Keyboard): (() => void) | undefined {
  const found = (GOALS as Record<string, Goal>)[key];
  return found && (() => keyboard.go(found));
}

function action(key: string, keyboard: Keyboard): (() => void) | undefined {
  switch (key) {
    case "/": return () => {
      keyboard.search.focus();
      keyboard.search.select();
    };
    case "j": case "ArrowDown": return () => keyboard.move(1);
    case "k": case "ArrowUp": return () => keyboard.move(-1);
    case "o": case "Enter": return keyboard.open;
    case "0": return keyboard.all;
    case "l": return keyboard.language;
    case "t": return keyboard.theme;
    case "?": return keyboard.help;
    default: return undefined;
  }
}
