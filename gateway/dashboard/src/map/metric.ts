// What the map is coloured by. Each metric sorts districts into a few classes, which are also its legend; a district
// of which nothing is known is in none.

import type { AlertCounts, District, Severity } from "../api.ts";
import { percent, whole } from "../format.ts";
import { say, type Key } from "../language.ts";
import { SEVERITIES } from "../api.ts";

export const METRICS = ["alerts", "reporting", "silent", "rate"] as const;
export type Metric = (typeof METRICS)[number];

/** What the metrics read of a district. */
export interface Facts {
  district: District;
  /** Firing and live. */
  alerts: AlertCounts | undefined;
  /** Readings a second; undefined until two polls were made. */
  rate: number | undefined;
}

/** A class of a metric: its colour's token and what it holds, in words. */
export interface Class {
  token: string;
  severity?: Severity;
  label: () => string;
}

const ramp = (token: number, label: () => string): Class => ({ token: `ramp-${token}`, label });

/** Lowest share of each class, best last: what departs from normal is the lighter land. */
const SHARES: [least: number, Class][] = [
  [0.99, ramp(0, () => "≥ 99 %")],
  [0.95, ramp(1, () => "95 – 99 %")],
  [0.8, ramp(2, () => "80 – 95 %")],
  [0, ramp(3, () => "< 80 %")],
];
const SILENT: [most: number, Class][] = [
  [0, ramp(0, () => "0")],
  [9, ramp(1, () => "1 – 9")],
  [99, ramp(2, () => "10 – 99")],
  [Infinity, ramp(3, () => "≥ 100")],
];
const RATES: [below: number, Class][] = [
  [1, ramp(0, () => "< 1")],
  [10, ramp(1, () => "1 – 10")],
  [100, ramp(2, () => "10 – 100")],
  [Infinity, ramp(3, () => "≥ 100")],
];
const ALERTS: Class[] = [
  ...SEVERITIES.map((severity) => ({ token: `${severity}-tint`, severity, label: () => say(severity) })),
  ramp(0, () => say("noAlert")),
];

export function classes(metric: Metric): Class[] {
  if (metric === "alerts") return ALERTS;
  return { reporting: SHARES, silent: SILENT, rate: RATES }[metric].map(([, one]) => one);
}

export function classOf(metric: Metric, { district, alerts, rate }: Facts): Class | undefined {
  switch (metric) {
    case "alerts":
      return alerts && ALERTS.find((one) => one.severity === undefined || alerts[one.severity] > 0);
    case "reporting":
      if (district.devices === 0) return undefined;
      return SHARES.find(([least]) => district.reporting / district.devices >= least)?.[1];
    case "silent": {
      const silent = district.silent;
      return silent === undefined ? undefined : SILENT.find(([most]) => silent <= most)?.[1];
    }
    case "rate":
      return rate === undefined ? undefined : RATES.find(([below]) => rate < below)?.[1];
  }
}

/** The district's figure in that metric. */
export function figureOf(metric: Metric, { district, alerts, rate }: Facts): string {
  switch (metric) {
    case "alerts":
      return alerts ? whole(SEVERITIES.reduce((sum, severity) => sum + alerts[severity], 0)) : "–";
    case "reporting":
      return percent(district.reporting, district.devices);
    case "silent":
      return district.silent === undefined ? "–" : whole(district.silent);
    case "rate":
      return rate === undefined ? "–" : `${whole(Math.round(rate))} /s`;
  }
}

export const metricKey = (metric: Metric): Key => `metric_${metric}`;
