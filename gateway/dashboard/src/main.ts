// The page: its parts, the clock of the gateway, and what the live stream moves.

import "./tokens.css";
import "./style.css";

import { count } from "./alerts/book.ts";
import { Alerts } from "./alerts/panel.ts";
import { Banner } from "./banner.ts";
import { ask, type Alert, type Device, type Status } from "./api.ts";
import { Chart } from "./chart.ts";
import { Devices } from "./devices.ts";
import { el } from "./dom.ts";
import { Gateway } from "./gateway.ts";
import { Header } from "./header.ts";
import { Help } from "./help.ts";
import { listen, type Goal } from "./keyboard.ts";
import { current, say, setLanguage, type Language } from "./language.ts";
import { Ledger } from "./ledger.ts";
import { Live, type Batch, type Connection } from "./live.ts";
import { CityMap } from "./map/panel.ts";
import { remember, remembered } from "./memory.ts";
import { Quarantine } from "./quarantine.ts";
import { Registry } from "./registry.ts";
import { Strip } from "./strip.ts";
import { changeTheme, startTheme } from "./theme.ts";

/** The gateway's clock: ages are told by it, since a screen's own clock may be wrong. */
let clockOffsetMs = 0;
const now = (): number => Date.now() + clockOffsetMs;

/** What the lists are narrowed to. */
let words = "";
let district: string | undefined;
/** The list that j and k walk. */
let walked: "alerts" | "devices" = "alerts";
let listed: string[] = [];

const registry = new Registry();
const strip = new Strip();
const ledger = new Ledger();
const gateway = new Gateway();
const quarantine = new Quarantine();
const chart = new Chart(now, registry);
const help = new Help();
const alerts = new Alerts({
  now,
  registry,
  open: (alert) => void openAlert(alert),
  changed: countAlerts,
  raised: (alert) => city.raised(alert),
});
const city = new CityMap(alerts.book, narrow);
const devices = new Devices({
  now,
  registry,
  open: (device) => {
    void chart.open(device);
    watch();
  },
  listed: (ids) => {
    listed = ids;
    watch();
  },
});
const banner = new Banner();
const header = new Header({ search, go, all: () => narrow(undefined), language, theme, help: () => help.toggle() });
const live = new Live(show, {
  alert: (alert) => alerts.take(alert),
  reopened: () => void alerts.read(),
  ask: () => void alerts.poll(),
});
const parts = [header, banner, strip, city, alerts, chart, devices, ledger, quarantine, gateway, help];

function watch(): void {
  const opened = chart.opened();
  live.watch(opened ? [...listed, opened] : listed);
}

function search(text: string): void {
  words = text;
  filter();
}

function narrow(code: string | undefined): void {
  district = code;
  city.select(code);
  header.narrow(code && registry.districtName(code));
  filter();
}

function filter(): void {
  alerts.filter(words, district);
  void devices.filter(words, district);
}

/** The device of an alert on the chart; an alert about an agent shows the agent's devices, one about an output the gateway. */
async function openAlert(alert: Alert): Promise<void> {
  if (alert.output) return go("gateway");
  if (alert.device === null) return header.find(alert.agent);
  const device = await ask<Device>(`devices/${encodeURIComponent(alert.device)}`).catch(() => undefined);
  if (!device) return;
  devices.point(device.id);
  await chart.openAlert(device, alert);
  watch();
}

function countAlerts(): void {
  const { book } = alerts;
  if (book.complete) strip.showAlerts(count(book.list("open")), book.list("retrospective").length);
}

function take(status: Status): void {
  clockOffsetMs = Date.parse(status.now) - Date.now();
  strip.show(status);
  ledger.show(status.ledger, status.retired);
  gateway.show(status);
  banner.show(status.outputs ?? []);
  quarantine.show(status.quarantine);
}

function show(batch: Batch, connection: Connection): void {
  if (batch.status) take(batch.status);
  if (batch.reset) void readAll();
  devices.apply(batch.values);
  devices.draw();
  alerts.draw();
  countAlerts();
  city.draw();
  chart.apply(batch.values);
  quarantine.apply(batch.quarantined);
  header.show(connection);
  document.documentElement.dataset["connection"] = connection;
}

async function readAll(): Promise<void> {
  await Promise.allSettled([
    ask<Status>("status").then(take),
    registry.read(),
    alerts.read(),
    city.read(),
    devices.read(false),
    quarantine.read(),
    chart.read(),
  ]);
}

function go(goal: Goal): void {
  const panel = document.getElementById(goal === "chart" ? "device" : goal);
  panel?.scrollIntoView({ block: "nearest" });
  panel?.focus({ preventScroll: true });
  if (goal === "alerts" || goal === "devices") walk(goal);
}

function walk(list: "alerts" | "devices"): void {
  walked = list;
  for (const part of [alerts, devices]) part.element.toggleAttribute("data-walked", part.element.id === list);
}

function translate(): void {
  document.documentElement.lang = current() === "zh" ? "zh-CN" : "en";
  document.title = current() === "zh" ? "浑河 Hunhe" : "Hunhe 浑河";
  for (const part of parts) part.translate();
  header.narrow(district && registry.districtName(district));
  document.body.setAttribute("aria-label", say("title"));
}

function language(): void {
  const next: Language = current() === "zh" ? "en" : "zh";
  setLanguage(next);
  remember("language", next);
  translate();
}

function theme(): void {
  changeTheme();
  chart.draw();
  city.draw();
}

startTheme();
setLanguage(remembered("language") === "en" ? "en" : "zh");
document.body.append(
  header.element,
  banner.element,
  el(
    "main", {},
    strip.element, alerts.element, city.element, chart.element, devices.element, quarantine.element, ledger.element,
    gateway.element,
  ),
  help.element,
);
translate();
walk(walked);
chart.start();
city.start();
for (const part of [alerts, devices]) {
  part.element.addEventListener("pointerdown", () => walk(part === alerts ? "alerts" : "devices"));
}
listen({
  search: header.search,
  move: (by) => (walked === "alerts" ? alerts : devices).move(by),
  open: () => (walked === "alerts" ? alerts : devices).openChosen(),
  go,
  all: () => narrow(undefined),
  language,
  theme,
  help: () => help.toggle(),
  helpOpen: () => help.element.open,
});
await readAll();
translate();
const liveliest = devices.liveliest();
if (liveliest && !chart.opened()) devices.open(liveliest);
live.start();
