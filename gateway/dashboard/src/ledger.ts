// The ledger: where every sample that a device took has gone. Five counts, which together are all of them; and apart
// from them the messages that were refused whole.

import type { LedgerTotals, Retired } from "./api.ts";
import { el, mark, put } from "./dom.ts";
import { whole } from "./format.ts";
import { say } from "./language.ts";

const COUNTS = ["stored", "quarantined", "declared_lost", "outstanding", "unexplained"] as const;

export class Ledger {
  private readonly title = el("h2");
  private readonly state = el("span", { class: "state" });
  private readonly sampled = { label: el("dt"), value: el("dd") };
  private readonly counts = new Map(COUNTS.map((name) => [name, { label: el("dt"), value: el("dd") }]));
  private readonly refused = { label: el("dt"), value: el("dd") };
  private readonly retired = { label: el("dt"), value: el("dd") };
  private readonly retiredRow = el("div", { "data-count": "retired" }, this.retired.label, this.retired.value);
  readonly element = el(
    "section", { class: "panel ledger", id: "ledger", tabindex: "-1" },
    el("div", { class: "head" }, this.title, this.state),
    el(
      "dl", { class: "counts scroll" },
      el("div", { "data-count": "sampled" }, this.sampled.label, this.sampled.value),
      ...[...this.counts].map(([name, { label, value }]) => el("div", { "data-count": name }, label, value)),
      el("div", { "data-count": "messages_refused" }, this.refused.label, this.refused.value),
      this.retiredRow,
    ),
  );
  private totals: LedgerTotals | undefined;
  private dropped = 0;

  show(totals: LedgerTotals, retired: Retired): void {
    this.totals = totals;
    this.dropped = retired.expired + retired.oversize;
    this.draw();
  }

  translate(): void {
    put(this.title, say("ledger"));
    put(this.sampled.label, say("sampled"));
    put(this.retired.label, say("retired"));
    for (const [name, { label }] of this.counts) put(label, say(name));
    put(this.refused.label, say("messages_refused"));
    this.draw();
  }

  private draw(): void {
    const totals = this.totals;
    if (!totals) return;
    put(this.state, totals.closed ? `✓ ${say("closed")}` : `✗ ${say("open")}`);
    mark(this.element, "data-closed", String(totals.closed));
    put(this.sampled.value, whole(totals.sampled));
    for (const [name, { value }] of this.counts) put(value, whole(totals[name]));
    const refused = Object.entries(totals.messages_refused).sort(([, one], [, other]) => other - one);
    put(this.refused.value, whole(refused.reduce((sum, [, count]) => sum + count, 0)));
    mark(this.refused.value, "title", refused.map(([reason, count]) => `${reason} ${whole(count)}`).join(", "));
    const lost = this.counts.get("declared_lost");
    if (lost && totals.written_off > 0) {
      put(lost.value, `${whole(totals.declared_lost)} (${say("written_off", { n: whole(totals.written_off) })})`);
    }
    // A part of what was stored, and no class of its own: spoken of only where there is any.
    this.retiredRow.hidden = this.dropped === 0;
    put(this.retired.value, whole(this.dropped));
  }
}
