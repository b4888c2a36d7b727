// The alert that tests start from: methane in a station of Tiexi.

import type { Alert } from "../api.ts";

export function alert(differs: Partial<Alert> = {}): Alert {
  return {
    id: "a1b2c3d4e5f60718", sequence: 57, rule: "station_ch4_high", severity: "critical",
    state: "firing", fired: true, mode: "live",
    device: "det-7", agent: "c-det-2", class: "gas_station_detector",
    zone: "station-tiexi", zone_name: { zh: "铁西站", en: "Station Tiexi" },
    district: "210106", district_name: { zh: "铁西区", en: "Tiexi District" },
    operator: "gas", channel: "ch4", value: 57, threshold: 50, unit: "%{LEL}",
    since: "2026-11-24T10:00:00.000Z", event_time: "2026-11-24T10:00:00.000Z", arrival_time: "2026-11-24T10:00:01.000Z",
    title: { zh: "站内甲烷高报", en: "Station methane, high alarm" },
    text: { zh: "铁西区 · 铁西站:甲烷 57 %LEL ≥ 50", en: "Tiexi District · Station Tiexi: methane 57 %LEL ≥ 50" },
    ...differs,
  };
}
