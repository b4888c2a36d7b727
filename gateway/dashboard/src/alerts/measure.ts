// What an alert measured, against what: `57 %LEL ≥ 50`, `8 分 ≥ 5 分` of silence, `212 台 ≥ 80 %` of an agent's devices.

import type { Alert, Condition } from "../api.ts";
import { brief, span } from "../format.ts";
import { say } from "../language.ts";
import { withUnit } from "../units.ts";

export interface Measure {
  value: string;
  /** With its sign; empty where the alert has none. */
  threshold: string;
}

/** Undefined for an alert without a figure: bits of a status word, which its text names. */
export function measure(alert: Alert, condition?: Condition): Measure | undefined {
  const { value, threshold, channel, unit } = alert;
  if (channel !== null) return level(alert, condition);
  if (value === null) return undefined;
  if (unit === "s") return { value: span(value), threshold: threshold === null ? "" : `≥ ${span(threshold)}` };
  const share = condition?.silent_share;
  if (share === undefined) return undefined;
  const against = alert.state === "resolved" ? "" : `≥ ${brief(share * 100)} %`;
  return { value: say("devicesSilent", { n: brief(value) }), threshold: against };
}

/** A resolved alert's value is the one that ended it, so it stands against the level that it cleared. */
function level(alert: Alert, condition: Condition | undefined): Measure | undefined {
  const { value, threshold, unit } = alert;
  if (value === null) {
    // Old data ended in breach: no value ended the alert.
    return threshold === null ? undefined : { value: "", threshold: withUnit(against(sign(alert, condition), threshold), unit) };
  }
  const text = withUnit(brief(value), unit);
  if (alert.state !== "resolved") {
    return { value: text, threshold: threshold === null ? "" : against(sign(alert, condition), threshold) };
  }
  if (condition?.clear_below !== undefined) return { value: text, threshold: against("<", condition.clear_below) };
  if (condition?.clear_above !== undefined) return { value: text, threshold: against(">", condition.clear_above) };
  return { value: text, threshold: "" };
}

const against = (how: string, figure: number): string => `${how} ${brief(figure)}`;

/** The rule says which way; without it the figures of an alert in breach do. */
function sign(alert: Alert, condition: Condition | undefined): "≥" | "≤" {
  if (condition?.at_most !== undefined) return "≤";
  if (condition?.at_least !== undefined || alert.value === null) return "≥";
  return alert.value < (alert.threshold ?? alert.value) ? "≤" : "≥";
}
