// The gateway itself: its journal, where readings are stored, and where alerts are sent on to.

import type { Output, Sink, Status } from "./api.ts";
import { el, follow, mark, put } from "./dom.ts";
import { bytes, span, whole } from "./format.ts";
import { say, stateWord } from "./language.ts";

interface Row extends HTMLLIElement {
  parts?: { state: HTMLElement; name: HTMLElement; note: HTMLElement };
}

/** States that ask for someone; every other one is calm. */
const SHAPES: Record<string, string> = { draining: "○", retrying: "▲", held: "▲", stalled: "▲", stopped: "◆" };

export class Gateway {
  private readonly title = el("h2");
  private readonly version = el("span", { class: "quiet" });
  private readonly journal = makeRow();
  private readonly sinks = el("ul", { id: "sinks" });
  private readonly outputs = el("ul", { id: "outputs" });
  private readonly sinkRows = new Map<string, Row>();
  private readonly outputRows = new Map<string, Row>();
  readonly element = el(
    "section", { class: "panel gateway", id: "gateway", tabindex: "-1" },
    el("div", { class: "head" }, this.title, this.version),
    el("div", { class: "scroll" }, el("ul", { id: "journal" }, this.journal), this.sinks, this.outputs),
  );
  private status: Status | undefined;

  show(status: Status): void {
    this.status = status;
    this.draw();
  }

  translate(): void {
    put(this.title, say("gateway"));
    this.draw();
  }

  private draw(): void {
    const status = this.status;
    if (!status) return;
    put(this.version, `${status.version} · ${say("uptime", { n: span(status.uptime_s) })}`);
    const waiting = status.journal.head - status.journal.durable;
    fill(this.journal, "running", say("journal"), `${bytes(status.journal.bytes)} · ${say("journalWaiting", { n: whole(waiting) })}`);
    follow(this.sinks, this.sinkRows, status.sinks, (sink) => sink.name, makeRow, drawSink);
    follow(this.outputs, this.outputRows, status.outputs ?? [], ({ kind, name }) => `${kind} ${name}`, makeRow, drawOutput);
  }
}

function makeRow(): Row {
  const parts = { state: el("span", { class: "shape" }), name: el("span"), note: el("span", { class: "quiet" }) };
  const row: Row = el("li", {}, parts.state, parts.name, parts.note);
  row.parts = parts;
  return row;
}

function fill(row: Row, state: string, name: string, note: string): void {
  if (!row.parts) return;
  mark(row, "data-state", state);
  put(row.parts.state, SHAPES[state] ?? "✓");
  put(row.parts.name, name);
  put(row.parts.note, note);
}

/** A closed circuit is as it should be, and not spoken of. */
export function sinkNote({ state, circuit, lag_s, unsettled_records = 0 }: Sink): string {
  const note = [
    stateWord(state), say("lag", { n: span(lag_s) }),
    circuit === "open" && say("circuit_open"), circuit === "half_open" && say("circuit_half_open"),
    unsettled_records > 0 && say("unsettled", { n: whole(unsettled_records) }),
  ];
  return note.filter(Boolean).join(" · ");
}

function drawSink(row: Row, sink: Sink): void {
  fill(row, sink.state, sink.name, sinkNote(sink));
  mark(row, "title", sink.last_error ?? "");
}

function drawOutput(row: Row, output: Output): void {
  const { delivered, failed, lag } = output;
  const note = [
    stateWord(output.state), say("delivered", { n: whole(delivered) }),
    failed > 0 && say("failedTimes", { n: whole(failed) }), lag > 0 && say("waiting", { n: whole(lag) }),
  ];
  const name = output.name === output.kind ? output.name : `${output.kind} ${output.name}`;
  fill(row, output.state, name, note.filter(Boolean).join(" · "));
  mark(row, "title", output.last_error ?? "");
}
