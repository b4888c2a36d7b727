import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { age, bytes, clock, day, figure, isOld, minute, percent, span } from "./format.ts";
import { dictionaries, reason, say, setLanguage } from "./language.ts";

beforeEach(() => setLanguage("zh"));
afterEach(() => vi.useRealTimers());

test("both languages have every text, with the same parts to fill in", () => {
  const parts = (text: string): string[] => [...text.matchAll(/\{\w+\}/g)].map((found) => found[0]).sort();
  for (const [key, zh] of Object.entries(dictionaries.zh)) {
    const en = dictionaries.en[key as keyof typeof dictionaries.en];
    expect(parts(en), key).toEqual(parts(zh));
    expect(en.length, key).toBeGreaterThan(0);
  }
});

test("a text is filled in, and a reason without a text keeps its own name", () => {
  expect(say("journalWaiting", { n: "12" })).toBe("待落盘 12 条");
  setLanguage("en");
  expect(say("journalWaiting", { n: "12" })).toBe("12 not synced");
  expect(reason("out_of_range")).toBe("out of range");
  expect(reason("<b>")).toBe("<b>");
});

test("ages are said in their largest whole unit", () => {
  expect(age(0.4)).toBe("刚刚");
  expect(age(59.9)).toBe("59 秒前");
  expect(age(3_599)).toBe("59 分前");
  expect(age(90_000)).toBe("1 天前");
  expect(age(-90)).toBe("时钟超前 1 分");
  setLanguage("en");
  expect(age(7_300)).toBe("2 h ago");
  expect(span(0.25)).toBe("0.3 s");
});

test("a value is old once it is past its interval, travel time granted", () => {
  expect(isOld(900, 900)).toBe(false);
  expect(isOld(905.5, 900)).toBe(true);
  expect(isOld(Infinity, 86_400)).toBe(true);
});

test("a share never rounds up to all", () => {
  expect(percent(99_999, 100_000)).toBe("99.9 %");
  expect(percent(100_000, 100_000)).toBe("100.0 %");
  expect(percent(0, 0)).toBe("–");
});

test("figures and sizes keep a steady width", () => {
  expect([figure(1234.5), figure(123.45), figure(1.234), figure(null), figure(NaN)]).toEqual([
    "1,235", "123.5", "1.23", "–", "–",
  ]);
  expect([bytes(512), bytes(48_234_496), bytes(2 ** 40)]).toEqual(["512 B", "46.0 MiB", "1.0 TiB"]);
});

test("times are the city's, with the date where it is not today", () => {
  vi.useFakeTimers({ now: Date.UTC(2026, 0, 1, 17) });
  expect(new Date().getTimezoneOffset(), "the tests run in another zone").not.toBe(-480);
  expect(clock(Date.UTC(2026, 0, 1, 16, 30, 5))).toBe("00:30:05");
  expect(clock(Date.UTC(2026, 0, 1, 15, 59, 0))).toMatch(/01.01.*23:59:00/);
  expect(minute(Date.UTC(2026, 0, 1, 16, 30, 5))).toBe("00:30");
  expect(day(Date.UTC(2026, 0, 1, 16, 30, 5))).toMatch(/^01.02$/);
});
