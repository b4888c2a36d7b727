// The live stream, coalesced: events are gathered as they come and shown twice a second, so that nothing flickers.
// Alerts alone do not wait: where the stream is refused, closed for another page, or silent, they are asked for each
// second until it speaks again.

import { address, type Alert, type LiveValue, type QuarantineRecord, type Status } from "./api.ts";

export const SHOW_EVERY_MS = 500;
/** The gateway sends its status twice a second; so long without any event is a lost connection. */
const SILENT_AFTER_MS = 4_000;
/** The stream's rhythm is half of it: after so long without an event, or behind a broken line, alerts are asked for. */
const ASK_EVERY_MS = 1_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MOST_MS = 30_000;

export type Connection = "connecting" | "live" | "lost";

/** What came since the last showing. */
export interface Batch {
  status: Status | undefined;
  values: LiveValue[];
  quarantined: QuarantineRecord[];
  /** Events in between are gone: read anew what is shown. */
  reset: boolean;
}

/** Gathers events; the newest status, and the newest value by device and channel, win. */
export class Gathered {
  private status: Status | undefined;
  private values = new Map<string, LiveValue>();
  private quarantined: QuarantineRecord[] = [];
  private reset = false;

  add(name: string, data: string): void {
    const content = JSON.parse(data) as unknown;
    if (name === "status") this.status = content as Status;
    else if (name === "quarantine") this.quarantined.push(content as QuarantineRecord);
    else if (name === "reset") this.reset = true;
    else if (name === "samples") {
      for (const value of (content as { values: LiveValue[] }).values) {
        const key = `${value.device}/${value.channel}`;
        const known = this.values.get(key);
        if (!known || value.time >= known.time) this.values.set(key, value);
      }
    }
  }

  take(): Batch {
    const batch: Batch = {
      status: this.status,
      values: [...this.values.values()],
      quarantined: this.quarantined,
      reset: this.reset,
    };
    this.status = undefined;
    this.values = new Map();
    this.quarantined = [];
    this.reset = false;
    return batch;
  }
}

/** What is not gathered. */
export interface Urgent {
  alert: (alert: Alert) => void;
  /** The stream was opened anew for other devices: alerts between the two are to be read. */
  reopened: () => void;
  /** The stream brings none now: the newest ones are to be asked for. */
  ask: () => void;
}

export class Live {
  private source: EventSource | undefined;
  private devices: string[] = [];
  private gathered = new Gathered();
  private heardAt: number | undefined;
  private retryMs = RETRY_FIRST_MS;
  private retry: ReturnType<typeof setTimeout> | undefined;

  private opened = false;
  /** Since the last event. */
  private broken = false;

  constructor(
    private readonly show: (batch: Batch, connection: Connection) => void,
    private readonly urgent: Urgent,
    private readonly now: () => number = () => performance.now(),
  ) {}

  start(): void {
    this.open();
    setInterval(() => this.show(this.gathered.take(), this.connection()), SHOW_EVERY_MS);
    setInterval(() => {
      if (this.broken || this.heardAt === undefined || this.now() - this.heardAt >= ASK_EVERY_MS) this.urgent.ask();
    }, ASK_EVERY_MS);
  }

  /** Asks for the values of these devices alone; the stream is opened anew only when they differ. */
  watch(devices: string[]): void {
    const sorted = [...new Set(devices)].sort();
    if (sorted.join() === this.devices.join()) return;
    this.devices = sorted;
    if (this.source) this.open();
  }

  connection(): Connection {
    if (this.heardAt === undefined) return "connecting";
    return this.now() - this.heardAt < SILENT_AFTER_MS ? "live" : "lost";
  }

  private heard(): void {
    this.heardAt = this.now();
    this.broken = false;
    this.retryMs = RETRY_FIRST_MS;
  }

  private open(): void {
    clearTimeout(this.retry);
    this.source?.close();
    const source = new EventSource(address("live", { devices: this.devices.join() }));
    this.source = source;
    source.addEventListener("open", () => {
      if (this.opened) this.urgent.reopened();
      this.opened = true;
    });
    source.addEventListener("alert", (event) => {
      this.heard();
      this.urgent.alert(JSON.parse((event as MessageEvent<string>).data) as Alert);
    });
    for (const name of ["status", "samples", "quarantine", "reset"]) {
      source.addEventListener(name, (event) => {
        this.heard();
        this.gathered.add(name, (event as MessageEvent<string>).data);
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.broken = true;
      // The browser comes back by itself after a broken line, with the last id; after a refusal it does not.
      if (source.readyState !== EventSource.CLOSED) return;
      this.retry = setTimeout(() => {
        this.gathered.add("reset", "{}");
        this.open();
      }, this.retryMs);
      this.retryMs = Math.min(this.retryMs * 2, RETRY_MOST_MS);
    });
  }
}
