/**
 * A keyed queue of work: one in flight per key, the earliest due first, so many at once. A key that is
 * added while it is in flight is done once more. What fails is tried again after a pause that doubles,
 * with jitter, and counts from the beginning once it has succeeded.
 *
 * Invariants:
 * - Q1 A key that was added is done after that, however often it was added and whatever was in flight.
 * - Q2 No key is in flight twice at once.
 */
import type { Clock } from "../process/clock.ts";
import { backoffMs } from "./pauses.ts";

export interface WorkQueueOptions {
  readonly clock: Clock;
  /** 0 to 1. */
  readonly random: () => number;
  readonly concurrency: number;
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** @returns in how many milliseconds it is due again by itself; undefined: not. */
  readonly work: (key: string) => Promise<number | undefined>;
  /** `work` rejected; it is done again in so many milliseconds. */
  readonly onFailure: (key: string, error: Error, retryMs: number) => void;
}

interface Delayed {
  readonly dueMs: number;
  readonly cancel: () => void;
}

export class WorkQueue {
  readonly #options: WorkQueueOptions;
  /** Since when each is due, in the order in which they became due. */
  readonly #due = new Map<string, number>();
  readonly #delayed = new Map<string, Delayed>();
  readonly #inFlight = new Set<string>();
  readonly #failures = new Map<string, number>();
  #closed: (() => void) | undefined;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Keys that are due or in flight. */
  get busy(): number {
    return this.#due.size + this.#inFlight.size;
  }

  /** For how long the one that waits longest has been due; 0 when none is. A stuck loop shows here. */
  get lateMs(): number {
    const [sinceMs] = this.#due.values();
    return sinceMs === undefined ? 0 : this.#options.clock.now() - sinceMs;
  }

  /** Due in so many milliseconds, or when it was due before, whichever is sooner. */
  add(key: string, inMs = 0): void {
    if (this.#closed || this.#due.has(key)) return;
    const { clock } = this.#options;
    const dueMs = clock.now() + inMs;
    const delayed = this.#delayed.get(key);
    if (delayed && delayed.dueMs <= dueMs) return;
    delayed?.cancel();
    if (inMs > 0) {
      const cancel = clock.setTimer(inMs, () => this.#becomesDue(key));
      this.#delayed.set(key, { dueMs, cancel });
    } else this.#becomesDue(key);
  }

  /** What waits is dropped. Resolves when nothing is in flight. */
  close(): Promise<void> {
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#due.clear();
    return new Promise((resolve) => {
      this.#closed = resolve;
      if (this.#inFlight.size === 0) resolve();
    });
  }

  #becomesDue(key: string): void {
    this.#delayed.delete(key);
    this.#due.set(key, this.#options.clock.now());
    this.#begin();
  }

  #begin(): void {
    for (const key of this.#due.keys()) {
      if (this.#inFlight.size >= this.#options.concurrency) return;
      if (this.#inFlight.has(key)) continue;
      this.#due.delete(key);
      this.#inFlight.add(key);
      void this.#do(key);
    }
  }

  async #do(key: string): Promise<void> {
    const { work, onFailure } = this.#options;
    let againMs: number | undefined;
    try {
      againMs = await work(key);
      this.#failures.delete(key);
    } catch (error) {
      againMs = this.#retryMs(key);
      onFailure(key, error as Error, againMs);
    }
    this.#inFlight.delete(key);
    if (againMs !== undefined) this.add(key, againMs);
    this.#begin();
    if (this.#inFlight.size === 0) this.#closed?.();
  }

  #retryMs(key: string): number {
    const { firstRetryMs, longestRetryMs, random } = this.#options;
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    return backoffMs(failures, firstRetryMs, longestRetryMs, random);
  }
}
