/**
 * From the slot to Kafka, one batch at a time: while one is stamped and sent, the next is decoded, so
 * batches are small when there is little to do and as large as Kafka takes when there is much.
 *
 * - U1 Batches are bounded and few (P6): when enough wait, the socket is paused.
 * - U2 For idle time the slot is confirmed only when nothing is held or on its way, and up to what the
 *   heartbeat has stored (`ownership.ts`, O3).
 */
import type { Client } from "pg";
import type { Batch, IntakeLimits } from "./intake.ts";
import { Intake } from "./intake.ts";
import type { Place } from "./lsn.ts";
import { PgOutput } from "./pgoutput.ts";
import type { Plan, Planned } from "./plan.ts";
import { relayBatch, type Steps } from "./relay.ts";
import { Replication } from "./replication.ts";

const LOOK_AGAIN_MS = 250;

export interface PumpOptions {
  readonly client: Client;
  readonly slot: string;
  readonly limits: IntakeLimits;
  /** The last event that Kafka has. */
  readonly sent: Place;
  readonly plan: (batch: Batch) => Planned;
  /** A small batch is taken no sooner: what comes until then goes with it. */
  readonly ready: () => Promise<void>;
  readonly steps: Omit<Steps, "confirm">;
  readonly around: (steps: Steps) => Steps;
  /** This batch is on its way now. */
  readonly onBegun: (batch: Batch) => void;
  readonly onSent: (plan: Plan) => void;
  /** Undefined: it goes on. */
  readonly onWait: (why: string | undefined) => void;
}

export class Pump {
  readonly #options: PumpOptions;
  readonly #intake: Intake;
  readonly #replication: Replication;
  readonly #steps: Steps;
  #wake: () => void = () => {};
  #isBusy = false;
  /** Why it is over. */
  #why: Error | undefined;

  constructor(options: PumpOptions) {
    this.#options = options;
    this.#intake = new Intake(options.limits, options.sent);
    const decoder = new PgOutput(this.#intake);
    const replication = new Replication(options.client, options.slot, {
      change: (bytes, at, end) => decoder.message(bytes, at, end),
      pause: () => {
        if (this.#intake.isFull) replication.pause();
        this.#wake();
      },
      ended: (why) => this.close(why),
    });
    this.#replication = replication;
    this.#steps = options.around({
      ...options.steps,
      confirm: ({ batch: { confirms } }) => {
        if (confirms !== undefined) replication.confirm(confirms);
      },
    });
  }

  /** Everything up to here is in Kafka, or nothing for us; undefined while something is under way. */
  get idleLsn(): bigint | undefined {
    if (this.#isBusy || !this.#intake.isIdle || this.#replication.serverLsn === 0n)
      return undefined;
    return this.#replication.serverLsn;
  }

  confirmIdle(lsn: bigint): void {
    this.#replication.confirm(lsn);
  }

  /** Rejects when it is over: what has broken, or FailClosed. */
  async run(): Promise<never> {
    try {
      for (;;) {
        if (!this.#intake.hasWholeBatch) await this.#options.ready();
        if (this.#why) throw this.#why;
        const batch = this.#intake.take();
        if (!this.#intake.isFull) this.#replication.resume();
        if (!batch) {
          await this.#woken();
          continue;
        }
        this.#isBusy = true;
        this.#options.onBegun(batch);
        const plan = await this.#planned(batch);
        await relayBatch(plan, this.#steps);
        this.#options.onSent(plan);
        this.#isBusy = false;
      }
    } finally {
      this.#replication.close();
    }
  }

  /** @param why `run` rejects with it, after the batch that is under way. */
  close(why: Error): void {
    this.#why ??= why;
    this.#wake();
  }

  async #planned(batch: Batch): Promise<Plan> {
    for (let waited = false; ; waited = true) {
      const planned = this.#options.plan(batch);
      if (planned.kind === "plan") {
        if (waited) this.#options.onWait(undefined);
        return planned.plan;
      }
      if (!waited) this.#options.onWait(planned.reason);
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
      if (this.#why) throw this.#why;
    }
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
