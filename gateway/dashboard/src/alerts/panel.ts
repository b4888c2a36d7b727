// The list of alerts: what is wrong now on top, then what ended lately, and apart from both what old data showed.
// An alert is on the screen with the frame after its event, not with the next half second; a storm of them still is one
// drawing a frame.

import { ask, type Alert, type AlertPage, type Query } from "../api.ts";
import { move } from "../choice.ts";
import { el, follow, mark, put, unseen } from "../dom.ts";
import { whole } from "../format.ts";
import { say } from "../language.ts";
import type { Registry } from "../registry.ts";
import { Book, type Group } from "./book.ts";
import { newest } from "./newest.ts";
import { matches, placeOf } from "./place.ts";
import { makeRow, refresh, showRow, type Row } from "./row.ts";

const PAGE = 200;
const PAGES_MOST = 10;
/** More than are shown: pending ones that went away are among them. */
const RESOLVED = 100;
/** Rows of a group that are drawn; of further ones their number is told. */
const SHOWN_MOST = 200;

/** Longer than a gateway takes that answers. */
const POLL_MS = 5_000;

/** With more new ones in a second none of them flashes or pulses: a storm is seen without, and drawing it costs. */
const CALM = 4;

export interface AlertActions {
  now: () => number;
  registry: Registry;
  open: (alert: Alert) => void;
  /** The alerts are not what they were. */
  changed: () => void;
  /** A new alert of this moment that stands out. */
  raised: (alert: Alert) => void;
}

class Part {
  readonly list: HTMLUListElement;
  readonly more = el("p", { class: "quiet empty", hidden: true });
  readonly rows = new Map<string, Row>();

  constructor(readonly group: Group) {
    this.list = el("ul", { class: "alerts-list", role: "listbox", tabindex: "-1", id: `alerts-${group}` });
  }
}

export class Alerts {
  readonly book = new Book();
  private readonly title = el("h2");
  private readonly note = el("span", { class: "quiet" });
  private readonly fresh = el("button", { type: "button", class: "fresh", hidden: true });
  private readonly empty = el("p", { class: "quiet empty" });
  private readonly resolvedTitle = el("h3");
  private readonly oldTitle = el("button", { type: "button", class: "fold", "aria-expanded": "false" });
  private readonly spoken = unseen({ "aria-live": "polite", id: "spoken" });
  private readonly parts = { open: new Part("open"), resolved: new Part("resolved"), retrospective: new Part("retrospective") };
  private readonly scroll = el(
    "div", { class: "scroll" },
    this.empty, this.parts.open.list, this.parts.open.more,
    this.resolvedTitle, this.parts.resolved.list,
  );
  private readonly old = el(
    "div", { class: "old" }, this.oldTitle, el("div", { class: "scroll" }, this.parts.retrospective.list, this.parts.retrospective.more),
  );
  readonly element = el(
    "section", { class: "panel alerts", id: "alerts", tabindex: "-1" },
    el("div", { class: "head" }, this.title, this.note, this.fresh), this.scroll, this.old, this.spoken,
  );
  private words = "";
  private district: string | undefined;
  private chosen: string | undefined;
  private failure: string | undefined;
  private unread = 0;
  /** New ones that are not yet drawn. */
  private raised: Alert[] = [];
  private raisedAt: number[] = [];
  private frame: number | undefined;
  /** Whether the newest are out of sight; noted as it changes, since asking costs a layout. */
  private scrolled = false;
  private asking: AbortController | undefined;
  private polling = false;

  constructor(private readonly actions: AlertActions) {
    this.oldTitle.addEventListener("click", () => this.unfold(this.oldTitle.getAttribute("aria-expanded") !== "true"));
    this.fresh.addEventListener("click", () => this.scroll.scrollTo({ top: 0 }));
    this.scroll.addEventListener("scroll", () => {
      this.scrolled = this.scroll.scrollTop > 4;
      if (!this.scrolled) this.seen();
    });
    this.unfold(false);
  }

  /** Reads the gateway's lists. */
  async read(): Promise<void> {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const asked = this.book.asking();
    try {
      const [open, resolved] = await Promise.all([
        readOpen(asking.signal),
        ask<AlertPage>("alerts", { state: "resolved", limit: RESOLVED }, asking.signal),
      ]);
      this.book.refill(open, resolved.items, asked);
      this.failure = undefined;
    } catch (error) {
      if (asking.signal.aborted) return;
      this.failure = error instanceof Error ? error.message : "";
    }
    this.draw();
    this.actions.changed();
  }

  /** Asks for what changed since the last that is known; at most one such question is under way. */
  async poll(): Promise<void> {
    if (this.polling) return;
    this.polling = true;
    const signal = AbortSignal.timeout(POLL_MS);
    const page = (query: Query): Promise<AlertPage> => ask<AlertPage>("alerts", query, signal);
    try {
      await newest(page, this.book.newest(), (alerts) => alerts.forEach((alert) => this.take(alert)));
    } catch {
      // It is asked again in a second, and the header shows that there is no stream.
    } finally {
      this.polling = false;
    }
  }

  /** Takes one alert of the stream. */
  take(alert: Alert): void {
    const change = this.book.take(alert);
    if (change === "none") return;
    if (change === "raised") this.raised.push(alert);
    if (this.frame === undefined) {
      this.frame = requestAnimationFrame(() => {
        this.draw();
        this.actions.changed();
      });
    }
  }

  filter(words: string, district: string | undefined): void {
    this.words = words;
    this.district = district;
    this.draw();
  }

  move(by: number): void {
    const keys = this.walked().map((alert) => alert.id);
    this.chosen = move(keys, this.chosen, by);
    this.draw();
    const row = this.rowOf(this.chosen);
    row?.scrollIntoView({ block: "nearest" });
    const list = row?.parentElement;
    if (row && list) {
      list.setAttribute("aria-activedescendant", row.id);
      list.focus({ preventScroll: true });
    }
  }

  openChosen(): void {
    const alert = this.chosen === undefined ? undefined : this.book.get(this.chosen);
    if (alert) this.actions.open(alert);
  }

  translate(): void {
    put(this.title, say("alerts"));
    for (const part of Object.values(this.parts)) part.list.setAttribute("aria-label", say("alerts"));
    put(this.resolvedTitle, say("resolvedLately"));
    this.draw();
  }

  draw(): void {
    if (this.frame !== undefined) cancelAnimationFrame(this.frame);
    const open = this.shown("open");
    const all = this.book.list("open").length;
    put(this.note, open.length === all ? say("newestFirst") : say("alertsShown", { m: whole(open.length), n: whole(all) }));
    this.drawPart(this.parts.open, open);
    const resolved = this.shown("resolved");
    this.drawPart(this.parts.resolved, resolved);
    this.resolvedTitle.hidden = resolved.length === 0;
    const old = this.shown("retrospective");
    this.drawPart(this.parts.retrospective, old);
    this.old.hidden = old.length === 0;
    put(this.oldTitle, say("oldFoundNow", { n: whole(old.length) }));
    this.empty.hidden = open.length > 0;
    put(this.empty, this.emptyText());
    const raised = this.raised;
    this.raised = [];
    this.frame = undefined;
    if (raised.length === 0) return;
    const nowMs = performance.now();
    this.raisedAt = [...this.raisedAt.filter((at) => nowMs - at < 1_000), ...raised.map(() => nowMs)];
    for (const alert of raised) this.announce(alert, this.raisedAt.length <= CALM);
  }

  private emptyText(): string {
    if (this.book.complete) return say(this.words || this.district ? "noAlertHere" : "noAlertNow");
    return this.failure === undefined ? say("alertsUnknown") : say("failed", { n: this.failure });
  }

  private drawPart(part: Part, alerts: Alert[]): void {
    const now = this.actions.now();
    follow(part.list, part.rows, alerts.slice(0, SHOWN_MOST), (alert) => alert.id, (alert) => this.make(alert), (row, alert) => {
      showRow(row, alert, this.actions.registry, now);
      mark(row, "aria-selected", String(alert.id === this.chosen));
    });
    const further = alerts.length - SHOWN_MOST;
    part.more.hidden = further <= 0;
    put(part.more, say("furtherAlerts", { n: whole(Math.max(0, further)) }));
  }

  private make(alert: Alert): Row {
    const row = makeRow(alert);
    row.addEventListener("click", () => {
      this.chosen = alert.id;
      this.draw();
      this.openChosen();
    });
    return row;
  }

  private announce(alert: Alert, calm: boolean): void {
    const row = this.rowOf(alert.id);
    if (row && calm) refresh(row);
    const words = `${say(alert.severity)} ${placeOf(alert)}`;
    put(this.spoken, say(alert.mode === "live" ? "newAlert" : "newOldAlert", { n: words }));
    if (alert.mode !== "live") return;
    if (calm) this.actions.raised(alert);
    if (!this.scrolled) return;
    this.unread += 1;
    this.fresh.hidden = false;
    put(this.fresh, say("newAbove", { n: whole(this.unread) }));
  }

  private seen(): void {
    this.unread = 0;
    this.fresh.hidden = true;
  }

  private unfold(open: boolean): void {
    mark(this.oldTitle, "aria-expanded", String(open));
  }

  private shown(group: Group): Alert[] {
    return this.book.list(group).filter(
      (alert) => matches(alert, this.words) && (this.district === undefined || alert.district === this.district),
    );
  }

  private walked(): Alert[] {
    const folded = this.oldTitle.getAttribute("aria-expanded") !== "true";
    return [...this.shown("open"), ...this.shown("resolved"), ...(folded ? [] : this.shown("retrospective"))];
  }

  private rowOf(id: string | undefined): Row | undefined {
    if (id === undefined) return undefined;
    return Object.values(this.parts).map((part) => part.rows.get(id)).find((row) => row !== undefined);
  }
}

async function readOpen(signal: AbortSignal): Promise<Alert[]> {
  const open: Alert[] = [];
  let before: number | undefined;
  for (let page = 0; page < PAGES_MOST; page += 1) {
    const { items, next } = await ask<AlertPage>("alerts", { state: "open", limit: PAGE, before }, signal);
    open.push(...items);
    if (next == null) break;
    before = next;
  }
  return open;
}
