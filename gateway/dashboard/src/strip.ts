// The strip of what is now, each figure with what it is measured by: alerts, devices heard, rate, ledger.

import { SEVERITIES, type AlertCounts, type Severity, type Status } from "./api.ts";
import { severityMark } from "./alerts/mark.ts";
import { el, mark, put } from "./dom.ts";
import { percent, whole } from "./format.ts";
import { say, type Key } from "./language.ts";
import { Spark } from "./spark.ts";

class Cell {
  private readonly label = el("h2");
  readonly figure = el("span", { class: "figure" });
  readonly note = el("span", { class: "quiet" });
  readonly element: HTMLElement;

  constructor(private readonly key: Key, id: string, ...more: Node[]) {
    this.element = el("section", { class: "cell", id }, this.label, el("p", {}, this.figure, " ", this.note), ...more);
  }

  translate(): void {
    put(this.label, say(this.key));
  }
}

/** Live alerts by severity. A severity without an alert stays grey. */
class AlertCell extends Cell {
  private readonly counts: Map<Severity, { number: HTMLElement; word: HTMLElement; element: HTMLElement }>;

  constructor() {
    super("alertsNow", "now-alerts");
    this.counts = new Map(SEVERITIES.map((severity) => {
      const [number, word] = [el("span", { class: "figure" }), el("span", { class: "quiet" })];
      const element = el("span", { class: "count", "data-severity": severity }, severityMark(severity), number, word);
      return [severity, { number, word, element }];
    }));
    this.figure.classList.replace("figure", "severities");
    this.figure.append(...[...this.counts.values()].map(({ element }) => element));
  }

  override translate(): void {
    super.translate();
    for (const [severity, { word }] of this.counts) put(word, say(severity));
  }

  show(counts: AlertCounts | undefined, retrospective: number | undefined): void {
    for (const [severity, { number, element }] of this.counts) {
      const count = counts?.[severity];
      put(number, count === undefined ? "–" : whole(count));
      mark(element, "data-any", String((count ?? 0) > 0));
    }
    put(this.note, retrospective ? say("foundInOldData", { n: whole(retrospective) }) : "");
  }
}

export class Strip {
  private readonly rateSpark = new Spark();
  private readonly shareSpark = new Spark();
  private readonly alerts = new AlertCell();
  private readonly reporting = new Cell("reporting", "now-reporting", this.shareSpark.element);
  private readonly online = new Cell("online", "now-online");
  private readonly readings = new Cell("readings", "now-readings", this.rateSpark.element);
  private readonly ledger = new Cell("ledger", "now-ledger");
  private readonly cells = [this.alerts, this.reporting, this.online, this.readings, this.ledger];
  readonly element = el("div", { class: "strip panel" }, ...this.cells.map((cell) => cell.element));
  private status: Status | undefined;
  private counts: AlertCounts | undefined;
  private retrospective: number | undefined;

  translate(): void {
    this.cells.forEach((cell) => cell.translate());
    this.draw();
  }

  show(status: Status): void {
    this.status = status;
    this.rateSpark.add(status.readings_per_s);
    this.shareSpark.add(status.devices_reporting / Math.max(1, status.devices_known));
    this.draw();
  }

  /** The page's own count, which is there before the gateway's next status; undefined until it is complete. */
  showAlerts(counts: AlertCounts | undefined, retrospective: number | undefined): void {
    this.counts = counts;
    this.retrospective = retrospective;
    this.drawAlerts();
  }

  private drawAlerts(): void {
    this.alerts.show(this.counts ?? this.status?.alerts, this.retrospective ?? this.status?.alerts?.retrospective);
  }

  private draw(): void {
    this.drawAlerts();
    const status = this.status;
    if (!status) return;
    put(this.readings.figure, whole(Math.round(status.readings_per_s)));
    put(this.reporting.figure, percent(status.devices_reporting, status.devices_known));
    const known = whole(status.devices_known);
    put(this.reporting.note, say("reportingOf", { m: whole(status.devices_reporting), n: known }));
    put(this.online.figure, whole(status.devices_online));
    put(this.online.note, say("onlineOf", { n: known }));
    const { closed, unexplained } = status.ledger;
    put(this.ledger.figure, closed ? `✓ ${say("closed")}` : `✗ ${say("open")}`);
    mark(this.ledger.element, "data-closed", String(closed));
    put(this.ledger.note, `${say("unexplained")} ${whole(unexplained)}`);
  }
}
