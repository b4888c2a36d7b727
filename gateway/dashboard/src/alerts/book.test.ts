import { expect, test } from "vitest";

import type { Alert } from "../api.ts";
import { alert } from "./example.ts";
import { Book, bySeverity, count } from "./book.ts";

const ids = (alerts: Alert[]): string[] => alerts.map((one) => one.id);

test("the newest alert is first, and the higher sequence wins whatever the order of arrival", () => {
  const book = new Book();
  expect(book.take(alert({ id: "a", sequence: 1 }))).toBe("raised");
  expect(book.take(alert({ id: "b", sequence: 3, value: 60 }))).toBe("raised");
  expect(book.take(alert({ id: "b", sequence: 2, value: 55 }))).toBe("none");
  expect(ids(book.list("open"))).toEqual(["b", "a"]);
  expect(book.get("b")?.value).toBe(60);
});

test("an alert that changes keeps its place", () => {
  const book = new Book();
  book.take(alert({ id: "a", sequence: 1 }));
  book.take(alert({ id: "b", sequence: 2 }));
  expect(book.take(alert({ id: "a", sequence: 3, value: 61 }))).toBe("updated");
  expect(ids(book.list("open"))).toEqual(["b", "a"]);
});

test("a resolved alert leaves the open ones; only twenty are remembered", () => {
  const book = new Book();
  book.take(alert({ id: "a", sequence: 1 }));
  expect(book.take(alert({ id: "a", sequence: 2, state: "resolved" }))).toBe("resolved");
  expect(book.list("open")).toEqual([]);
  expect(ids(book.list("resolved"))).toEqual(["a"]);
  for (let n = 3; n < 40; n += 1) book.take(alert({ id: `r${n}`, sequence: n, state: "resolved" }));
  expect(book.list("resolved").length).toBe(20);
  expect(book.get("a")).toBeUndefined();
  expect(book.list("resolved")[0]?.id).toBe("r39");
});

test("what never fired is never listed", () => {
  const book = new Book();
  expect(book.take(alert({ id: "a", sequence: 1, state: "pending", fired: false }))).toBe("none");
  expect(book.take(alert({ id: "a", sequence: 2, state: "resolved", fired: false }))).toBe("none");
  expect(book.list("open").concat(book.list("resolved"))).toEqual([]);
});

test("old data stands apart, and comes to the front when a live sample is met in breach", () => {
  const book = new Book();
  book.take(alert({ id: "old", sequence: 1, mode: "retrospective" }));
  book.take(alert({ id: "over", sequence: 2, mode: "retrospective", state: "resolved" }));
  book.take(alert({ id: "live", sequence: 3 }));
  expect(ids(book.list("retrospective"))).toEqual(["over", "old"]);
  expect(ids(book.list("open"))).toEqual(["live"]);
  expect(book.take(alert({ id: "old", sequence: 4, mode: "live" }))).toBe("raised");
  expect(ids(book.list("open"))).toEqual(["old", "live"]);
  expect(ids(book.list("retrospective"))).toEqual(["over"]);
});

test("reading the list anew ends what it lacks, and keeps what came meanwhile", () => {
  const book = new Book();
  book.take(alert({ id: "gone", sequence: 1 }));
  book.take(alert({ id: "kept", sequence: 2 }));
  expect(book.complete).toBe(false);
  const asked = book.asking();
  book.take(alert({ id: "newer", sequence: 9 }));
  book.take(alert({ id: "kept", sequence: 10, value: 61 }));
  book.refill([alert({ id: "kept", sequence: 2 })], [alert({ id: "past", sequence: 5, state: "resolved" })], asked);
  expect(ids(book.list("open"))).toEqual(["newer", "kept"]);
  expect(book.get("kept")?.value).toBe(61);
  expect(ids(book.list("resolved"))).toEqual(["past"]);
  expect(book.complete).toBe(true);
});

test("the list of a gateway that crashed is believed though its sequences are lower", () => {
  const book = new Book();
  book.take(alert({ id: "a", sequence: 90, value: 57 }));
  book.refill([alert({ id: "a", sequence: 40, value: 58 })], [], book.asking());
  expect(book.get("a")?.value).toBe(58);
  expect(book.take(alert({ id: "a", sequence: 41, state: "resolved" }))).toBe("resolved");
});

test("alerts are counted by severity, and the gravest comes first", () => {
  const alerts = [
    alert({ id: "w", severity: "warning" }), alert({ id: "c", severity: "critical" }), alert({ id: "d", severity: "critical" }),
  ];
  expect(count(alerts)).toEqual({ critical: 2, major: 0, warning: 1, info: 0 });
  expect(ids(bySeverity(alerts))).toEqual(["c", "d", "w"]);
});
