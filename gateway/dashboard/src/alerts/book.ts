// Every alert that the page knows, each once, in the groups that the list shows. Alerts come over the stream, of which
// the higher sequence wins, and as answers, which are right about all that the stream did not bring since they were
// asked for: a gateway that crashed may give the same change a lower sequence. A place in a group is taken when the alert enters it and
// kept while it stays there, so that nothing jumps.

import { SEVERITIES, type Alert, type AlertCounts } from "../api.ts";

export type Group = "open" | "resolved" | "retrospective";

/** Alerts kept of a group that would otherwise grow for ever; the oldest go. */
const KEPT: Record<Group, number> = { open: Infinity, resolved: 20, retrospective: 200 };

interface Entry {
  alert: Alert;
  group: Group;
  /** Sequence with which it entered its group. */
  entered: number;
  /** How many alerts had been taken when it was. */
  taken: number;
}

/** What taking in an alert changed, for whoever announces it. */
export type Change = "none" | "raised" | "resolved" | "updated";

export class Book {
  private readonly entries = new Map<string, Entry>();
  private known = false;
  private taken = 0;

  /** Whether the gateway's own list was read: until then counts would be too low. */
  get complete(): boolean {
    return this.known;
  }

  /** Takes an alert of the stream. */
  take(alert: Alert): Change {
    const before = this.entries.get(alert.id);
    return before && before.alert.sequence >= alert.sequence ? "none" : this.put(alert);
  }

  /** What to hand to `refill` with the answers to questions asked now. */
  asking(): number {
    return this.taken;
  }

  /** Takes the gateway's lists: an open alert that they lack is over. */
  refill(open: Alert[], resolved: Alert[], asked: number): void {
    const answered = [...open, ...resolved];
    const listed = new Set(answered.map((alert) => alert.id));
    const newer = new Set<string>();
    for (const [id, entry] of this.entries) {
      if (entry.taken > asked) newer.add(id);
      else if (entry.alert.state !== "resolved" && !listed.has(id)) this.entries.delete(id);
    }
    for (const alert of answered) {
      if (newer.has(alert.id)) this.take(alert);
      else this.put(alert);
    }
    this.known = true;
  }

  private put(alert: Alert): Change {
    const before = this.entries.get(alert.id);
    const group = groupOf(alert);
    if (!group) {
      this.entries.delete(alert.id);
      return before ? "updated" : "none";
    }
    const stays = before?.group === group;
    this.taken += 1;
    this.entries.set(alert.id, { alert, group, entered: stays ? before.entered : alert.sequence, taken: this.taken });
    this.trim(group);
    if (stays) return "updated";
    return group === "resolved" ? "resolved" : "raised";
  }

  get(id: string): Alert | undefined {
    return this.entries.get(id)?.alert;
  }

  /** The highest sequence of all alerts known. */
  newest(): number {
    let newest = 0;
    for (const { alert } of this.entries.values()) newest = Math.max(newest, alert.sequence);
    return newest;
  }

  /** Newest first. */
  list(group: Group): Alert[] {
    return [...this.entries.values()]
      .filter((entry) => entry.group === group)
      .sort((a, b) => b.entered - a.entered)
      .map((entry) => entry.alert);
  }

  private trim(group: Group): void {
    if (this.entries.size <= KEPT[group]) return;
    for (const alert of this.list(group).slice(KEPT[group])) this.entries.delete(alert.id);
  }
}

function groupOf(alert: Alert): Group | undefined {
  if (alert.state === "pending" || (alert.state === "resolved" && !alert.fired)) return undefined;
  if (alert.mode === "retrospective") return "retrospective";
  return alert.state === "firing" ? "open" : "resolved";
}

export function count(alerts: Alert[]): AlertCounts {
  const counts: AlertCounts = { critical: 0, major: 0, warning: 0, info: 0 };
  for (const { severity } of alerts) counts[severity] += 1;
  return counts;
}

/** The gravest first; of equals, in the order given. */
export const bySeverity = (alerts: Alert[]): Alert[] =>
  alerts.toSorted((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));
