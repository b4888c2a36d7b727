// The city by district: coloured by a metric, alerts marked, and the same thirteen as a list that the keyboard reaches.
// A chosen district narrows the alerts and the devices to it.

import { ask, SEVERITIES, type Alert, type AlertCounts, type District, type Severity } from "../api.ts";
import { bySeverity, count, type Book } from "../alerts/book.ts";
import { severityMark } from "../alerts/mark.ts";
import { el, follow, mark, put } from "../dom.ts";
import { percent, whole } from "../format.ts";
import { current, say } from "../language.ts";
import { remember, remembered } from "../memory.ts";
import { LANDS } from "./geography.ts";
import { classes, classOf, figureOf, METRICS, metricKey, type Class, type Facts, type Metric } from "./metric.ts";
import { Outline, type Mark, type View } from "./outline.ts";
import { Rates } from "./rates.ts";

const POLL_MS = 2_000;

interface Row extends HTMLLIElement {
  parts?: { button: HTMLButtonElement; name: HTMLElement; marks: HTMLElement; figure: HTMLElement };
}

export class CityMap {
  private readonly title = el("h2");
  private readonly metrics = el("div", { class: "ranges", role: "group", id: "metric" });
  private readonly legend = el("ul", { class: "classes", id: "legend" });
  private readonly list = el("ul", { class: "districts", id: "districts" });
  private readonly city: Outline;
  private readonly centre: Outline;
  private readonly centreTitle = el("p", { class: "quiet" });
  readonly element: HTMLElement;
  private metric: Metric = METRICS.find((name) => name === remembered("metric")) ?? "alerts";
  private districts: District[] = [];
  private readonly rates = new Rates();
  private readonly rows = new Map<string, Row>();
  private chosen: string | undefined;
  private readonly pulses = new Map<string, Severity>();

  constructor(private readonly book: Book, private readonly choose: (code: string | undefined) => void) {
    const toggle = (code: string): void => this.choose(code === this.chosen ? undefined : code);
    this.city = new Outline("city", toggle);
    this.centre = new Outline("centre", toggle);
    for (const metric of METRICS) {
      const button = el("button", { type: "button", "data-metric": metric });
      button.addEventListener("click", () => this.setMetric(metric));
      this.metrics.append(button);
    }
    this.element = el(
      "section", { class: "panel map", id: "map", tabindex: "-1", "data-districts": String(LANDS.length) },
      el("div", { class: "head" }, this.title, this.metrics),
      el("div", { class: "maps" }, this.city.element, el("div", { class: "inset" }, this.centreTitle, this.centre.element)),
      this.legend, this.list,
    );
  }

  /** Once the element is in the page and has its size. */
  start(): void {
    this.city.start();
    this.centre.start();
    this.draw();
    setInterval(() => void this.read(), POLL_MS);
  }

  async read(): Promise<void> {
    const districts = await ask<District[]>("districts").catch(() => undefined);
    if (!districts) return;
    this.districts = districts;
    this.rates.add(districts, performance.now());
    this.draw();
  }

  select(code: string | undefined): void {
    this.chosen = code;
    this.draw();
  }

  /** A new live alert: its district's mark pulses once with the next drawing. */
  raised(alert: Alert): void {
    if (alert.district !== null) this.pulses.set(alert.district, alert.severity);
  }

  translate(): void {
    put(this.title, say("mapTitle"));
    put(this.centreTitle, say("centre"));
    this.metrics.setAttribute("aria-label", say("metric"));
    for (const button of this.metrics.querySelectorAll("button")) {
      put(button, say(metricKey(button.dataset["metric"] as Metric)));
    }
    this.draw();
  }

  draw(): void {
    const open = this.book.list("open");
    const facts = this.facts(open);
    const sorted = facts.map((one) => ({ facts: one, class: classOf(this.metric, one) }));
    for (const button of this.metrics.querySelectorAll("button")) {
      mark(button, "aria-pressed", String(button.dataset["metric"] === this.metric));
    }
    this.drawLegend(sorted.map((one) => one.class));
    follow(this.list, this.rows, facts, ({ district }) => district.code, ({ district }) => this.make(district.code), (row, one) =>
      this.show(row, one),
    );
    const view: View = {
      fills: new Map(sorted.flatMap((one) => (one.class ? [[one.facts.district.code, one.class.token]] : []))),
      marks: marks(open, this.book.list("retrospective")),
      chosen: this.chosen,
      tip: (code) => tip(facts.find((one) => one.district.code === code)),
    };
    for (const map of [this.city, this.centre]) {
      map.draw(view);
      for (const [code, severity] of this.pulses) map.pulse(code, severity);
    }
    this.pulses.clear();
  }

  /** Every district of the outline, with what the gateway says of it. */
  private facts(open: Alert[]): Facts[] {
    const known = new Map(this.districts.map((district) => [district.code, district]));
    return LANDS.map(({ code, name }) => {
      const district = known.get(code) ?? { code, name, devices: 0, reporting: 0 };
      const counted = this.book.complete ? count(open.filter((alert) => alert.district === code)) : district.alerts;
      return { district, alerts: counted, rate: this.rates.of(code) };
    });
  }

  private setMetric(metric: Metric): void {
    this.metric = metric;
    remember("metric", metric);
    this.draw();
  }

  private drawLegend(held: (Class | undefined)[]): void {
    const rows = classes(this.metric).map((one) => legendRow(one, held.filter((other) => other === one).length));
    const unknown = held.filter((one) => one === undefined).length;
    if (unknown > 0) rows.push(legendRow({ token: "panel", label: () => say("unknown") }, unknown));
    this.legend.replaceChildren(...rows);
  }

  private make(code: string): Row {
    const [name, marked, figure] = [el("span", { class: "name" }), el("span", { class: "marks" }), el("span", { class: "value" })];
    const button = el("button", { type: "button", "data-code": code }, name, marked, figure);
    button.addEventListener("click", () => this.choose(code === this.chosen ? undefined : code));
    const row: Row = el("li", {}, button);
    row.parts = { button, name, marks: marked, figure };
    return row;
  }

  private show(row: Row, facts: Facts): void {
    if (!row.parts) return;
    const land = LANDS.find((one) => one.code === facts.district.code);
    put(row.parts.name, land?.name[current()] ?? facts.district.code);
    mark(row.parts.button, "aria-pressed", String(facts.district.code === this.chosen));
    mark(row.parts.button, "title", tip(facts));
    const any = SEVERITIES.filter((severity) => (facts.alerts?.[severity] ?? 0) > 0);
    if (row.parts.marks.dataset["any"] !== any.join()) {
      row.parts.marks.dataset["any"] = any.join();
      row.parts.marks.replaceChildren(...any.map((severity) => severityMark(severity)));
    }
    put(row.parts.figure, figureOf(this.metric, facts));
  }
}

function legendRow({ token, severity, label }: Class, districts: number): HTMLLIElement {
  const swatch = severity ? severityMark(severity) : el("span", { class: "swatch", "data-token": token });
  return el("li", {}, swatch, label(), el("b", {}, whole(districts)));
}

/** Of each district with an alert the gravest, live before old, with the number of its others. */
function marks(open: Alert[], old: Alert[]): Map<string, Mark> {
  const found = new Map<string, Mark>();
  for (const [alerts, hollow] of [[open, false], [old.filter((alert) => alert.state === "firing"), true]] as const) {
    const districts = Map.groupBy(bySeverity([...alerts]), (alert) => alert.district ?? "");
    for (const [code, [gravest, ...others]] of districts) {
      if (!gravest || found.has(code)) continue;
      found.set(code, { severity: gravest.severity, hollow, ...words(gravest, others.length, hollow) });
    }
  }
  return found;
}

function words(alert: Alert, others: number, hollow: boolean): { text: string; brief: string } {
  const what = say(hollow ? "retrospective" : alert.severity);
  // The map says the district already, after which zones are often named.
  const zone = alert.zone_name?.[current()] ?? alert.zone ?? alert.agent;
  const district = alert.district_name?.[current()] ?? "";
  const where = zone.startsWith(district) ? zone.slice(district.length).trim() : zone;
  const more = others > 0 ? ` +${whole(others)}` : "";
  return { text: `${what} ${where}${more}`, brief: `${what}${more}` };
}

function tip(facts: Facts | undefined): string {
  if (!facts) return "";
  const { district, alerts } = facts;
  const told = alerts && SEVERITIES.filter((severity) => alerts[severity] > 0).map((severity) => countOf(severity, alerts));
  return [
    district.name[current()],
    told && (told.join(" · ") || say("noAlert")),
    say("reportingShare", { n: percent(district.reporting, district.devices), m: whole(district.devices) }),
    `${say("metric_silent")} ${figureOf("silent", facts)} · ${figureOf("rate", facts)}`,
  ].filter(Boolean).join("\n");
}

const countOf = (severity: Severity, alerts: AlertCounts): string => `${say(severity)} ${whole(alerts[severity])}`;
