/**
 * A keyed queue of work: one in flight per key, so many at once. A key that is added while it is in flight
 * is done once more. What fails is tried again after a pause that doubles, with jitter, and counts from the
 * beginning once it has succeeded.
 *
 * Two lanes: changes, and work that comes again by itself (looks for drift, further attempts). Within each
 * the earliest due is first, so that nobody starves; but of the changes every other turn is the latest's, so
 * that a single one is not stuck behind a thousand that were made at once.
 *
 * Invariants:
 * - Q1 A key that was added is done after that, however often it was added and whatever was in flight.
 * - Q2 No key is in flight twice at once.
 * - Q3 Of the turns at which both lanes wait, one in eight is the second's: changes go first, and drift is
 *   found also while they never end.
 * - Q4 Of the changes that wait, the earliest has every other of their turns: none waits for ever.
 */
import type { Clock } from "../process/clock.ts";
import { backoffMs } from "./pauses.ts";

/** Q3 */
const TURNS_PER_AGAIN = 8;

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
  readonly #changes = new Lane();
  readonly #again = new Lane();
  readonly #delayed = new Map<string, Delayed>();
  readonly #inFlight = new Set<string>();
  readonly #failures = new Map<string, number>();
  #turns = 0;
  #progressMs: number;
  #closed: (() => void) | undefined;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
    this.#progressMs = options.clock.now();
  }

  /** Keys that are due or in flight. */
  get busy(): number {
    return this.#changes.size + this.#again.size + this.#inFlight.size;
  }

  /** For how long the one that waits longest has been due; 0 when none is. */
  get lateMs(): number {
    const sinceMs = Math.min(this.#changes.earliestMs, this.#again.earliestMs);
    return sinceMs === Number.POSITIVE_INFINITY ? 0 : this.#options.clock.now() - sinceMs;
  }

  /** For how long nothing has begun or ended though there is work; 0 when there is none. A stuck loop shows here. */
  get stuckMs(): number {
    return this.busy === 0 ? 0 : this.#options.clock.now() - this.#progressMs;
  }

  /** Something changed: due now. */
  add(key: string): void {
    if (this.#closed) return;
    this.#delayed.get(key)?.cancel();
    this.#delayed.delete(key);
    this.#again.take(key);
    this.#changes.add(key, this.#options.clock.now());
    this.#begin();
  }

  /** To be looked at again in so many milliseconds, or when it was due before, whichever is sooner. */
  addAgain(key: string, inMs: number): void {
    if (this.#closed || this.#changes.has(key) || this.#again.has(key)) return;
    const { clock } = this.#options;
    const dueMs = clock.now() + inMs;
    const delayed = this.#delayed.get(key);
    if (delayed && delayed.dueMs <= dueMs) return;
    delayed?.cancel();
    const becomesDue = (): void => {
      this.#delayed.delete(key);
      this.#again.add(key, clock.now());
      this.#begin();
    };
    this.#delayed.set(key, { dueMs, cancel: clock.setTimer(inMs, becomesDue) });
  }

  /** What waits is dropped. Resolves when nothing is in flight. */
  close(): Promise<void> {
    for (const { cancel } of this.#delayed.values()) cancel();
    this.#delayed.clear();
    this.#changes.clear();
    this.#again.clear();
    return new Promise((resolve) => {
      this.#closed = resolve;
      if (this.#inFlight.size === 0) resolve();
    });
  }

  #begin(): void {
    while (this.#inFlight.size < this.#options.concurrency) {
      const key = this.#next();
      if (key === undefined) return;
      this.#inFlight.add(key);
      void this.#do(key);
    }
  }

  /** Q2 to Q4. */
  #next(): string | undefined {
    const turn = this.#turns;
    const lanes =
      turn % TURNS_PER_AGAIN === TURNS_PER_AGAIN - 1
        ? [this.#again, this.#changes]
        : [this.#changes, this.#again];
    for (const lane of lanes) {
      const isLatest = lane === this.#changes && turn % 2 === 0;
      const key = lane.takeOne(isLatest, this.#inFlight);
      if (key === undefined) continue;
      this.#turns++;
      return key;
    }
    return undefined;
  }

  async #do(key: string): Promise<void> {
    const { work, onFailure, clock } = this.#options;
    let againMs: number | undefined;
    this.#progressMs = clock.now();
    try {
      againMs = await work(key);
      this.#failures.delete(key);
    } catch (error) {
      againMs = this.#retryMs(key);
      onFailure(key, error as Error, againMs);
    }
    this.#progressMs = clock.now();
    this.#inFlight.delete(key);
    if (againMs !== undefined) this.addAgain(key, againMs);
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

/** Keys that are due, in the order in which they became so; the latest can be had too. */
class Lane {
  /** Since when. */
  readonly #due = new Map<string, number>();
  /** The same keys, latest last; those that were taken from the other end meanwhile are still in it. */
  #stack: string[] = [];

  get size(): number {
    return this.#due.size;
  }

  get earliestMs(): number {
    const [sinceMs] = this.#due.values();
    return sinceMs ?? Number.POSITIVE_INFINITY;
  }

  has(key: string): boolean {
    return this.#due.has(key);
  }

  add(key: string, sinceMs: number): void {
    if (this.#due.has(key)) return;
    this.#due.set(key, sinceMs);
    this.#stack.push(key);
  }

  take(key: string): void {
    this.#due.delete(key);
    if (this.#stack.length > 2 * this.#due.size) this.#stack = [...this.#due.keys()];
  }

  takeOne(isLatest: boolean, except: ReadonlySet<string>): string | undefined {
    const found = isLatest ? this.#latest(except) : this.#earliest(except);
    if (found !== undefined) this.take(found);
    return found;
  }

  clear(): void {
    this.#due.clear();
    this.#stack = [];
  }

  #earliest(except: ReadonlySet<string>): string | undefined {
    for (const key of this.#due.keys()) if (!except.has(key)) return key;
    return undefined;
  }

  #latest(except: ReadonlySet<string>): string | undefined {
    const held: string[] = [];
    let found: string | undefined;
    while (this.#stack.length > 0 && found === undefined) {
      const key = this.#stack.pop() as string;
      if (!this.#due.has(key)) continue;
      if (except.has(key)) held.push(key);
      else found = key;
    }
    while (held.length > 0) this.#stack.push(held.pop() as string);
    return found;
  }
}
