// One map of the districts, of the whole city or of its centre, drawn on a canvas: fills, names and alert marks.

import { LinesChart, ScatterChart } from "echarts/charts";
import { GeoComponent, TooltipComponent } from "echarts/components";
import { init, registerMap, use, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

import type { Severity } from "../api.ts";
import { symbolPath } from "../alerts/mark.ts";
import { el } from "../dom.ts";
import { current } from "../language.ts";
import { colour, font } from "../theme.ts";
import { ASPECT, CENTRAL, CENTRE, CITY, geojson, innermost, LANDS, type Frame, type Place } from "./geography.ts";

use([GeoComponent, LinesChart, ScatterChart, TooltipComponent, CanvasRenderer]);
registerMap("shenyang", geojson as unknown as Parameters<typeof registerMap>[1]);

/** An alert mark on a district: the gravest of its alerts, in a shape and words. */
export interface Mark {
  severity: Severity;
  hollow: boolean;
  text: string;
  /** For where there is little room. */
  brief: string;
}

export interface View {
  /** Token of each district's fill, by code. */
  fills: Map<string, string>;
  marks: Map<string, Mark>;
  chosen: string | undefined;
  tip: (code: string) => string;
}

export type Extent = "city" | "centre";

const SYMBOL = 16;
const PULSE_MS = 1_200;

export class Outline {
  readonly element: HTMLElement;
  private readonly places: Map<string, Place>;
  private readonly frame: Frame;
  private chart: EChartsType | undefined;
  private drawn = "";

  constructor(private readonly extent: Extent, private readonly choose: (code: string) => void) {
    this.frame = extent === "city" ? CITY : CENTRE;
    const found = LANDS.map(({ code, rings }) => [code, innermost(rings, this.frame)] as const);
    this.places = new Map(found.filter((one): one is [string, Place] => one[1] !== undefined));
    this.element = el("div", { class: `outline ${extent}`, "aria-hidden": "true" });
  }

  start(): void {
    const chart = init(this.element, undefined, { renderer: "canvas" });
    this.chart = chart;
    new ResizeObserver(() => chart.resize()).observe(this.element);
    chart.on("click", (event) => {
      const code = codeOf(event);
      if (code) this.choose(code);
    });
  }

  /** Draws what differs from the last drawing; a theme or language counts as a difference. */
  draw(view: View): void {
    if (!this.chart) return;
    const key = JSON.stringify([
      [...view.fills], [...view.marks], view.chosen, current(), document.documentElement.dataset["theme"],
    ]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.chart.setOption(this.option(view), { replaceMerge: ["series"] });
  }

  /** A ring that widens once around a district's mark. */
  pulse(code: string, severity: Severity): void {
    const place = this.places.get(code);
    const at = place && this.chart?.convertToPixel("geo", place);
    if (!at) return;
    const ring = el("span", { class: "pulse", "data-severity": severity });
    [ring.style.left, ring.style.top] = [`${at[0]}px`, `${at[1]}px`];
    this.element.append(ring);
    setTimeout(() => ring.remove(), PULSE_MS);
  }

  private option(view: View) {
    const [west, south, east, north] = this.frame;
    const [text, line, border, panel, data] = ["text", "line", "border", "panel", "data"].map(colour);
    return {
      animation: false,
      textStyle: { fontFamily: font() },
      tooltip: {
        trigger: "item" as const, renderMode: "richText" as const, confine: true,
        backgroundColor: panel, borderColor: line, textStyle: { color: text, fontSize: 13 },
        formatter: (event: unknown) => view.tip(codeOf(event) ?? ""),
      },
      geo: {
        map: "shenyang", nameProperty: "adcode", aspectScale: ASPECT, roam: false, selectedMode: false as const,
        boundingCoords: [[west, north], [east, south]] as [[number, number], [number, number]],
        left: 4, right: 4, top: 4, bottom: 4, preserveAspect: this.extent === "city" ? "contain" as const : "cover" as const,
        label: { show: false }, emphasis: { label: { show: false }, itemStyle: { areaColor: colour("raised") } },
        itemStyle: { areaColor: colour("ramp-0"), borderColor: border, borderWidth: 1 },
        tooltip: { show: true },
        regions: LANDS.map(({ code }) => region(code, view, data ?? "")),
      },
      series: [
        ringLines("chosen", ringsOf(view.chosen), { color: data ?? "", width: 2 }),
        ringLines("frame", this.extent === "city" ? [frameRing] : [], { color: colour("comparison"), width: 1, type: "dashed" }),
        { ...points, id: "names", data: this.names(view), label: { show: true, color: text, fontSize: 12, position: "inside" as const } },
        {
          ...points, id: "marks", data: this.marks(view), z: 6,
          label: {
            show: true, position: "bottom" as const, distance: 4, color: text, fontSize: 12, fontWeight: "bold" as const,
            textBorderColor: panel, textBorderWidth: 3,
          },
          labelLayout: { moveOverlap: "shiftY" as const },
        },
      ],
    };
  }

  private names(view: View) {
    return [...this.shown()].map(({ code, name, place }) => ({
      name: code, value: place, symbolSize: 0,
      label: { formatter: name[current()], offset: [0, this.marked(code, view) ? -18 : 0] },
    }));
  }

  private marks(view: View) {
    const inset = this.extent === "centre";
    return [...view.marks].flatMap(([code, { severity, hollow, text, brief }]) => {
      const place = this.places.get(code);
      if (!place || !this.marked(code, view)) return [];
      const tone = colour(severity);
      return [{
        name: code, value: place, symbol: symbolPath(severity), symbolSize: SYMBOL,
        itemStyle: hollow || severity === "info"
          ? { color: colour("panel"), borderColor: tone, borderWidth: 2, borderType: hollow ? "dashed" as const : "solid" as const }
          : { color: tone, borderColor: colour("panel"), borderWidth: 1 },
        label: { show: this.speaksOf(code), formatter: inset ? brief : text },
      }];
    });
  }

  private marked(code: string, view: View): boolean {
    return view.marks.has(code) && (this.extent === "city" || this.speaksOf(code));
  }

  /** The inset has words for the central districts, the city's map for all others. */
  private speaksOf(code: string): boolean {
    return (this.extent === "centre") === CENTRAL.has(code);
  }

  private *shown() {
    for (const land of LANDS) {
      const place = this.places.get(land.code);
      if (place && this.speaksOf(land.code)) yield { ...land, place };
    }
  }
}

const points = { type: "scatter" as const, coordinateSystem: "geo" as const, animation: false, emphasis: { disabled: true } };

function region(code: string, view: View, hovered: string) {
  const areaColor = colour(view.fills.get(code) ?? "panel");
  return {
    name: code, itemStyle: { areaColor },
    emphasis: { itemStyle: { areaColor, borderColor: hovered, borderWidth: 1.5 } },
  };
}

/** Where on the city's map the enlarged centre lies. */
const frameRing: Place[] = [
  [CENTRE[0], CENTRE[1]], [CENTRE[0], CENTRE[3]], [CENTRE[2], CENTRE[3]], [CENTRE[2], CENTRE[1]], [CENTRE[0], CENTRE[1]],
];

const ringsOf = (code: string | undefined): Place[][] => LANDS.find((land) => land.code === code)?.rings ?? [];

/** Rings drawn over the districts, whose own borders cover each other. */
function ringLines(id: string, rings: Place[][], lineStyle: { color: string; width: number; type?: "dashed" }) {
  return {
    id, type: "lines" as const, coordinateSystem: "geo" as const, polyline: true, silent: true, zlevel: 0,
    data: rings.map((coords) => ({ coords })), lineStyle: { ...lineStyle, opacity: 1 },
  };
}

function codeOf(event: unknown): string | undefined {
  const name = (event as { name?: unknown }).name;
  return typeof name === "string" && name !== "" ? name : undefined;
}
