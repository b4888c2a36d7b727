import { beforeEach, expect, test } from "vitest";

import type { District } from "../api.ts";
import { setLanguage } from "../language.ts";
import { classes, classOf, figureOf, METRICS, type Facts } from "./metric.ts";
import { Rates } from "./rates.ts";

beforeEach(() => setLanguage("zh"));

function facts(differs: Partial<District> = {}, more: Partial<Facts> = {}): Facts {
  const name = { zh: "铁西区", en: "Tiexi District" };
  return { district: { code: "210106", name, devices: 1_000, reporting: 995, ...differs }, alerts: undefined, rate: undefined, ...more };
}

test("a district has the colour of its gravest alert, and is still without one", () => {
  const some = { critical: 0, major: 2, warning: 5, info: 0 };
  expect(classOf("alerts", facts({}, { alerts: some }))?.token).toBe("major-tint");
  expect(figureOf("alerts", facts({}, { alerts: some }))).toBe("7");
  const none = { critical: 0, major: 0, warning: 0, info: 0 };
  expect(classOf("alerts", facts({}, { alerts: none }))?.token).toBe("ramp-0");
});

test("what departs from normal stands out", () => {
  const share = (reporting: number) => classOf("reporting", facts({ reporting }))?.token;
  expect([share(1_000), share(990), share(989), share(800), share(0)]).toEqual(["ramp-0", "ramp-0", "ramp-1", "ramp-2", "ramp-3"]);
  const silent = (silent: number) => classOf("silent", facts({ silent }))?.token;
  expect([silent(0), silent(1), silent(10), silent(212)]).toEqual(["ramp-0", "ramp-1", "ramp-2", "ramp-3"]);
});

test("what the gateway does not say is in no class and has no figure", () => {
  for (const metric of ["alerts", "silent", "rate"] as const) {
    expect(classOf(metric, facts()), metric).toBeUndefined();
    expect(figureOf(metric, facts()), metric).toBe("–");
  }
  expect(classOf("reporting", facts({ devices: 0, reporting: 0 }))).toBeUndefined();
});

test("every class of every metric has its own colour", () => {
  for (const metric of METRICS) {
    const tokens = classes(metric).map((one) => one.token);
    expect(new Set(tokens).size, metric).toBe(tokens.length);
  }
});

test("a rate is the slope over the last polls, and unknown when the count begins anew", () => {
  const rates = new Rates();
  const poll = (readings: number, atMs: number) => rates.add([facts({ readings }).district], atMs);
  poll(1_000, 0);
  expect(rates.of("210106")).toBeUndefined();
  poll(1_500, 2_000);
  expect(rates.of("210106")).toBe(250);
  poll(20, 4_000);
  expect(rates.of("210106")).toBeUndefined();
  for (const [readings, atMs] of [[120, 6_000], [220, 8_000], [320, 10_000]] as const) poll(readings, atMs);
  expect(rates.of("210106")).toBe(50);
  expect(figureOf("rate", facts({}, { rate: 249.6 }))).toBe("250 /s");
});
