// The list of devices: found by text, walked by keyboard, newest values moving in place.

import { ask, type Device, type DevicePage, type LatestValue, type LiveValue } from "./api.ts";
import { move } from "./choice.ts";
import { el, follow, mark, put } from "./dom.ts";
import { age, figure, isOld, span, whole } from "./format.ts";
import { say, type Key } from "./language.ts";
import type { Registry } from "./registry.ts";
import { withUnit } from "./units.ts";

const PAGE = 60;
/** The stream takes 200 names, of which one is kept for the device on the chart. */
const LISTED_MOST = 180;

interface Row extends HTMLLIElement {
  parts?: { id: HTMLElement; kind: HTMLElement; value: HTMLElement; age: HTMLElement; state: HTMLElement };
}

export interface DeviceActions {
  registry: Registry;
  open: (device: Device) => void;
  listed: (ids: string[]) => void;
  now: () => number;
}

export class Devices {
  private readonly title = el("h2");
  private readonly count = el("span", { class: "quiet" });
  private readonly empty = el("p", { class: "quiet empty", hidden: true });
  private readonly more = el("button", { type: "button", class: "more", hidden: true });
  private readonly list = el("ul", { class: "rows", id: "device-list", role: "listbox", tabindex: "-1" });
  readonly element = el(
    "section", { class: "panel devices", id: "devices", tabindex: "-1" },
    el("div", { class: "head" }, this.title, this.count),
    el("div", { class: "scroll" }, this.list, this.empty, this.more),
  );
  private items: Device[] = [];
  private rows = new Map<string, Row>();
  private next: string | null = null;
  private total = 0;
  private text = "";
  private district: string | undefined;
  private chosen: string | undefined;
  private opened: string | undefined;
  private asking: AbortController | undefined;
  private failure: string | undefined;

  constructor(private readonly actions: DeviceActions) {
    this.more.addEventListener("click", () => void this.read(true));
  }

  filter(text: string, district: string | undefined): Promise<void> {
    this.text = text;
    this.district = district;
    return this.read(false);
  }

  /** Reads the list anew, keeping its length, or its next page. */
  async read(further: boolean): Promise<void> {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const after = further ? (this.next ?? undefined) : undefined;
    const limit = further ? PAGE : Math.min(LISTED_MOST, Math.max(PAGE, this.items.length));
    try {
      const page = await ask<DevicePage>("devices", { text: this.text, district: this.district, limit, after }, asking.signal);
      this.items = further ? [...this.items, ...page.items].slice(0, LISTED_MOST) : page.items;
      this.next = page.next;
      this.failure = undefined;
      this.total = page.total;
      this.draw();
      this.actions.listed(this.items.map((device) => device.id));
    } catch (error) {
      if (asking.signal.aborted) return;
      this.failure = error instanceof Error ? error.message : "";
      this.draw();
    }
  }

  /** The one to chart while nobody has chosen: of those that have reported the one that does so most often. */
  liveliest(): Device | undefined {
    const reported = this.items.filter((device) => device.latest.length > 0);
    const some = reported.length > 0 ? reported : this.items;
    return some.reduce<Device | undefined>((best, one) => (best && best.interval_s <= one.interval_s ? best : one), undefined);
  }

  move(by: number): void {
    this.chosen = move(this.items.map((device) => device.id), this.chosen, by);
    this.draw();
    if (this.chosen) this.rows.get(this.chosen)?.scrollIntoView({ block: "nearest" });
    this.list.focus({ preventScroll: true });
  }

  openChosen(): void {
    const device = this.items.find((one) => one.id === this.chosen);
    if (device) this.open(device);
  }

  open(device: Device): void {
    this.point(device.id);
    this.actions.open(device);
  }

  /** Marks the device that the chart shows. */
  point(id: string): void {
    this.opened = id;
    this.chosen = id;
    this.draw();
  }

  apply(values: LiveValue[]): void {
    const devices = new Map(this.items.map((device) => [device.id, device]));
    for (const live of values) {
      const device = devices.get(live.device);
      const latest = device?.latest.find((value) => value.channel === live.channel);
      if (!device || !latest || Date.parse(latest.time) > live.time) continue;
      latest.value = live.value;
      latest.quality = live.quality;
      latest.time = new Date(live.time).toISOString();
      if (!isOld((this.actions.now() - live.time) / 1000, device.report_s)) device.state = "reporting";
    }
  }

  translate(): void {
    put(this.title, say("devices"));
    this.list.setAttribute("aria-label", say("devices"));
    put(this.more, say("more"));
    this.draw();
  }

  draw(): void {
    follow(this.list, this.rows, this.items, (device) => device.id, (device) => this.make(device), (row, device) =>
      this.show(row, device),
    );
    put(this.count, say("devicesCount", { shown: whole(this.items.length), n: whole(this.total) }));
    put(this.empty, this.failure === undefined ? say("noDevice") : say("failed", { n: this.failure }));
    this.empty.hidden = this.items.length > 0 && this.failure === undefined;
    this.more.hidden = this.next === null || this.items.length >= LISTED_MOST;
    if (this.chosen) this.list.setAttribute("aria-activedescendant", `device-${this.chosen}`);
  }

  private make(device: Device): Row {
    const parts = {
      id: el("span", { class: "id" }),
      kind: el("span", { class: "kind quiet" }),
      value: el("span", { class: "value" }),
      age: el("span", { class: "age" }),
      state: el("span", { class: "state" }),
    };
    const row: Row = el(
      "li", { role: "option", id: `device-${device.id}` },
      parts.state, parts.id, parts.kind, parts.value, parts.age,
    );
    row.parts = parts;
    row.addEventListener("click", () => {
      const now = this.items.find((one) => one.id === device.id);
      if (now) this.open(now);
    });
    return row;
  }

  private show(row: Row, device: Device): void {
    if (!row.parts) return;
    const { id, kind, value, age: ageText, state } = row.parts;
    const newest = this.mainOf(device);
    const ageS = newest ? (this.actions.now() - Date.parse(newest.time)) / 1000 : Infinity;
    const old = isOld(ageS, device.report_s);
    mark(row, "aria-selected", String(device.id === this.chosen));
    mark(row, "data-opened", String(device.id === this.opened));
    mark(row, "data-old", String(old));
    put(id, device.id);
    put(kind, this.actions.registry.describe(device));
    put(value, newest ? withUnit(figure(newest.value), newest.unit) : say("never"));
    put(ageText, newest ? (old ? `${say("old")} · ${age(ageS)}` : age(ageS)) : "");
    const shown = old && device.state === "reporting" ? "late" : device.state;
    mark(state, "data-state", shown);
    put(state, STATE_SHAPES[shown]);
    const word = say(`state_${shown}` as Key);
    mark(row, "title", say("stateNote", { state: word, interval: span(device.report_s) }));
  }

  /** What the list shows of a device: the value of its main channel. */
  private mainOf(device: Device): LatestValue | undefined {
    const main = this.actions.registry.mainChannel(device);
    return device.latest.find((value) => value.channel === main);
  }
}

const STATE_SHAPES = { reporting: "●", late: "◐", silent: "○", never: "·" } as const;

