/**
 * Leader election over a Lease (https://kubernetes.io/docs/concepts/architecture/leases/): one of several
 * operators acts, the others stand by.
 *
 * Invariants:
 * - L1 `mayAct` is true only within `leaseMs - marginMs` of the start of the last renewal that was answered,
 *   by this process's own monotonic clock: a leader that was frozen knows on its first look that it is none.
 * - L2 A lease is taken from another only when its record has not changed for its whole duration, as seen
 *   here: clocks of two machines are never compared.
 * - L3 Whoever loses it does not become leader again by itself: `lost` resolves, and the process ends.
 */
import type { Clock } from "../../process/clock.ts";
import { pause } from "../pauses.ts";

export interface LeaseRecord {
  readonly holder: string;
  readonly durationSeconds: number;
  readonly transitions: number;
  /** What another's renewal changes. */
  readonly version: string;
}

export interface LeaseApi {
  read(): Promise<
    | { readonly kind: "lease"; readonly record: LeaseRecord }
    | { readonly kind: "none" }
    | { readonly kind: "failed"; readonly reason: string }
  >;
  /** Makes it, or replaces exactly `over`. */
  write(
    holder: string,
    durationSeconds: number,
    transitions: number,
    over: LeaseRecord | undefined,
  ): Promise<
    | { readonly kind: "written"; readonly record: LeaseRecord }
    | { readonly kind: "conflict" }
    | { readonly kind: "failed"; readonly reason: string }
  >;
}

export interface LeaseOptions {
  readonly api: LeaseApi;
  readonly clock: Clock;
  /** 0 to 1. */
  readonly random: () => number;
  /** Unique for each process. */
  readonly holder: string;
  readonly leaseMs: number;
  readonly renewMs: number;
  /** Between the end of one's own leadership and the time when others may begin theirs. */
  readonly marginMs: number;
  readonly onTrouble: (message: string) => void;
}

export class Lease {
  readonly #options: LeaseOptions;
  #own: { readonly record: LeaseRecord; readonly sinceMs: number } | undefined;
  #other: { readonly version: string; readonly sinceMs: number } | undefined;
  #turnMs: number;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  readonly #gained = Promise.withResolvers<void>();
  readonly #lost = Promise.withResolvers<void>();

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#turnMs = options.clock.now();
  }

  get gained(): Promise<void> {
    return this.#gained.promise;
  }

  /** L3 */
  get lost(): Promise<void> {
    return this.#lost.promise;
  }

  /** L1. To be asked before each deed. */
  get mayAct(): boolean {
    const { clock, leaseMs, marginMs } = this.#options;
    return this.#own !== undefined && clock.now() < this.#own.sinceMs + leaseMs - marginMs;
  }

  /** Since it last went for the lease, its own or another's. A stuck loop shows here. */
  get idleMs(): number {
    return this.#options.clock.now() - this.#turnMs;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Gives the lease back, so that a standby need not wait. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
    const own = this.#own;
    this.#own = undefined;
    if (own) await this.#options.api.write("", 1, own.record.transitions, own.record);
  }

  async #run(): Promise<void> {
    const { clock, renewMs, random } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      this.#turnMs = clock.now();
      await (this.#own ? this.#renew() : this.#try());
      if (this.#own && !this.mayAct) {
        this.#own = undefined;
        this.#lost.resolve();
        return;
      }
      await pause(clock, renewMs * (0.75 + random() / 4), signal);
    }
  }

  async #renew(): Promise<void> {
    const { api, clock, holder } = this.#options;
    const { record } = this.#own as { record: LeaseRecord };
    const sinceMs = clock.now();
    const written = await api.write(holder, this.#seconds, record.transitions, record);
    if (written.kind === "written") this.#own = { record: written.record, sinceMs };
    else if (written.kind === "failed") {
      this.#options.onTrouble(`The lease was not renewed: ${written.reason}`);
      // It may have been written: the next renewal needs its version.
      const read = await api.read();
      if (read.kind === "lease" && read.record.holder === holder && this.#own)
        this.#own = { ...this.#own, record: read.record };
    } else await this.#judgeConflict();
  }

  /** An answer that was lost looks like another's write: whose it is says who holds it. */
  async #judgeConflict(): Promise<void> {
    const read = await this.#options.api.read();
    if (read.kind === "failed" || !this.#own) return;
    if (read.kind === "lease" && read.record.holder === this.#options.holder)
      this.#own = { ...this.#own, record: read.record };
    else this.#own = { ...this.#own, sinceMs: Number.NEGATIVE_INFINITY };
  }

  async #try(): Promise<void> {
    const { api, clock, holder, onTrouble } = this.#options;
    const sinceMs = clock.now();
    const read = await api.read();
    if (read.kind === "failed") {
      onTrouble(`The lease cannot be read: ${read.reason}`);
      return;
    }
    const over = read.kind === "lease" ? read.record : undefined;
    if (over && over.holder !== "" && !this.#isOver(over, sinceMs)) return;
    const transitions = over ? over.transitions + (over.holder === holder ? 0 : 1) : 0;
    const written = await api.write(holder, this.#seconds, transitions, over);
    if (written.kind === "failed") onTrouble(`The lease was not taken: ${written.reason}`);
    if (written.kind !== "written") return;
    this.#own = { record: written.record, sinceMs };
    this.#gained.resolve();
  }

  /** L2 */
  #isOver({ version, durationSeconds }: LeaseRecord, nowMs: number): boolean {
    if (this.#other?.version !== version) this.#other = { version, sinceMs: nowMs };
    return nowMs - this.#other.sinceMs > durationSeconds * 1000;
  }

  get #seconds(): number {
    return Math.ceil(this.#options.leaseMs / 1000);
  }
}
