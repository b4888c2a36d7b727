// What was refused: how much of it is held, counts by reason, and the newest records. Their texts come from outside and
// stay text. A reason that is pressed shows its records alone.

import { ask, type QuarantinePage, type QuarantineRecord, type QuarantineStatus, type RefusedValue } from "./api.ts";
import { el, follow, mark, put } from "./dom.ts";
import { brief, bytes, clock, whole } from "./format.ts";
import { reason, say } from "./language.ts";
import { withUnit } from "./units.ts";

const SHOWN = 8;

interface ReasonRow extends HTMLLIElement {
  parts?: { name: HTMLButtonElement; bar: HTMLMeterElement; count: HTMLElement };
}

export class Quarantine {
  private readonly title = el("h2");
  private readonly total = el("span", { class: "quiet" });
  private readonly reasons = el("ul", { class: "reasons", id: "reasons" });
  private readonly recentTitle = el("h3");
  private readonly recent = el("ol", { class: "records" });
  private readonly empty = el("p", { class: "quiet empty" });
  readonly element = el(
    "section", { class: "panel quarantine", id: "quarantine", tabindex: "-1" },
    el("div", { class: "head" }, this.title, this.total),
    el("div", { class: "scroll" }, this.empty, this.reasons, this.recentTitle, this.recent),
  );
  private held: QuarantineStatus | undefined;
  private only: string | undefined;
  private records: QuarantineRecord[] = [];
  private readonly reasonRows = new Map<string, ReasonRow>();
  private readonly recordRows = new Map<string, HTMLLIElement>();

  async read(): Promise<void> {
    const only = this.only;
    const page = await ask<QuarantinePage>("quarantine", { limit: SHOWN, reason: only }).catch(() => undefined);
    if (!page || only !== this.only) return;
    this.records = page.items;
    this.draw();
  }

  show(held: QuarantineStatus): void {
    this.held = held;
    this.draw();
  }

  apply(records: QuarantineRecord[]): void {
    this.records = newest(this.records, records, this.only);
    if (records.length > 0) this.draw();
  }

  translate(): void {
    put(this.title, say("quarantine"));
    put(this.empty, say("quarantineEmpty"));
    this.draw();
  }

  private press(name: string): void {
    this.only = this.only === name ? undefined : name;
    this.draw();
    void this.read();
  }

  private draw(): void {
    const { held, only } = this;
    const counts = Object.entries(held?.by_reason ?? {}).sort(([a, m], [b, n]) => n - m || a.localeCompare(b));
    const most = counts[0]?.[1] ?? 1;
    if (held) {
      const parts = { n: whole(held.records), m: bytes(held.bytes), limit: bytes(held.limit_bytes) };
      put(this.total, say("quarantineTotal", parts));
    }
    put(this.recentTitle, only === undefined ? say("recent") : say("quarantineOnly", { n: reason(only) }));
    this.empty.hidden = counts.length > 0 || this.records.length > 0;
    this.recentTitle.hidden = this.records.length === 0;
    const make = (): ReasonRow => makeReason();
    follow(this.reasons, this.reasonRows, counts, ([name]) => name, make, (row, [name, count]) => {
      if (!row.parts) return;
      put(row.parts.name, reason(name));
      mark(row.parts.name, "aria-pressed", String(name === only));
      row.parts.name.onclick = () => this.press(name);
      put(row.parts.count, whole(count));
      row.parts.bar.max = most;
      row.parts.bar.value = count;
    });
    follow(this.recent, this.recordRows, this.records, (record) => record.id, () => el("li"), (row, record) => {
      put(row, recordText(record));
    });
  }
}

/** The newest of both, each once: a record that was judged again comes under the same id. */
export function newest(known: QuarantineRecord[], more: QuarantineRecord[], only?: string): QuarantineRecord[] {
  const wanted = more.filter((record) => only === undefined || record.reason === only);
  const all = new Map([...known, ...wanted].map((record) => [record.id, record]));
  return [...all.values()].sort((a, b) => Date.parse(b.arrival) - Date.parse(a.arrival)).slice(0, SHOWN);
}

/** When, whose, why, and what: the refused value with its bound where the gateway knows it. */
export function recordText(record: QuarantineRecord): string {
  const [value] = record.values;
  const what = value ? valueText(value) : record.detail;
  const kind = record.kind === "message" ? "" : `[${say(`kind_${record.kind}`)}] `;
  return `${clock(Date.parse(record.arrival))}  ${kind}${record.device ?? "–"}  ${reason(record.reason)} · ${what}`;
}

function valueText({ channel, value, unit, breach, limit }: RefusedValue): string {
  const parts = { value: withUnit(brief(value), unit), limit: withUnit(brief(limit), unit) };
  return `${channel} = ${say(`breach_${breach}`, parts)}`;
}

function makeReason(): ReasonRow {
  const parts = {
    name: el("button", { type: "button", class: "reason" }), bar: el("meter", { min: "0" }),
    count: el("span", { class: "count" }),
  };
  const row: ReasonRow = el("li", {}, parts.name, parts.bar, parts.count);
  row.parts = parts;
  return row;
}
