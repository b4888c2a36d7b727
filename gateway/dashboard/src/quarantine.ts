// What was refused: counts by reason, and the newest records. Their texts come from outside and stay text.

import { ask, type QuarantinePage, type QuarantineRecord } from "./api.ts";
import { el, follow, put } from "./dom.ts";
import { clock, whole } from "./format.ts";
import { reason, say } from "./language.ts";

const SHOWN = 8;

interface ReasonRow extends HTMLLIElement {
  parts?: { name: HTMLElement; bar: HTMLMeterElement; count: HTMLElement };
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
  private byReason: Record<string, number> = {};
  private records: QuarantineRecord[] = [];
  private readonly reasonRows = new Map<string, ReasonRow>();
  private readonly recordRows = new Map<string, HTMLLIElement>();

  async read(): Promise<void> {
    const page = await ask<QuarantinePage>("quarantine", { limit: SHOWN }).catch(() => undefined);
    if (!page) return;
    this.records = page.items;
    this.draw();
  }

  show(byReason: Record<string, number>): void {
    this.byReason = byReason;
    this.draw();
  }

  apply(records: QuarantineRecord[]): void {
    if (records.length === 0) return;
    const known = new Map([...this.records, ...records].map((record) => [record.id, record]));
    this.records = [...known.values()].sort((a, b) => b.id - a.id).slice(0, SHOWN);
    this.draw();
  }

  translate(): void {
    put(this.title, say("quarantine"));
    put(this.recentTitle, say("recent"));
    put(this.empty, say("quarantineEmpty"));
    this.draw();
  }

  private draw(): void {
    const counts = Object.entries(this.byReason).sort(([a, m], [b, n]) => n - m || a.localeCompare(b));
    const total = counts.reduce((sum, [, count]) => sum + count, 0);
    const most = counts[0]?.[1] ?? 1;
    put(this.total, say("quarantineTotal", { n: whole(total) }));
    this.empty.hidden = total > 0 || this.records.length > 0;
    this.recentTitle.hidden = this.records.length === 0;
    follow(this.reasons, this.reasonRows, counts, ([name]) => name, makeReason, (row, [name, count]) => {
      if (!row.parts) return;
      put(row.parts.name, reason(name));
      put(row.parts.count, whole(count));
      row.parts.bar.max = most;
      row.parts.bar.value = count;
    });
    follow(this.recent, this.recordRows, this.records, (record) => String(record.id), () => el("li"), (row, record) => {
      put(row, `${clock(Date.parse(record.arrival))}  ${record.device ?? "–"}  ${reason(record.reason)} · ${record.detail}`);
    });
  }
}

function makeReason(): ReasonRow {
  const parts = { name: el("span"), bar: el("meter", { min: "0" }), count: el("span", { class: "count" }) };
  const row: ReasonRow = el("li", {}, parts.name, parts.bar, parts.count);
  row.parts = parts;
  return row;
}
