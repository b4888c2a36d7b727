// Where an alert is, in words: district and zone, the agent where it has no zone, or the gateway itself.

import type { Alert } from "../api.ts";
import { current, say } from "../language.ts";

export function placeOf(alert: Alert): string {
  if (alert.output) return say("gateway");
  const district = alert.district_name?.[current()] ?? alert.district;
  const zone = alert.zone_name?.[current()] ?? alert.zone;
  const where = [district, zone ?? (alert.device === null ? alert.agent : null)];
  // A zone that is named after its district says both.
  if (district && zone?.startsWith(district)) where.shift();
  return where.filter(Boolean).join(" · ") || (alert.device ?? alert.agent);
}

/** Whether the words that someone searches for are in it. */
export function matches(alert: Alert, words: string): boolean {
  if (words === "") return true;
  const told = [
    alert.device, alert.agent, alert.output, alert.zone, alert.class, alert.rule,
    ...[alert.zone_name, alert.district_name, alert.title].flatMap((name) => [name?.zh, name?.en]),
  ];
  return told.some((part) => part?.toLowerCase().includes(words.toLowerCase()));
}
