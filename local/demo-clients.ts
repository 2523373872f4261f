/**
 * The demo's subscribers: each writes down what it received, where it was when a server was killed, and
 * how long it then took to its first event elsewhere.
 */
import { type SessionOptions, ThroughlineClient } from "../client/client.ts";
import type { Seen } from "./demo-audit.ts";

const SLOW_CREDIT_EVENTS = 400;
const LIVE_CREDIT_EVENTS = 5000;

/** One kill of the server that the client was on. */
export interface Takeover {
  /** What the client had received by then. */
  readonly seenBefore: number;
  /** From the kill to its first event from another server; undefined while there is none. */
  ms: number | undefined;
}

export class DemoClient {
  readonly name: string;
  readonly topic: string;
  readonly slow: boolean;
  readonly seen: Seen[] = [];
  readonly takeovers: Takeover[] = [];
  failure: Error | undefined;
  readonly #session: SessionOptions | undefined;
  #client: ThroughlineClient;
  #abort = new AbortController();
  #killedAtMs = 0;
  #broken = false;
  #gate: Promise<void> = Promise.resolve();
  #open: (() => void) | undefined;
  #running: Promise<void> | undefined;

  /** @param session its position is kept in the store; without one it keeps its token. */
  constructor(
    name: string,
    topic: string,
    slow: boolean,
    addresses: readonly string[],
    session?: SessionOptions,
  ) {
    this.name = name;
    this.#session = session;
    this.topic = topic;
    this.slow = slow;
    this.#client = new ThroughlineClient(addresses);
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Its server is being killed. */
  serverKilled(): void {
    this.#killedAtMs = performance.now();
    this.#broken = false;
    this.takeovers.push({ seenBefore: this.seen.length, ms: undefined });
  }

  get paused(): boolean {
    return this.#open !== undefined;
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

  async #run(): Promise<void> {
    try {
      const batches = this.#client.subscribe({
        topic: this.topic,
        start: { $case: "earliest", value: {} },
        creditEvents: this.slow ? SLOW_CREDIT_EVENTS : LIVE_CREDIT_EVENTS,
        signal: this.#abort.signal,
        ...(this.#session && { session: this.#session }),
        onBreak: () => {
          this.#broken = true;
        },
      });
      for await (const { partition, events, maybeRedelivered: marked } of batches) {
        // Events that the killed server had sent before may still come: they are not the takeover.
        const takeover = this.takeovers.at(-1);
        if (takeover && takeover.ms === undefined && this.#broken) {
          takeover.ms = performance.now() - this.#killedAtMs;
        }
        for (const { offset, payload } of events) {
          const value = payload?.toString() ?? "";
          this.seen.push({ partition, offset: Number(offset), value, marked });
        }
        await this.#gate;
      }
    } catch (error) {
      this.failure = error as Error;
    }
  }
}
