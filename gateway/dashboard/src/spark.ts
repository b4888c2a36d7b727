// A small line of the last two minutes beside a figure: is it getting worse.

import { svg } from "./dom.ts";

/** Two minutes at two values a second. */
const HISTORY = 240;
const WIDTH = 120;
const HEIGHT = 28;

export class Spark {
  private readonly line = svg("polyline", { fill: "none", "vector-effect": "non-scaling-stroke" });
  readonly element = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true",
  });
  private readonly values: number[] = [];

  constructor() {
    this.element.append(this.line);
  }

  add(value: number): void {
    this.values.push(value);
    if (this.values.length > HISTORY) this.values.shift();
    this.line.setAttribute("points", sparkPoints(this.values));
  }
}

/** The newest value is at the right edge; the scale spans what is shown, at least a tenth of its size. */
export function sparkPoints(values: number[]): string {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = Math.max(high - low, Math.abs(high) * 0.1, 1e-9);
  const floor = (low + high - room) / 2;
  const start = HISTORY - values.length;
  return values
    .map((value, at) => {
      const x = ((start + at) / (HISTORY - 1)) * WIDTH;
      const y = HEIGHT - 2 - ((value - floor) / room) * (HEIGHT - 4);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(" ");
}
