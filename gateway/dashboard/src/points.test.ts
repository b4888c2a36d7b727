import { expect, test } from "vitest";

import type { Series } from "./api.ts";
import { append, lines, stepFor } from "./points.ts";

function series(times: number[], values: (number | null)[], quality: number[]): Series {
  return { device: "d", channel: "c", unit: "", kind: "samples", step_s: null, times, values, quality };
}

test("a silence longer than the interval is a gap, not a line", () => {
  const { solid } = lines(series([0, 10_000, 60_000], [1, 2, 3], [1, 1, 1]), 10);
  expect(solid).toEqual([[0, 1], [10_000, 2], [35_000, null], [60_000, 3]]);
});

test("a missing value is a gap whatever stands in its column", () => {
  expect(lines(series([0, 10_000], [1, 7], [1, 5]), 10).solid).toEqual([[0, 1], [10_000, null]]);
});

test("suspect points are ringed and stay in the line; estimated ones leave it and are dashed to their neighbours", () => {
  const drawn = lines(series([0, 10_000, 20_000, 30_000], [1, 2, 3, 4], [1, 3, 1, 2]), 10);
  expect(drawn.ringed).toEqual([[30_000, 4]]);
  expect(drawn.solid).toEqual([[0, 1], [10_000, null], [20_000, 3], [30_000, 4]]);
  expect(drawn.dashed).toEqual([[0, 1], [10_000, 2], [20_000, 3], [20_000, null]]);
});

test("live values are appended in order and once, and the past leaves the range", () => {
  const shown = series([0, 10_000], [1, 2], [1, 1]);
  const live = (time: number, device = "d") => ({ device, channel: "c", time, value: 9, quality: 1 });
  expect(append(shown, [live(5_000), live(10_000), live(30_000, "e")], 0)).toBe(false);
  expect(append(shown, [live(20_000)], 5_000)).toBe(true);
  expect(shown.times).toEqual([10_000, 20_000]);
  expect(shown.values).toEqual([2, 9]);
  expect(shown.quality).toEqual([1, 1]);
});

test("a range asks for samples while they are few, then for steps no finer than the interval", () => {
  expect(stepFor(3_600, 10)).toBeUndefined();
  expect(stepFor(86_400, 10)).toBe(60);
  expect(stepFor(604_800, 10)).toBe(900);
  expect(stepFor(604_800, 900)).toBeUndefined();
});
