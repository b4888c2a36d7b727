// What changes seldom: classes, rules, zones and the names of districts, looked up by everything that shows a device
// or an alert. What the gateway does not tell is shown by its own id.

import { ask, type Bilingual, type Device, type DeviceClass, type District, type Rule, type Zone } from "./api.ts";
import { current } from "./language.ts";

export class Registry {
  private classes = new Map<string, DeviceClass>();
  private zones = new Map<string, Bilingual>();
  private districts = new Map<string, Bilingual>();
  private rules = new Map<string, Rule>();

  async read(): Promise<void> {
    await Promise.allSettled([
      ask<DeviceClass[]>("classes").then((all) => (this.classes = new Map(all.map((one) => [one.name, one])))),
      ask<Zone[]>("zones").then((all) => (this.zones = new Map(all.map((one) => [one.id, one.name])))),
      ask<Rule[]>("rules").then((all) => (this.rules = new Map(all.map((one) => [one.id, one])))),
      ask<District[]>("districts").then((all) => (this.districts = new Map(all.map((one) => [one.code, one.name])))),
    ]);
  }

  private className(name: string): string {
    return this.classes.get(name)?.title[current()] ?? name;
  }

  districtName(code: string): string {
    return this.districts.get(code)?.[current()] ?? code;
  }

  /** Where a device stands and what it is. */
  describe(device: Device): string {
    const zone = device.zone === null ? undefined : (this.zones.get(device.zone)?.[current()] ?? device.zone);
    return `${zone ?? this.districtName(device.district)} · ${this.className(device.class)}`;
  }

  rule(id: string): Rule | undefined {
    return this.rules.get(id);
  }

  /** Rules with a threshold on that channel. */
  limits(device: Device, channel: string): Rule[] {
    return [...this.rules.values()].filter((rule) => rule.class === device.class && rule.when.channel === channel);
  }

  /** The channel that says most about a device: its first one that is neither a word of bits nor a state. */
  mainChannel(device: Device): string | undefined {
    const channels = this.classes.get(device.class)?.channels ?? [];
    const reported = (name: string): boolean => device.latest.some((value) => value.channel === name);
    const main = channels.find(({ name, kind }) => kind !== "bits" && kind !== "state" && reported(name));
    return main?.name ?? device.latest[0]?.channel;
  }
}
