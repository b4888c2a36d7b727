// The mark of a severity: a shape of its own, so that it is told without its colour. What was found in old data is
// hollow and dashed.

import type { Severity } from "../api.ts";
import { svg } from "../dom.ts";

const OUTLINES: Record<Severity, string> = {
  critical: "M8 1 15 8 8 15 1 8Z",
  major: "M8 1.5 15.2 14.2H.8Z",
  warning: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z",
  info: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11Z",
};

/** The same outlines for a canvas. */
export const symbolPath = (severity: Severity): string => `path://${OUTLINES[severity]}`;

export function severityMark(severity: Severity, hollow = false): SVGElement {
  const mark = svg("svg", { class: "mark", viewBox: "0 0 16 16", "aria-hidden": "true", "data-severity": severity });
  if (hollow) mark.setAttribute("data-hollow", "");
  mark.append(svg("path", { d: OUTLINES[severity] }));
  return mark;
}
