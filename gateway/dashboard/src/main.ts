// The page: its parts, the clock of the gateway, and what the live stream moves.

import "./tokens.css";
import "./style.css";

import { ask, type DeviceClass, type Status } from "./api.ts";
import { Chart } from "./chart.ts";
import { Devices } from "./devices.ts";
import { el } from "./dom.ts";
import { Header } from "./header.ts";
import { Help, listen } from "./help.ts";
import { current, say, setLanguage, type Language } from "./language.ts";
import { Live, type Batch, type Connection } from "./live.ts";
import { Quarantine } from "./quarantine.ts";
import { Strip } from "./strip.ts";

/** The gateway's clock: ages are told by it, since a screen's own clock may be wrong. */
let clockOffsetMs = 0;
const now = (): number => Date.now() + clockOffsetMs;

const strip = new Strip();
const quarantine = new Quarantine();
const chart = new Chart(now);
const help = new Help();
let listed: string[] = [];
const devices = new Devices({
  now,
  open: (device) => {
    void chart.open(device);
    watch();
  },
  listed: (ids) => {
    listed = ids;
    watch();
  },
});
const header = new Header({ search: (text) => void devices.search(text), language, theme, help: () => help.toggle() });
const live = new Live(show);

function watch(): void {
  const opened = chart.opened();
  live.watch(opened ? [...listed, opened] : listed);
}

function take(status: Status): void {
  clockOffsetMs = Date.parse(status.now) - Date.now();
  strip.show(status);
  quarantine.show(status.quarantined_by_reason);
}

function show(batch: Batch, connection: Connection): void {
  if (batch.status) take(batch.status);
  if (batch.reset) void readAll();
  devices.apply(batch.values);
  devices.draw();
  chart.apply(batch.values);
  quarantine.apply(batch.quarantined);
  header.show(connection);
  document.documentElement.dataset["connection"] = connection;
}

async function readAll(): Promise<void> {
  await Promise.allSettled([
    ask<Status>("status").then(take),
    ask<DeviceClass[]>("classes").then((classes) => devices.setClasses(classes)),
    devices.read(false),
    quarantine.read(),
    chart.read(),
  ]);
}

function translate(): void {
  document.documentElement.lang = current() === "zh" ? "zh-CN" : "en";
  document.title = current() === "zh" ? "浑河 Hunhe" : "Hunhe 浑河";
  for (const part of [header, strip, devices, chart, quarantine, help]) part.translate();
  document.body.setAttribute("aria-label", say("title"));
}

function language(): void {
  const next: Language = current() === "zh" ? "en" : "zh";
  setLanguage(next);
  remember("language", next);
  translate();
}

function theme(): void {
  const next = document.documentElement.dataset["theme"] === "light" ? "dark" : "light";
  document.documentElement.dataset["theme"] = next;
  remember("theme", next);
  chart.draw();
}

function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`hunhe.${key}`, value);
  } catch {
    // A browser that keeps nothing still shows everything.
  }
}

function remembered(key: string): string | null {
  try {
    return localStorage.getItem(`hunhe.${key}`);
  } catch {
    return null;
  }
}

const light = window.matchMedia("(prefers-color-scheme: light)").matches;
document.documentElement.dataset["theme"] = remembered("theme") ?? (light ? "light" : "dark");
setLanguage(remembered("language") === "en" ? "en" : "zh");

document.body.append(
  header.element,
  el("main", {}, strip.element, devices.element, chart.element, quarantine.element),
  help.element,
);
translate();
chart.start();
listen({
  search: header.search,
  move: (by) => devices.move(by),
  open: () => devices.openChosen(),
  language,
  theme,
  help: () => help.toggle(),
  helpOpen: () => help.element.open,
});
await readAll();
const first = devices.first();
if (first && !chart.opened()) devices.open(first);
live.start();
