// Readings a second of each district, from a count that only rises: the slope over the last few polls.

import type { District } from "../api.ts";

const POLLS = 4;

export class Rates {
  private readonly polls: { atMs: number; counts: Map<string, number> }[] = [];

  add(districts: District[], atMs: number): void {
    const counts = new Map<string, number>();
    for (const { code, readings } of districts) if (readings !== undefined) counts.set(code, readings);
    this.polls.push({ atMs, counts });
    if (this.polls.length > POLLS) this.polls.shift();
  }

  /** Undefined before the second poll, and after a gateway that began anew counts from nothing. */
  of(code: string): number | undefined {
    const [first, last] = [this.polls[0], this.polls.at(-1)];
    const [before, after] = [first?.counts.get(code), last?.counts.get(code)];
    if (!first || !last || before === undefined || after === undefined) return undefined;
    const seconds = (last.atMs - first.atMs) / 1000;
    return seconds > 0 && after >= before ? (after - before) / seconds : undefined;
  }
}
