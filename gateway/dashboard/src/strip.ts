// The strip of what is now: rate, devices heard, ledger, journal and sinks. Each figure with what it is measured by.

import type { LedgerTotals, Sink, Status } from "./api.ts";
import { el, follow, mark, put, svg } from "./dom.ts";
import { bytes, percent, span, whole } from "./format.ts";
import { say, type Key } from "./language.ts";

/** Two minutes at two values a second. */
const HISTORY = 240;
const WIDTH = 120;
const HEIGHT = 28;

class Spark {
  private readonly line = svg("polyline", { fill: "none", "vector-effect": "non-scaling-stroke" });
  readonly element = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true",
  });
  private readonly values: number[] = [];

  constructor() {
    this.element.append(this.line);
  }

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > HISTORY) this.values.shift();
    this.line.setAttribute("points", sparkPoints(this.values));
  }
}

/** The newest value is at the right edge; the scale spans what is shown, at least a tenth of its size. */
export function sparkPoints(values: number[]): string {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = Math.max(high - low, Math.abs(high) * 0.1, 1e-9);
  const floor = (low + high - room) / 2;
  const start = HISTORY - values.length;
  return values
    .map((value, at) => {
      const x = ((start + at) / (HISTORY - 1)) * WIDTH;
      const y = HEIGHT - 2 - ((value - floor) / room) * (HEIGHT - 4);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(" ");
}

const COUNTS = ["stored", "quarantined", "declared_lost", "outstanding", "unexplained"] as const;

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

export class Strip {
  private readonly spark = new Spark();
  private readonly readings = new Cell("readings", "now-readings", this.spark.element);
  private readonly reporting = new Cell("reporting", "now-reporting");
  private readonly counts = new Map(COUNTS.map((name) => [name, { label: el("dt"), value: el("dd") }]));
  private readonly countList = el("dl", { class: "counts" });
  private readonly ledger = new Cell("ledger", "now-ledger", this.countList);
  private readonly journal = new Cell("journal", "now-journal");
  private readonly sinkList = el("ul", { class: "sinks" });
  private readonly sinks = new Cell("sinks", "now-sinks", this.sinkList);
  private readonly sinkRows = new Map<string, HTMLLIElement>();
  private readonly cells = [this.readings, this.reporting, this.ledger, this.journal, this.sinks];
  readonly element = el("div", { class: "strip panel" }, ...this.cells.map((cell) => cell.element));
  private status: Status | undefined;

  constructor() {
    for (const [name, { label, value }] of this.counts) {
      this.countList.append(el("div", { "data-count": name }, label, value));
    }
    this.sinks.element.querySelector("p")?.remove();
  }

  translate(): void {
    this.cells.forEach((cell) => cell.translate());
    for (const [name, { label }] of this.counts) put(label, say(name));
    if (this.status) this.draw(this.status);
  }

  show(status: Status): void {
    this.status = status;
    this.spark.add(status.readings_per_s);
    this.draw(status);
  }

  private draw(status: Status): void {
    put(this.readings.figure, whole(Math.round(status.readings_per_s)));
    put(this.reporting.figure, percent(status.devices_reporting, status.devices_known));
    const parts = { m: whole(status.devices_reporting), n: whole(status.devices_known) };
    put(this.reporting.note, say("reportingOf", parts));
    this.drawLedger(status.ledger);
    put(this.journal.figure, bytes(status.journal.bytes));
    const waiting = status.journal.head - status.journal.durable;
    put(this.journal.note, say("journalWaiting", { n: whole(waiting) }));
    follow(this.sinkList, this.sinkRows, status.sinks, (sink) => sink.name, () => el("li"), drawSink);
  }

  private drawLedger(ledger: LedgerTotals): void {
    put(this.ledger.figure, ledger.closed ? `✓ ${say("closed")}` : `✗ ${say("open")}`);
    mark(this.ledger.element, "data-closed", String(ledger.closed));
    put(this.ledger.note, `${say("sampled")} ${whole(ledger.sampled)}`);
    for (const [name, { value }] of this.counts) put(value, whole(ledger[name]));
  }
}

const SINK_SHAPES: Record<Sink["state"], string> = { running: "✓", draining: "○", retrying: "▲", stopped: "◆" };

function drawSink(row: HTMLLIElement, sink: Sink): void {
  mark(row, "data-state", sink.state);
  mark(row, "title", sink.last_error ?? "");
  put(row, `${SINK_SHAPES[sink.state]} ${sink.name} ${say(sink.state)} · ${say("lag", { n: span(sink.lag_s) })}`);
}
