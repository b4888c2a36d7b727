import { beforeEach, expect, test } from "vitest";

import type { Sink } from "./api.ts";
import { sinkNote } from "./gateway.ts";
import { setLanguage } from "./language.ts";

const sink: Sink = { name: "influx", state: "running", circuit: "closed", lag_records: 0, lag_s: 3, last_error: null };

beforeEach(() => setLanguage("zh"));

test("a sink that is well says what it does and how far it is behind", () => {
  expect(sinkNote(sink)).toBe("正常 · 延迟 3 秒");
});

test("a circuit that is not closed is shown, and what the database may still lose", () => {
  expect(sinkNote({ ...sink, state: "retrying", circuit: "open" })).toContain("熔断 · 待重试");
  setLanguage("en");
  expect(sinkNote({ ...sink, circuit: "half_open", unsettled_records: 1200 })).toContain("circuit half open · 1,200 not yet durable there");
});
