// The newest changes of alerts, asked for where the live stream does not bring them. Pages are small, so that the gateway
// answers them whatever else is asked of it; all of it ends within a few seconds, so that the next question can follow.

import type { Alert, AlertPage, Query } from "../api.ts";

/** Small answers have room at the gateway even where large ones have none: 50 alerts are less than 64 KiB. */
const PAGE = 50;
const PAGES_MOST = 20;

type AskPage = (query: Query) => Promise<AlertPage>;

/** Hands over each page as it comes, oldest change first, until one reaches back to what was known. */
export async function newest(ask: AskPage, known: number, take: (alerts: Alert[]) => void): Promise<void> {
  let before: number | undefined;
  for (let page = 0; page < PAGES_MOST; page += 1) {
    const { items, next } = await ask({ limit: PAGE, before });
    take(items.toReversed());
    if (next == null || items.some((alert) => alert.sequence <= known)) return;
    before = next;
  }
}
