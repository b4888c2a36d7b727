// What an alert measured, against what: `57 %LEL ≥ 50`, `静默 8 分 ≥ 5 分`, `83.3 % ≥ 80 %`.

import type { Alert, Condition } from "../api.ts";
import { brief, percent, span } from "../format.ts";
import { withUnit } from "../units.ts";

export interface Measure {
  value: string;
  /** With its sign; empty where the alert has none. */
  threshold: string;
}

/** Undefined for an alert without a figure: a status bit. */
export function measure(alert: Alert, condition?: Condition): Measure | undefined {
  if (alert.value === null) return undefined;
  const write = writer(alert, condition);
  const bare = alert.channel === null ? write : brief;
  return {
    value: write(alert.value),
    threshold: alert.threshold === null ? "" : `${sign(alert, condition)} ${bare(alert.threshold)}`,
  };
}

function writer(alert: Alert, condition: Condition | undefined): (value: number) => string {
  if (condition?.silent_share !== undefined) return (value) => percent(value, 1);
  if (alert.channel === null && alert.unit === "s") return span;
  return (value) => withUnit(brief(value), alert.unit);
}

/** The rule says which way; without it the figures of an alert in breach do. */
function sign(alert: Alert, condition: Condition | undefined): "≥" | "≤" {
  if (condition?.at_most !== undefined) return "≤";
  if (condition?.at_least !== undefined || condition?.silent_s !== undefined) return "≥";
  const below = (alert.value ?? 0) < (alert.threshold ?? 0);
  return alert.state === "firing" && below ? "≤" : "≥";
}
