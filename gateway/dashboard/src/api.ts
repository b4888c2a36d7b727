// The gateway's answers, as far as the page reads them, and the one way to ask for them.

export interface Bilingual {
  zh: string;
  en: string;
}

export interface LedgerTotals {
  sampled: number;
  stored: number;
  quarantined: number;
  declared_lost: number;
  /** Of these, unexplained until an operator wrote them off. */
  written_off: number;
  outstanding: number;
  unexplained: number;
  duplicates: number;
  readings: number;
  closed: boolean;
  /** By reason: messages refused whole, whose samples are in none of the counts. */
  messages_refused: Record<string, number>;
}

export const SEVERITIES = ["critical", "major", "warning", "info"] as const;
export type Severity = (typeof SEVERITIES)[number];
export type AlertCounts = Record<Severity, number>;

export interface Alert {
  id: string;
  /** Rises with every change of any alert. */
  sequence: number;
  rule: string;
  severity: Severity;
  state: "pending" | "firing" | "resolved";
  /** Tells a resolved alert from a pending one that went away. */
  fired: boolean;
  mode: "live" | "retrospective";
  /** Absent for an alert about an agent. */
  device: string | null;
  agent: string;
  /** The gateway's own output that it is about. */
  output?: string;
  class: string | null;
  zone: string | null;
  zone_name: Bilingual | null;
  district: string | null;
  district_name: Bilingual | null;
  operator: string;
  /** Absent for status bits and silence. */
  channel: string | null;
  value: number | null;
  threshold: number | null;
  unit: string;
  since: string;
  event_time: string;
  arrival_time: string;
  title: Bilingual;
  text: Bilingual;
}

export interface AlertPage {
  items: Alert[];
  next?: number | null;
}

/** What a rule watches, as its file says it. */
export interface Condition {
  channel?: string;
  at_least?: number;
  clear_below?: number;
  at_most?: number;
  clear_above?: number;
  silent_share?: number;
}

export interface Rule {
  id: string;
  class?: string | null;
  severity: Severity;
  title: Bilingual;
  source?: string;
  when: Condition;
}

/** A district; what an older gateway does not say is absent. */
export interface District {
  code: string;
  name: Bilingual;
  devices: number;
  reporting: number;
  silent?: number;
  alerts?: AlertCounts;
  /** Values accepted since the gateway began. */
  readings?: number;
}

/** Where alerts are sent on to. */
export interface Output {
  name: string;
  kind: string;
  state: string;
  stalled_since?: string | null;
  lag: number;
  delivered: number;
  failed: number;
  last_error: string | null;
}

export interface Sink {
  name: string;
  state: "running" | "draining" | "retrying" | "stopped";
  /** Do requests go to its database? */
  circuit?: "closed" | "open" | "half_open";
  lag_records: number;
  /** Written, and lost if its database were killed now. */
  unsettled_records?: number;
  lag_s: number;
  last_error: string | null;
}

export interface Status {
  version: string;
  uptime_s: number;
  now: string;
  readings_per_s: number;
  samples_total: number;
  messages_total: number;
  devices_known: number;
  devices_online: number;
  devices_reporting: number;
  journal: { bytes: number; head: number; durable: number };
  sinks: Sink[];
  ledger: LedgerTotals;
  quarantine: QuarantineStatus;
  retired: Retired;
  alerts?: AlertCounts & { retrospective?: number };
  outputs?: Output[];
}

export interface DeviceClass {
  name: string;
  title: Bilingual;
  interval_s: number;
  channels: { name: string; kind: string }[];
}

export interface Zone {
  id: string;
  name: Bilingual;
}

export interface LatestValue {
  channel: string;
  name: Bilingual;
  unit: string;
  value: number | null;
  quality: number;
  time: string;
}

export type DeviceState = "reporting" | "late" | "silent" | "never";

export interface Device {
  id: string;
  class: string;
  district: string;
  zone: string | null;
  operator: string;
  agent: string;
  state: DeviceState;
  interval_s: number;
  /** What a report spans: a value older than this is old. */
  report_s: number;
  latest: LatestValue[];
}

export interface DevicePage {
  items: Device[];
  next: string | null;
  total: number;
}

export interface Series {
  device: string;
  channel: string;
  unit: string;
  kind: "samples" | "steps";
  step_s: number | null;
  times: number[];
  values: (number | null)[];
  quality: number[];
}

/** A refused value and the bound, step or other value that it is compared with. */
export interface RefusedValue {
  seq: number;
  channel: string;
  value: number;
  unit: string;
  breach: "below" | "above" | "between_steps" | "differs";
  limit: number;
}

export interface QuarantineRecord {
  id: string;
  kind: "message" | "conflict" | "dead_letter";
  arrival: string;
  device: string | null;
  reason: string;
  /** Of a dead letter the database's words. */
  detail: string;
  values: RefusedValue[];
  topic: string;
  samples: number;
}

export interface QuarantinePage {
  items: QuarantineRecord[];
  by_reason: Record<string, number>;
}

/** How full the quarantine is. */
export interface QuarantineStatus {
  records: number;
  limit_records: number;
  bytes: number;
  limit_bytes: number;
  discarded: number;
  by_reason: Record<string, number>;
}

/** Stored samples that the embedded store has dropped since. */
export interface Retired {
  expired: number;
  oversize: number;
}

export interface LiveValue {
  device: string;
  channel: string;
  time: number;
  value: number | null;
  quality: number;
}

/** A failure as the gateway words it. */
export class Problem extends Error {
  constructor(readonly status: number, detail: string, readonly requestId: string) {
    super(detail);
  }
}

export type Query = Record<string, string | number | undefined>;

export function address(path: string, query: Query = {}): string {
  const keys = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") keys.set(key, String(value));
  }
  const text = keys.toString();
  return `/api/v1/${path}${text ? `?${text}` : ""}`;
}

export async function ask<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const response = await fetch(address(path, query), signal ? { signal } : {});
  if (response.ok) return (await response.json()) as T;
  const problem = (await response.json().catch(() => ({}))) as { detail?: string; request_id?: string };
  throw new Problem(response.status, problem.detail ?? response.statusText, problem.request_id ?? "");
}
