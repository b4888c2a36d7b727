import { expect, test } from "vitest";

import { CENTRAL, CENTRE, CITY, innermost, LANDS, type Place } from "./geography.ts";

test("the city has thirteen districts, each with both names and a place for its label", () => {
  expect(LANDS.length).toBe(13);
  for (const { code, name, rings } of LANDS) {
    expect(code).toMatch(/^2101\d\d$/);
    expect(name.zh.length * name.en.length, code).toBeGreaterThan(0);
    expect(innermost(rings, CITY), code).toBeDefined();
  }
});

test("the five central districts have their label inside the frame that enlarges them", () => {
  for (const { code, rings } of LANDS.filter((land) => CENTRAL.has(land.code))) {
    const [x, y] = innermost(rings, CENTRE) ?? [0, 0];
    expect(x > CENTRE[0] && x < CENTRE[2] && y > CENTRE[1] && y < CENTRE[3], code).toBe(true);
  }
  const kangping = LANDS.find((land) => land.code === "210123");
  expect(innermost(kangping?.rings ?? [], CENTRE)).toBeUndefined();
});

test("the innermost place of an L lies in its broad arm, not in the hole of its corner", () => {
  const ell: Place[] = [[0, 0], [3, 0], [3, 1], [2, 1], [2, 3], [0, 3]];
  const [x, y] = innermost([ell], [-9, -9, 9, 9]) ?? [NaN, NaN];
  expect(x > 0 && x < 2 && y > 0 && y < 3).toBe(true);
});
