import { afterEach, expect, test } from "vitest";
import type { QuarantineRecord } from "./api.ts";
import { setLanguage } from "./language.ts";
import { newest, recordText } from "./quarantine.ts";

const record = (id: string, arrival: string, more: Partial<QuarantineRecord> = {}): QuarantineRecord => ({
  id, kind: "message", arrival, device: "p-1", reason: "out_of_range", detail: "2 from 9: out_of_range", values: [],
  topic: "", samples: 2, ...more,
});

afterEach(() => setLanguage("zh"));

test("a record shows the value, the channel and the limit in the reader's language", () => {
  const value = { seq: 9, channel: "ch4", value: 180, unit: "%{LEL}", breach: "above", limit: 110 } as const;
  const shown = record("m-1", "2026-01-02T03:04:05Z", { values: [value] });
  expect(recordText(shown)).toContain("p-1  超出量程 · ch4 = 180 %LEL，高于上限 110 %LEL");
  setLanguage("en");
  expect(recordText(shown)).toContain("p-1  out of range · ch4 = 180 %LEL, above 110 %LEL");
});

test("a conflict and a dead letter look different from a refused message", () => {
  const value = { seq: 9, channel: "flow", value: 2, unit: "m3/h", breach: "differs", limit: 1 } as const;
  const conflict = record("c-5-0000002a-9", "2026-01-02T03:04:05Z", { kind: "conflict", reason: "conflict", values: [value] });
  expect(recordText(conflict)).toContain("[冲突] p-1  同一时刻冲突 · flow = 2 m³/h，已保留 1 m³/h");
  const letter = record("d-5-1", "2026-01-02T03:04:05Z", {
    kind: "dead_letter", reason: "refused_by_database", detail: "main: field type conflict",
  });
  expect(recordText(letter)).toContain("[数据库拒收] p-1  数据库拒收 · main: field type conflict");
});

test("new records come on top whatever their kind, and only those of the reason that is pressed", () => {
  const known = [record("m-9", "2026-01-02T00:00:09Z"), record("m-1", "2026-01-02T00:00:01Z")];
  const more = [
    record("c-2-0000002a-9", "2026-01-02T00:00:10Z", { kind: "conflict", reason: "conflict" }),
    record("m-1", "2026-01-02T00:00:11Z"),
  ];
  expect(newest(known, more).map(({ id }) => id)).toEqual(["m-1", "c-2-0000002a-9", "m-9"]);
  expect(newest(known, more, "out_of_range").map(({ id }) => id)).toEqual(["m-1", "m-9"]);
  const many = Array.from({ length: 20 }, (_, n) => record(`m-${n}`, new Date(n * 1000).toISOString()));
  expect(newest([], many)).toHaveLength(8);
});
