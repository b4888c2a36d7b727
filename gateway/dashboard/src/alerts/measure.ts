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
  if (value === null) return undefined;
  if (channel !== null) {
    const against = threshold === null ? "" : `${sign(alert, condition)} ${brief(threshold)}`;
    return { value: withUnit(brief(value), unit), threshold: against };
  }
  if (unit === "s") return { value: span(value), threshold: threshold === null ? "" : `≥ ${span(threshold)}` };
  const share = condition?.silent_share;
  return share === undefined ? undefined : { value: say("devicesSilent", { n: brief(value) }), threshold: `≥ ${brief(share * 100)} %` };
}

/** The rule says which way; without it the figures of an alert in breach do. */
function sign(alert: Alert, condition: Condition | undefined): "≥" | "≤" {
  if (condition?.at_most !== undefined) return "≤";
  if (condition?.at_least !== undefined) return "≥";
  const below = (alert.value ?? 0) < (alert.threshold ?? 0);
  return alert.state === "firing" && below ? "≤" : "≥";
}
