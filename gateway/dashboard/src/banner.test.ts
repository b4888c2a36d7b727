import { beforeEach, expect, test } from "vitest";

import { alert } from "./alerts/example.ts";
import { matches, placeOf } from "./alerts/place.ts";
import type { Output } from "./api.ts";
import { bannerText } from "./banner.ts";
import { setLanguage } from "./language.ts";

const output: Output = {
  name: "duty", kind: "webhook", state: "stalled", stalled_since: "2026-11-30T08:00:05.000Z",
  lag: 3, delivered: 0, failed: 0, last_error: "503",
};

beforeEach(() => setLanguage("zh"));

test("a stalled output is named with its time in both languages, and no other is", () => {
  const outputs = [{ ...output, name: "mqtt", state: "running", stalled_since: null }, output];
  expect(bannerText(outputs)).toMatch(/^告警输出 duty 停滞，.* 起有告警未送达$/);
  setLanguage("en");
  expect(bannerText(outputs)).toMatch(/^Alert output duty is stalled: alerts wait, none delivered since .*:05$/);
});

test("several stalled outputs are each named", () => {
  expect(bannerText([output, { ...output, name: "city" }])).toMatch(/duty.*；.*city/);
});

test("where every output moves, nothing is shown", () => {
  expect(bannerText([{ ...output, state: "retrying", stalled_since: null }])).toBe("");
});

test("an alert about an output is the gateway's, and is found by the output's name", () => {
  const about = alert({ device: null, agent: "gateway", output: "duty", zone: null, zone_name: null, district: null, district_name: null });
  expect(placeOf(about)).toBe("网关");
  expect(matches(about, "duty")).toBe(true);
});
