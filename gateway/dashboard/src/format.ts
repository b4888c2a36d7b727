// Figures, ages and times as each language writes them.

import { current, locale, say } from "./language.ts";

/** Formats are costly to make and few: each is made once for each language. */
function kept<T>(make: (key: string) => T): (key: string) => T {
  const made = new Map<string, T>();
  return (key) => {
    const name = `${locale()} ${key}`;
    let format = made.get(name);
    if (!format) {
      format = make(key);
      made.set(name, format);
    }
    return format;
  };
}

/** The city's time, whatever the browser's. */
const ZONE = "Asia/Shanghai";

const fixed = kept((decimals) => new Intl.NumberFormat(locale(), {
  minimumFractionDigits: Number(decimals), maximumFractionDigits: Number(decimals),
}));
const loose = kept(() => new Intl.NumberFormat(locale(), { maximumFractionDigits: 3 }));
const times = kept((kind) => new Intl.DateTimeFormat(locale(), {
  ...(kind === "moment" || kind === "day" ? { month: "2-digit", day: "2-digit" } : {}),
  ...(kind === "day" ? {} : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  ...(kind === "clock" || kind === "moment" ? { second: "2-digit" } : {}),
  timeZone: ZONE,
}));
const days = kept(() => new Intl.DateTimeFormat("en-CA", { timeZone: ZONE }));

const numbers = (decimals: number): Intl.NumberFormat => fixed(String(decimals));

export const whole = (value: number): string => numbers(0).format(value);

/** Four meaningful digits at most; a figure keeps its width while it moves. */
export function figure(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return numbers(size >= 1000 ? 0 : size >= 100 ? 1 : 2).format(value);
}

/** A figure that stands still: no digits that say nothing. */
export const brief = (value: number): string => loose("").format(value);


/** A share of a whole, rounded down: 99.96 % of a city is not all of it. */
export function percent(part: number, all: number): string {
  if (all === 0) return "–";
  const tenths = Math.floor((part / all) * 1000) / 10;
  return `${numbers(1).format(tenths)} %`;
}

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count: number): string {
  let size = count;
  let unit = 0;
  while (size >= 1024 && unit < BYTES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${numbers(unit === 0 || size >= 100 ? 0 : 1).format(size)} ${BYTES[unit]}`;
}

const SPANS: [seconds: number, zh: string, en: string][] = [
  [86_400, "天", "d"],
  [3_600, "小时", "h"],
  [60, "分", "min"],
  [1, "秒", "s"],
];

/** A length of time in its largest whole unit: 90 s is 1 min. */
export function span(seconds: number): string {
  for (const [size, zh, en] of SPANS) {
    if (seconds >= size) {
      return `${whole(Math.floor(seconds / size))} ${current() === "zh" ? zh : en}`;
    }
  }
  return `${numbers(1).format(Math.max(0, seconds))} ${current() === "zh" ? "秒" : "s"}`;
}

/** Seconds that a value may be ahead of the gateway's clock before it is worth a word. */
const AHEAD_S = 5;

export function age(seconds: number): string {
  if (seconds < -AHEAD_S) return say("future", { n: span(-seconds) });
  if (seconds < 1) return say("now");
  return say("ago", { n: span(seconds) });
}

/** Travel time that a value is granted on top of its interval. */
const GRACE_S = 5;

/** Whether a value of that age no longer says what is now. */
export const isOld = (ageS: number, intervalS: number): boolean => ageS > intervalS + GRACE_S;

export function clock(ms: number): string {
  const isToday = days("").format(ms) === days("").format(Date.now());
  return times(isToday ? "clock" : "moment").format(ms);
}

export const moment = (ms: number): string => times("moment").format(ms);

/** For the marks of a chart's axis. */
export const minute = (ms: number): string => times("minute").format(ms);
export const day = (ms: number): string => times("day").format(ms);
