/** The demo's subscribers: each writes down what it received, and when it went on after a lost server. */
import { ThroughlineClient } from "../client/client.ts";
import type { Seen } from "./demo-audit.ts";

const LAGGARD_CREDIT = 400;
const LIVE_CREDIT = 5000;

export class DemoClient {
  readonly name: string;
  readonly seen: Seen[] = [];
  /** Milliseconds from the loss of its server to its first event elsewhere. */
  readonly takeoversMs: number[] = [];
  failure: Error | undefined;
  #client: ThroughlineClient;
  #abort = new AbortController();
  #lostAt: number | undefined;
  #broken = false;
  #gate: Promise<void> = Promise.resolve();
  #open: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(name: string, addresses: readonly string[]) {
    this.name = name;
    this.#client = new ThroughlineClient(addresses);
  }

  start(topic: string, laggard: boolean): void {
    this.#running = this.#run(topic, laggard ? LAGGARD_CREDIT : LIVE_CREDIT);
  }

  /** Its server was just killed. */
  serverLost(): void {
    this.#lostAt = performance.now();
    this.#broken = false;
  }

  /** Takes nothing until `resume`: it falls behind. */
  pause(): void {
    if (this.#open) return;
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  resume(): void {
    this.#open?.();
    this.#open = undefined;
  }

  async stop(): Promise<void> {
    this.resume();
    this.#abort.abort();
    await this.#running;
    this.#client.close();
  }

  async #run(topic: string, creditEvents: number): Promise<void> {
    try {
      const batches = this.#client.subscribe({
        topic,
        start: { $case: "earliest", value: {} },
        creditEvents,
        signal: this.#abort.signal,
        onBreak: () => {
          this.#broken = true;
        },
      });
      for await (const { partition, events } of batches) {
        // Events that the lost server had sent before may still come: they are not the takeover.
        if (this.#lostAt !== undefined && this.#broken) {
          this.takeoversMs.push(performance.now() - this.#lostAt);
          this.#lostAt = undefined;
        }
        for (const { offset, payload } of events) {
          this.seen.push({ partition, offset: Number(offset), value: payload?.toString() ?? "" });
        }
        await this.#gate;
      }
    } catch (error) {
      this.failure = error as Error;
    }
  }
}
