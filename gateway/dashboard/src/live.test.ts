import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { move } from "./choice.ts";
import { Gathered, Live, type Connection } from "./live.ts";

class FakeSource {
  static opened: FakeSource[] = [];
  static readonly CLOSED = 2;
  readyState = 1;
  private readonly listeners = new Map<string, ((event: unknown) => void)[]>();
  constructor(readonly url: string) {
    FakeSource.opened.push(this);
  }
  addEventListener(name: string, listener: (event: unknown) => void): void {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]);
  }
  close(): void {
    this.readyState = FakeSource.CLOSED;
  }
  send(name: string, data: unknown): void {
    for (const listener of this.listeners.get(name) ?? []) listener({ data: JSON.stringify(data) });
  }
}

const quiet = { alert: () => undefined, reopened: () => undefined, ask: () => undefined };

beforeEach(() => {
  FakeSource.opened = [];
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", FakeSource);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("of many values the newest by sample time is kept, once, and taken once", () => {
  const gathered = new Gathered();
  const value = (time: number, value: number) => ({ device: "d", channel: "c", time, value, quality: 1 });
  gathered.add("samples", JSON.stringify({ values: [value(2, 20), value(1, 10)] }));
  gathered.add("samples", JSON.stringify({ values: [value(3, 30)] }));
  gathered.add("samples", JSON.stringify({ values: [value(2, 99)] }));
  expect(gathered.take().values).toEqual([value(3, 30)]);
  expect(gathered.take()).toEqual({ status: undefined, values: [], quarantined: [], reset: false });
});

test("a hundred events are shown twice a second, not a hundred times", () => {
  let shown = 0;
  const live = new Live((batch) => (shown += batch.values.length > 0 ? 1 : 0), quiet);
  live.start();
  for (let n = 0; n < 100; n += 1) {
    const value = { device: "d", channel: "c", time: n, value: n, quality: 1 };
    FakeSource.opened[0]?.send("samples", { values: [value] });
    vi.advanceTimersByTime(10);
  }
  expect(shown).toBe(2);
});

test("an alert does not wait, and a stream opened anew has the alerts read", () => {
  const seen: string[] = [];
  const live = new Live(() => undefined, { ...quiet, alert: (alert) => seen.push(alert.id), reopened: () => seen.push("read") });
  live.start();
  FakeSource.opened[0]?.send("open", {});
  FakeSource.opened[0]?.send("alert", { id: "a" });
  expect(seen).toEqual(["a"]);
  live.watch(["d"]);
  FakeSource.opened[1]?.send("open", {});
  expect(seen).toEqual(["a", "read"]);
});

test("a silent stream is said to be lost, and one that speaks again live", () => {
  const states: Connection[] = [];
  const live = new Live((_, connection) => states.push(connection), quiet, () => Date.now());
  live.start();
  vi.advanceTimersByTime(500);
  FakeSource.opened[0]?.send("status", {});
  vi.advanceTimersByTime(500);
  vi.advanceTimersByTime(5_000);
  FakeSource.opened[0]?.send("status", {});
  vi.advanceTimersByTime(500);
  expect([states[0], states[1], states.at(-2), states.at(-1)]).toEqual(["connecting", "live", "lost", "live"]);
});

test("a refused stream is asked for again, later each time, and everything is read anew", () => {
  let resets = 0;
  const live = new Live((batch) => (resets += batch.reset ? 1 : 0), quiet);
  live.start();
  const refuse = (): void => {
    FakeSource.opened.at(-1)?.close();
    FakeSource.opened.at(-1)?.send("error", {});
  };
  refuse();
  vi.advanceTimersByTime(1_000);
  expect(FakeSource.opened.length).toBe(2);
  refuse();
  vi.advanceTimersByTime(1_000);
  expect(FakeSource.opened.length).toBe(2);
  vi.advanceTimersByTime(1_500);
  expect(FakeSource.opened.length).toBe(3);
  expect(resets).toBe(2);
});

test("while the stream is refused, closed or silent the alerts are asked for each second, and never while it speaks", () => {
  let asked = 0;
  const live = new Live(() => undefined, { ...quiet, ask: () => (asked += 1) }, () => Date.now());
  const askedIn = (ms: number): number => {
    const before = asked;
    vi.advanceTimersByTime(ms);
    return asked - before;
  };
  const speakFor = (seconds: number): number => {
    const before = asked;
    for (let half = 0; half < 2 * seconds; half += 1) {
      FakeSource.opened.at(-1)?.send("status", {});
      vi.advanceTimersByTime(500);
    }
    return asked - before;
  };
  live.start();
  expect(askedIn(3_000)).toBe(3);
  expect(speakFor(5)).toBe(0);
  // Closed for another page: the browser comes back by itself, and an open line that says nothing yet is no stream.
  FakeSource.opened.at(-1)?.send("error", {});
  FakeSource.opened.at(-1)?.send("open", {});
  expect(askedIn(1_000)).toBe(1);
  expect(askedIn(5_000)).toBe(5);
  expect(speakFor(5)).toBe(0);
  // Refused.
  FakeSource.opened.at(-1)?.close();
  FakeSource.opened.at(-1)?.send("error", {});
  expect(askedIn(10_000)).toBe(10);
  expect(speakFor(2)).toBe(0);
  // Open, and silent.
  expect(askedIn(5_000)).toBeGreaterThanOrEqual(4);
});

test("the stream is opened anew only for other devices", () => {
  const live = new Live(() => undefined, quiet);
  live.start();
  live.watch(["b", "a"]);
  live.watch(["a", "b", "a"]);
  expect(FakeSource.opened.map((source) => source.url)).toEqual(["/api/v1/live", "/api/v1/live?devices=a%2Cb"]);
});

test("the keyboard's place is a row, and stays when the list changes around it", () => {
  expect(move(["a", "b", "c"], undefined, 1)).toBe("a");
  expect(move(["a", "b", "c"], "b", 1)).toBe("c");
  expect(move(["a", "b", "c"], "c", 1)).toBe("c");
  expect(move(["z", "b", "c"], "b", -1)).toBe("z");
  expect(move(["a", "b"], "gone", -1)).toBe("b");
  expect(move([], "a", 1)).toBeUndefined();
});
