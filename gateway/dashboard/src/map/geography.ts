// The city's outline as the maps need it: districts by code, their names, and a place for each label.

import outlines from "../../../../seeds/city/districts.geojson?raw";

import type { Bilingual } from "../api.ts";

export type Place = [longitude: number, latitude: number];
/** West, south, east, north. */
export type Frame = [number, number, number, number];

interface Feature {
  properties: { adcode: string; name_zh: string; name_en: string };
  geometry: { type: "Polygon"; coordinates: Place[][] } | { type: "MultiPolygon"; coordinates: Place[][][] };
}

export interface Land {
  code: string;
  name: Bilingual;
  /** Outer rings. */
  rings: Place[][];
}

export const geojson = JSON.parse(outlines) as { type: "FeatureCollection"; features: Feature[] };

export const LANDS: Land[] = geojson.features.map(({ properties, geometry }) => ({
  code: properties.adcode,
  name: { zh: properties.name_zh, en: properties.name_en },
  rings: (geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates).map((rings) => rings[0] ?? []),
}));

/** Width of a degree of longitude against one of latitude, at 42° north. */
export const ASPECT = 0.745;
export const CITY: Frame = frameOf(LANDS.flatMap((land) => land.rings.flat()));
/** Heping, Shenhe, Dadong, Huanggu and the near half of Tiexi: too small to read at the city's scale. */
export const CENTRE: Frame = [123.16, 41.665, 123.59, 41.955];
export const CENTRAL = new Set(["210102", "210103", "210104", "210105", "210106"]);

function frameOf(places: Place[]): Frame {
  const east = places.map(([x]) => x);
  const north = places.map(([, y]) => y);
  return [Math.min(...east), Math.min(...north), Math.max(...east), Math.max(...north)];
}

const GRID = 48;
/** Part of a frame that stays free at each side: an edge of the frame would cut a label, which a border does not. */
const MARGIN = 0.1;

/** The place of a district inside a frame that is furthest from the district's borders; none when they do not meet. */
export function innermost(rings: Place[][], frame: Frame): Place | undefined {
  const [left, south, right, north] = frameOf(rings.flat());
  const [wide, tall] = [(frame[2] - frame[0]) * MARGIN, (frame[3] - frame[1]) * MARGIN];
  const [west, low, east, high] = [
    Math.max(left, frame[0] + wide), Math.max(south, frame[1] + tall),
    Math.min(right, frame[2] - wide), Math.min(north, frame[3] - tall),
  ];
  let best: Place | undefined;
  let room = 0;
  for (let column = 1; column < GRID; column += 1) {
    for (let row = 1; row < GRID; row += 1) {
      const place: Place = [west + ((east - west) * column) / GRID, low + ((high - low) * row) / GRID];
      if (east <= west || high <= low || !rings.some((ring) => inside(place, ring))) continue;
      const free = Math.min(...rings.map((ring) => distance(place, ring)));
      if (free > room) [best, room] = [place, free];
    }
  }
  return best;
}

function inside([x, y]: Place, ring: Place[]): boolean {
  let within = false;
  edges(ring, ([ax, ay], [bx, by]) => {
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  });
  return within;
}

function distance([x, y]: Place, ring: Place[]): number {
  let nearest = Infinity;
  edges(ring, ([ax, ay], [bx, by]) => {
    const [dx, dy, px, py] = [(bx - ax) * ASPECT, by - ay, (x - ax) * ASPECT, y - ay];
    const along = Math.max(0, Math.min(1, (px * dx + py * dy) / (dx * dx + dy * dy || 1)));
    nearest = Math.min(nearest, Math.hypot(px - along * dx, py - along * dy));
  });
  return nearest;
}

function edges(ring: Place[], visit: (from: Place, to: Place) => void): void {
  ring.forEach((to, at) => {
    const from = ring.at(at - 1);
    if (from) visit(from, to);
  });
}
