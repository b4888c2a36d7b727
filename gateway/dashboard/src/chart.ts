// One channel of one device over time, moving with the live stream. Drawn on a canvas: no text becomes HTML.

import { LineChart, ScatterChart } from "echarts/charts";
import { GridComponent, MarkLineComponent, TooltipComponent } from "echarts/components";
import { init, use, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

import { ask, type Alert, type Device, type LiveValue, type Rule, type Series } from "./api.ts";
import { el, mark, put } from "./dom.ts";
import { age, brief, clock, day, figure, isOld, minute, moment, span } from "./format.ts";
import { current, say } from "./language.ts";
import { append, lines, stepFor, type Point } from "./points.ts";
import type { Registry } from "./registry.ts";
import { colour, font } from "./theme.ts";
import { unit, withUnit } from "./units.ts";

const DAY_MS = 86_400_000;

use([LineChart, ScatterChart, GridComponent, MarkLineComponent, TooltipComponent, CanvasRenderer]);

const RANGES_S = [3_600, 21_600, 86_400, 604_800];
/** Fewer samples make no line: a device that reports daily gets a longer range. */
const SAMPLES_LEAST = 6;
/** A series of steps is read again once a further step is whole, at most so often; and at least so often, since its
 *  last step is still growing. */
const REREAD_LEAST_MS = 2_000;
const REREAD_MS = 30_000;

export class Chart {
  private readonly title = el("h2");
  private readonly place = el("span", { class: "quiet place" });
  private readonly note = el("span");
  private readonly figure = el("span", { class: "figure" });
  private readonly figureNote = el("span", { class: "quiet" });
  private readonly channels = el("select", { id: "channel" });
  private readonly ranges = el("div", { class: "ranges", role: "group" });
  private readonly canvas = el("div", { class: "canvas", id: "chart", role: "img" });
  private readonly empty = el("p", { class: "quiet empty" });
  private readonly marks = el("span");
  readonly element = el(
    "section", { class: "panel chart", id: "device", tabindex: "-1" },
    el("div", { class: "head" }, this.title, this.channels, this.ranges),
    el("p", { class: "reading" }, this.figure, " ", this.figureNote, this.place),
    this.canvas, this.empty, el("p", { class: "legend quiet" }, this.marks, this.note),
  );
  private chart: EChartsType | undefined;
  private device: Device | undefined;
  private channel = "";
  private rangeS = 3_600;
  private series: Series | undefined;
  private readAt = 0;
  /** Device and channel that `newest` is of. */
  private charted = "";
  /** The newest value of the charted channel, from the series or the stream, and how long it holds. */
  private newest: { time: number; value: number; holdsS: number } | undefined;
  private asking: AbortController | undefined;
  private failure: string | undefined;

  /** The threshold that an opened alert crossed: the chart makes room for it. */
  private crossed: number | undefined;

  constructor(private readonly now: () => number, private readonly registry: Registry) {
    this.channels.addEventListener("change", () => {
      this.channel = this.channels.value;
      this.crossed = undefined;
      void this.read();
    });
    for (const range of RANGES_S) {
      const button = el("button", { type: "button", "data-range": String(range) });
      button.addEventListener("click", () => {
        this.rangeS = range;
        void this.read();
      });
      this.ranges.append(button);
    }
  }

  /** Once the element is in the page and has its size. */
  start(): void {
    this.chart = init(this.canvas, undefined, { renderer: "canvas" });
    new ResizeObserver(() => this.chart?.resize()).observe(this.canvas);
  }

  opened(): string | undefined {
    return this.device?.id;
  }

  open(device: Device): Promise<void> {
    this.device = device;
    this.channel = this.registry.mainChannel(device) ?? "";
    this.crossed = undefined;
    this.reach(device.interval_s * SAMPLES_LEAST);
    return this.read();
  }

  /** The evidence of an alert: its channel, its threshold, and far enough back to see it begin. */
  openAlert(device: Device, alert: Alert): Promise<void> {
    this.device = device;
    this.channel = alert.channel ?? this.registry.mainChannel(device) ?? "";
    this.crossed = alert.channel === null ? undefined : (alert.threshold ?? undefined);
    this.reach(((this.now() - Date.parse(alert.since)) / 1000) * 1.25);
    return this.read();
  }

  /** Widens the range, where it is shorter, to the first one that goes so far back. */
  private reach(backS: number): void {
    if (this.rangeS < backS) this.rangeS = RANGES_S.find((range) => range >= backS) ?? this.rangeS;
  }

  async read(): Promise<void> {
    const device = this.device;
    if (!device || !this.channel) return this.draw();
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.readAt = performance.now();
    const to = Math.ceil(this.now());
    const step = stepFor(this.rangeS, device.interval_s);
    const query = { channel: this.channel, from: to - this.rangeS * 1000, to: to + 1, step };
    try {
      this.series = await ask<Series>(`devices/${encodeURIComponent(device.id)}/series`, query, asking.signal);
      this.failure = undefined;
      this.follow(this.series, device);
    } catch (error) {
      if (asking.signal.aborted) return;
      this.series = undefined;
      this.newest = undefined;
      this.failure = error instanceof Error ? error.message : "";
    }
    this.draw();
  }

  apply(values: LiveValue[]): void {
    const { series, device } = this;
    if (device?.latest.length === 0 && values.some((value) => value.device === device.id)) void this.meet(device);
    if (!series || !device) return;
    for (const { device: id, channel, time, value } of values) {
      if (id !== series.device || channel !== series.channel || value === null) continue;
      if (time > (this.newest?.time ?? -Infinity)) this.newest = { time, value, holdsS: device.report_s };
    }
    if (series.kind === "samples") {
      if (append(series, values, this.now() - this.rangeS * 1000)) this.draw();
    } else if (this.stale(series)) {
      void this.read();
    }
    this.drawFigure();
  }

  /** A device that was opened before it ever reported is asked for again when it does. */
  private async meet(device: Device): Promise<void> {
    const known = await ask<Device>(`devices/${encodeURIComponent(device.id)}`).catch(() => undefined);
    if (known && this.device === device) await this.open(known);
  }

  private stale(series: Series): boolean {
    const waitedMs = performance.now() - this.readAt;
    const whole = this.now() - (series.times.at(-1) ?? 0) > 2_000 * (series.step_s ?? 0);
    return waitedMs > REREAD_MS || (whole && waitedMs > REREAD_LEAST_MS);
  }

  private follow(series: Series, device: Device): void {
    const at = series.values.findLastIndex((value) => value !== null);
    const [time, value] = [series.times[at], series.values[at]];
    const other = this.charted !== `${device.id} ${series.channel}`;
    this.charted = `${device.id} ${series.channel}`;
    if (other) this.newest = undefined;
    if (time === undefined || value == null || time <= (this.newest?.time ?? -Infinity)) return;
    // The value of a step holds until the next one is whole.
    this.newest = { time, value, holdsS: series.step_s ? 2 * series.step_s : device.report_s };
  }

  translate(): void {
    this.channels.setAttribute("aria-label", say("channel"));
    this.ranges.setAttribute("aria-label", say("range"));
    for (const button of this.ranges.querySelectorAll("button")) {
      put(button, span(Number(button.dataset["range"])));
    }
    this.draw();
  }

  /** Draws anew with the colours of the theme that now holds. */
  draw(): void {
    put(this.title, this.device?.id ?? say("chart"));
    put(this.place, this.device ? this.registry.describe(this.device) : "");
    this.drawControls();
    this.drawFigure();
    const series = this.series;
    const filled = series !== undefined && series.values.some((value) => value !== null);
    this.empty.hidden = filled;
    const lacking = say(this.device ? "noSamples" : "chooseDevice");
    put(this.empty, this.failure === undefined ? lacking : say("failed", { n: this.failure }));
    this.canvas.hidden = !filled;
    mark(this.canvas, "data-points", String(series?.times.length ?? 0));
    mark(this.canvas, "data-newest", String(series?.times.at(-1) ?? ""));
    if (!series || !filled || !this.chart || !this.device) return;
    const from = this.now() - this.rangeS * 1000;
    const limits = this.registry.limits(this.device, series.channel);
    const drawn = { series, intervalS: this.device.interval_s, from, to: this.now(), limits, crossed: this.crossed };
    this.chart.setOption(option(drawn), { lazyUpdate: true });
    this.canvas.setAttribute("aria-label", `${this.device.id} ${this.channelName()} ${unit(series.unit)}`);
  }

  private drawControls(): void {
    const values = this.device?.latest ?? [];
    const wanted = values.map((value) => `${value.channel} ${value.name[current()]}`).join();
    if (this.channels.dataset["shown"] !== wanted) {
      this.channels.replaceChildren(
        ...values.map((value) => el("option", { value: value.channel }, value.name[current()])),
      );
      this.channels.dataset["shown"] = wanted;
    }
    this.channels.value = this.channel;
    this.channels.hidden = values.length < 2;
    for (const button of this.ranges.querySelectorAll("button")) {
      mark(button, "aria-pressed", String(Number(button.dataset["range"]) === this.rangeS));
    }
    const step = this.series?.step_s;
    put(this.note, this.series ? (step ? say("steps", { n: span(step) }) : say("samples")) : "");
    put(this.marks, this.series ? `◯ ${say("suspect")}　┄ ${say("estimated")}` : "");
  }

  private drawFigure(): void {
    const { series, newest } = this;
    if (!series || !newest) {
      put(this.figure, "");
      put(this.figureNote, "");
      return;
    }
    const ageS = (this.now() - newest.time) / 1000;
    const old = isOld(ageS, newest.holdsS);
    mark(this.figure, "data-old", String(old));
    put(this.figure, withUnit(figure(newest.value), series.unit));
    const when = old ? `${say("old")} · ${age(ageS)}` : age(ageS);
    put(this.figureNote, `${this.channelName()} · ${when}`);
  }

  private channelName(): string {
    return this.device?.latest.find((value) => value.channel === this.channel)?.name[current()] ?? this.channel;
  }
}

interface Drawn {
  series: Series;
  intervalS: number;
  from: number;
  to: number;
  limits: Rule[];
  crossed: number | undefined;
}

function option({ series, intervalS, from, to, limits, crossed }: Drawn) {
  const { solid, dashed, ringed } = lines(series, intervalS);
  const [text, quiet, line, data, panel] = ["text", "quiet", "line", "data", "panel"].map(colour);
  const drawn = { type: "line" as const, showSymbol: false, connectNulls: false, animation: false };
  return {
    animation: false,
    textStyle: { fontFamily: font() },
    grid: { left: 8, right: 12, top: 12, bottom: 4, containLabel: true },
    xAxis: {
      type: "time" as const, min: from, max: to,
      axisLine: { lineStyle: { color: line } }, splitLine: { show: false },
      axisLabel: { color: quiet, hideOverlap: true, formatter: (ms: number) => (to - from > DAY_MS ? day(ms) : minute(ms)) },
    },
    yAxis: {
      type: "value" as const, scale: true, splitNumber: 4,
      min: (shown: Span) => (crossed !== undefined && crossed < shown.min ? beyond(shown, crossed, -1) : null),
      max: (shown: Span) => (crossed !== undefined && crossed > shown.max ? beyond(shown, crossed, 1) : null),
      splitLine: { lineStyle: { color: line } },
      axisLabel: { color: quiet, formatter: brief },
    },
    tooltip: {
      trigger: "axis" as const, renderMode: "richText" as const, confine: true,
      backgroundColor: panel, borderColor: line, textStyle: { color: text },
      axisPointer: { lineStyle: { color: quiet }, label: { formatter: (at: { value: unknown }) => clock(Number(at.value)) } },
      formatter: (found: unknown) => tip(found, series.unit),
    },
    series: [
      { ...drawn, id: "solid", data: solid, lineStyle: { color: data, width: 1.5 }, itemStyle: { color: data }, markLine: limitLines(limits) },
      {
        ...drawn, id: "dashed", data: dashed,
        lineStyle: { color: data, width: 1.5, type: "dashed" as const }, itemStyle: { color: data },
      },
      {
        id: "ringed", type: "scatter" as const, data: ringed, symbol: "circle", symbolSize: 7, animation: false,
        itemStyle: { color: "transparent", borderColor: colour("warning"), borderWidth: 1.5 },
      },
    ],
  };
}

interface Span {
  min: number;
  max: number;
}

/** The edge of the axis past a threshold: a tenth of what is shown further, on a round figure. */
function beyond(shown: Span, crossed: number, side: 1 | -1): number {
  const range = Math.max(shown.max, crossed) - Math.min(shown.min, crossed);
  const round = 10 ** Math.floor(Math.log10(range / 2));
  return (side * Math.ceil((side * crossed + range / 10) / round)) * round;
}

/** Thresholds of the rules; those outside what the axis shows are left out by the chart. */
function limitLines(limits: Rule[]) {
  return {
    silent: true, symbol: "none", animation: false,
    data: limits.flatMap(({ severity, when }) => {
      const at = when.at_least ?? when.at_most;
      if (at === undefined) return [];
      const formatter = `${say(severity)} ${when.at_least === undefined ? "≤" : "≥"} ${brief(at)}`;
      const tone = colour(severity);
      return [{
        yAxis: at, lineStyle: { color: tone, type: "dashed" as const, width: 1 },
        label: { formatter, color: tone, position: "insideStartTop" as const, fontSize: 12 },
      }];
    }),
  };
}

function tip(found: unknown, unitName: string): string {
  const points = (Array.isArray(found) ? found : [found]) as { value?: Point }[];
  const point = points.find((one) => one.value?.[1] != null)?.value;
  return point ? `${moment(point[0])}\n${withUnit(figure(point[1]), unitName)}` : "";
}
