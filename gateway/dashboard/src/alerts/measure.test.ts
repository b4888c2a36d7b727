import { beforeEach, expect, test } from "vitest";

import { setLanguage } from "../language.ts";
import { alert } from "./example.ts";
import { measure } from "./measure.ts";

beforeEach(() => setLanguage("zh"));

test("a value stands with its unit and its threshold, in both languages", () => {
  const gas = alert({ value: 57.25 });
  expect(measure(gas)).toEqual({ value: "57.25 %LEL", threshold: "≥ 50" });
  const level = alert({ channel: "level", value: 1_532, threshold: 1_200.5, unit: "mm" });
  expect(measure(level)).toEqual({ value: "1,532 mm", threshold: "≥ 1,200.5" });
  setLanguage("en");
  expect(measure(level)).toEqual({ value: "1,532 mm", threshold: "≥ 1,200.5" });
});

test("which way a threshold is crossed is the rule's to say, else the figures of the breach", () => {
  const cold = alert({ channel: "temperature", value: 36.1, threshold: 36.5, unit: "Cel" });
  expect(measure(cold)).toEqual({ value: "36.1 °C", threshold: "≤ 36.5" });
  const edge = { ...cold, value: 36.5 };
  expect(measure(edge, { channel: "temperature", at_most: 36.5 })?.threshold).toBe("≤ 36.5");
});

test("a resolved alert stands against the level that it cleared, never against the one it crossed", () => {
  const over = alert({ state: "resolved", value: 0.32 });
  expect(measure(over, { channel: "ch4", at_least: 50, clear_below: 40 })).toEqual({ value: "0.32 %LEL", threshold: "< 40" });
  const warm = alert({ state: "resolved", channel: "temperature", value: 36.92, threshold: 36.4, unit: "Cel" });
  expect(measure(warm, { channel: "temperature", at_most: 36.4, clear_above: 36.6 })?.threshold).toBe("> 36.6");
  expect(measure(over)).toEqual({ value: "0.32 %LEL", threshold: "" });
});

test("an alert that ended with its old data keeps its threshold alone", () => {
  const ended = alert({ state: "resolved", mode: "retrospective", value: null, threshold: 10_000, unit: "[ppm]" });
  expect(measure(ended)).toEqual({ value: "", threshold: "≥ 10,000 ppm" });
});

test("silence is told in time, and the silent devices of an agent in number against a share", () => {
  const silent = alert({ channel: null, value: 480, threshold: 300, unit: "s" });
  expect(measure(silent)).toEqual({ value: "8 分", threshold: "≥ 5 分" });
  const cell = alert({ channel: null, value: 212, threshold: null, unit: "" });
  expect(measure(cell, { silent_share: 0.8 })).toEqual({ value: "212 台", threshold: "≥ 80 %" });
  setLanguage("en");
  expect(measure(silent)).toEqual({ value: "8 min", threshold: "≥ 5 min" });
  expect(measure(cell, { silent_share: 0.8 })).toEqual({ value: "212 devices", threshold: "≥ 80 %" });
});

test("a status word is no figure, and neither is what is not there", () => {
  expect(measure(alert({ channel: null, value: 8, threshold: null, unit: "" }), {})).toBeUndefined();
  expect(measure(alert({ value: null, threshold: null }))).toBeUndefined();
});
