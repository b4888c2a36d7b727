// A series as lines to draw: gaps stay gaps, doubtful points are ringed, estimated stretches are dashed.

import type { LiveValue, Series } from "./api.ts";

export type Point = [time: number, value: number | null];

export interface Lines {
  /** Measured, suspect ones included. */
  solid: Point[];
  /** Estimated, joined to their neighbours so that the line does not break. */
  dashed: Point[];
  /** Points to ring. */
  ringed: Point[];
}

const SUSPECT = 2;
const ESTIMATED = 3;
const MISSING = 5;
/** Samples further apart than this many intervals have a gap between them. */
const GAP_INTERVALS = 2.5;

export function lines(series: Series, intervalS: number): Lines {
  const { times, values, quality } = series;
  const gapMs = (series.step_s ?? intervalS) * GAP_INTERVALS * 1000;
  const result: Lines = { solid: [], dashed: [], ringed: [] };
  let before: { point: Point; estimated: boolean } | undefined;
  times.forEach((time, at) => {
    const value = quality[at] === MISSING ? null : (values[at] ?? null);
    const estimated = quality[at] === ESTIMATED && value !== null;
    if (before && time - before.point[0] > gapMs) {
      const middle = (before.point[0] + time) / 2;
      result.solid.push([middle, null]);
      result.dashed.push([middle, null]);
      before = undefined;
    }
    const point: Point = [time, value];
    if (estimated) {
      if (before && !before.estimated) result.dashed.push(before.point);
      result.dashed.push(point);
      result.solid.push([time, null]);
    } else {
      if (before?.estimated) result.dashed.push(point, [time, null]);
      result.solid.push(point);
    }
    if (quality[at] === SUSPECT && value !== null) result.ringed.push(point);
    before = { point, estimated };
  });
  return result;
}

/** Appends what the live stream brought, drops what left the range; true when anything changed. */
export function append(series: Series, values: LiveValue[], fromMs: number): boolean {
  let changed = false;
  for (const live of values) {
    const newest = series.times.at(-1) ?? -Infinity;
    if (live.device !== series.device || live.channel !== series.channel || live.time <= newest) continue;
    series.times.push(live.time);
    series.values.push(live.value);
    series.quality.push(live.quality);
    changed = true;
  }
  const kept = series.times.findIndex((time) => time >= fromMs);
  if (kept > 0) {
    for (const column of [series.times, series.values, series.quality]) column.splice(0, kept);
    changed = true;
  }
  return changed;
}

/** Points that a chart of this width can still tell apart. */
const POINTS_MOST = 2_000;
const STEPS_S = [60, 300, 900, 1_800, 3_600, 10_800, 21_600, 86_400];

/** The step to ask for; undefined when the samples themselves are few enough. */
export function stepFor(rangeS: number, intervalS: number): number | undefined {
  if (rangeS / intervalS <= POINTS_MOST) return undefined;
  return STEPS_S.find((step) => step >= intervalS && rangeS / step <= POINTS_MOST) ?? 86_400;
}
