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
  outstanding: number;
  unexplained: number;
  duplicates: number;
  readings: number;
  closed: boolean;
}

export interface Sink {
  name: string;
  state: "running" | "draining" | "retrying" | "stopped";
  lag_records: number;
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
  quarantined_by_reason: Record<string, number>;
}

export interface DeviceClass {
  name: string;
  title: Bilingual;
  interval_s: number;
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

export interface QuarantineRecord {
  id: number;
  arrival: string;
  device: string | null;
  reason: string;
  detail: string;
  topic: string;
  samples: number;
}

export interface QuarantinePage {
  items: QuarantineRecord[];
  total: number;
  by_reason: Record<string, number>;
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
