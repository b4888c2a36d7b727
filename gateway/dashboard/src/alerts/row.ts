// One alert as the list shows it: how grave, where, what, against what, since when.

import type { Alert } from "../api.ts";
import { el, mark, put } from "../dom.ts";
import { clock, moment, span } from "../format.ts";
import { current, say } from "../language.ts";
import type { Registry } from "../registry.ts";
import { severityMark } from "./mark.ts";
import { measure } from "./measure.ts";
import { placeOf } from "./place.ts";

/** So long a new row is told from those that were there. */
const FRESH_MS = 1_500;

export interface Row extends HTMLLIElement {
  parts?: Record<"mark" | "word" | "place" | "time" | "title" | "value" | "threshold" | "note", HTMLElement>;
}

export function makeRow(alert: Alert): Row {
  const parts = {
    mark: el("span", { class: "shape" }),
    word: el("span", { class: "word" }),
    place: el("span", { class: "place" }),
    time: el("time", { class: "quiet" }),
    title: el("span", { class: "title" }),
    value: el("span", { class: "value" }),
    threshold: el("span", { class: "threshold" }),
    note: el("span", { class: "note quiet" }),
  };
  const row: Row = el(
    "li", { class: "alert", role: "option", id: `alert-${alert.id}`, "data-id": alert.id },
    parts.mark,
    el("p", { class: "where" }, parts.word, parts.place, parts.time),
    el("p", { class: "what" }, parts.title, el("span", { class: "figures" }, parts.value, " ", parts.threshold)),
    el("p", { class: "since" }, parts.note),
  );
  row.parts = parts;
  return row;
}

/** Marks a row as new for a moment. */
export function refresh(row: Row): void {
  mark(row, "data-fresh", "true");
  setTimeout(() => row.removeAttribute("data-fresh"), FRESH_MS);
}

export function showRow(row: Row, alert: Alert, registry: Registry, nowMs: number): void {
  if (!row.parts) return;
  const { parts } = row;
  const old = alert.mode === "retrospective";
  if (row.dataset["severity"] !== alert.severity || row.dataset["mode"] !== alert.mode) {
    parts.mark.replaceChildren(severityMark(alert.severity, old));
  }
  mark(row, "data-severity", alert.severity);
  mark(row, "data-mode", alert.mode);
  mark(row, "data-state", alert.state);
  mark(row, "data-sequence", String(alert.sequence));
  put(parts.word, old ? `${say(alert.severity)} · ${say("retrospective")}` : say(alert.severity));
  put(parts.place, placeOf(alert));
  const measured = measure(alert, registry.rule(alert.rule)?.when);
  put(parts.title, measured ? alert.title[current()] : alert.text[current()]);
  put(parts.value, measured?.value ?? "");
  put(parts.threshold, measured?.threshold ?? "");
  const since = Date.parse(alert.since);
  put(parts.time, old ? moment(since) : clock(since));
  mark(parts.time, "datetime", alert.since);
  mark(row, "title", alert.text[current()]);
  put(parts.note, `${alert.output ?? alert.device ?? alert.agent} · ${note(alert, since, nowMs)}`);
}

function note(alert: Alert, since: number, nowMs: number): string {
  if (alert.mode === "retrospective") return say("foundAt", { n: clock(Date.parse(alert.arrival_time)) });
  if (alert.state === "resolved") {
    const ended = Date.parse(alert.event_time);
    return say("resolvedAt", { at: clock(ended), n: span((ended - since) / 1000) });
  }
  return say("lasting", { n: span((nowMs - since) / 1000) });
}
