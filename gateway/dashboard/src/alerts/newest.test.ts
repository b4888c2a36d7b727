import { expect, test } from "vitest";

import type { Alert, AlertPage, Query } from "../api.ts";
import { newest } from "./newest.ts";

/** Changes 1 to `last`, newest first, a page at a time. */
function gateway(last: number): { ask: (query: Query) => Promise<AlertPage>; asked: () => number } {
  let asked = 0;
  const ask = ({ limit, before }: Query): Promise<AlertPage> => {
    asked += 1;
    const from = before === undefined ? last : Number(before) - 1;
    const items: Alert[] = [];
    for (let sequence = from; sequence > 0 && items.length < Number(limit); sequence -= 1) {
      items.push({ id: String(sequence), sequence } as Alert);
    }
    const oldest = items.at(-1)?.sequence ?? 1;
    return Promise.resolve({ items, next: oldest > 1 ? oldest : null });
  };
  return { ask, asked: () => asked };
}

async function taken(last: number, known: number): Promise<{ sequences: number[]; asked: number }> {
  const { ask, asked } = gateway(last);
  const sequences: number[] = [];
  await newest(ask, known, (alerts) => sequences.push(...alerts.map((alert) => alert.sequence)));
  return { sequences, asked: asked() };
}

test("one small page is asked for where it reaches back to what is known", async () => {
  const { sequences, asked } = await taken(1_000, 990);
  expect(asked).toBe(1);
  expect(sequences.at(-1)).toBe(1_000);
  expect(sequences).toContain(991);
});

test("of a storm every change since the last one known is taken, and not without end", async () => {
  const { sequences, asked } = await taken(1_000, 700);
  expect(asked).toBe(7);
  for (let sequence = 701; sequence <= 1_000; sequence += 1) expect(sequences).toContain(sequence);
  expect((await taken(1_000_000, 0)).asked).toBe(20);
});

test("after a crash the gateway may count from lower, and its newest are taken all the same", async () => {
  expect((await taken(10, 500)).sequences).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
