/**
 * A keyed queue of work: one in flight per key, so many at once. A key that is added while it is in flight
 * is done once more. What fails is tried again after a pause that doubles, with jitter, and counts from the
 * beginning once it has succeeded.
 *
 * Two lanes: changes, and work that comes again by itself (looks for drift, further attempts), the earliest due
 * first, so that nobody starves. The changes of each group (a namespace) have a lane of their own, and every other
 * turn of a group is its latest change's, so that a single one is not stuck behind a thousand that were made at once.
 *
 * Invariants:
 * - Q1 A key that was added is done after that, however often it was added and whatever was in flight.
 * - Q2 No key is in flight twice at once.
 * - Q3 Of the turns at which both lanes wait, one in eight is the second's: changes go first, and drift is
 *   found also while they never end.
 * - Q4 Of a group's changes that wait, the earliest has every other of its turns: none waits for ever.
 * - Q5 Groups whose changes wait have their turns in rotation: a thousand changes of one keep no other waiting.
 * - Q6 Who waits has at most `concurrency` in flight. A change that comes while they are taken has one of `spare`
 *   more, where one is free: it does not wait until one of a thousand is done. The thousand, too, may have come just
 *   now and taken them: a group that has fewer in flight has as many again.
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
  /** Q6 */
  readonly spare: number;
  /** Q5 */
  readonly groupOf: (key: string) => string;
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
  readonly #changes = new Groups();
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
    const { groupOf, clock, concurrency, spare } = this.#options;
    const group = groupOf(key);
    this.#changes.add(group, key, clock.now());
    this.#begin();
    // Q2
    if (this.#inFlight.has(key) || !this.#changes.has(group, key)) return;
    // Q6
    const ofGroup = [...this.#inFlight].filter((other) => groupOf(other) === group).length;
    const spares = ofGroup < spare ? 2 * spare : spare;
    if (this.#inFlight.size >= concurrency + spares) return;
    this.#changes.take(group, key);
    this.#start(key);
  }

  /** To be looked at again in so many milliseconds, or when it was due before, whichever is sooner. */
  addAgain(key: string, inMs: number): void {
    const { clock, groupOf } = this.#options;
    if (this.#closed || this.#changes.has(groupOf(key), key) || this.#again.has(key)) return;
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
      this.#start(key);
    }
  }

  #start(key: string): void {
    this.#inFlight.add(key);
    void this.#do(key);
  }

  /** Q2 to Q5. */
  #next(): string | undefined {
    const isAgainFirst = this.#turns % TURNS_PER_AGAIN === TURNS_PER_AGAIN - 1;
    for (const lane of isAgainFirst ? [this.#again, this.#changes] : [this.#changes, this.#again]) {
      const key = lane.takeOne(this.#inFlight);
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

/** Changes by group. Those that have any, in the order of their turns (Q5). */
class Groups {
  readonly #lanes = new Map<string, Lane>();

  get size(): number {
    return [...this.#lanes.values()].reduce((sum, { size }) => sum + size, 0);
  }

  get earliestMs(): number {
    return Math.min(...[...this.#lanes.values()].map(({ earliestMs }) => earliestMs));
  }

  has(group: string, key: string): boolean {
    return this.#lanes.get(group)?.has(key) ?? false;
  }

  add(group: string, key: string, sinceMs: number): void {
    const lane = this.#lanes.get(group) ?? new Lane(true);
    this.#lanes.set(group, lane);
    lane.add(key, sinceMs);
  }

  take(group: string, key: string): void {
    const lane = this.#lanes.get(group);
    lane?.take(key);
    if (lane?.size === 0) this.#lanes.delete(group);
  }

  takeOne(except: ReadonlySet<string>): string | undefined {
    for (const [group, lane] of this.#lanes) {
      const key = lane.takeOne(except);
      if (key === undefined) continue;
      this.#lanes.delete(group);
      if (lane.size > 0) this.#lanes.set(group, lane);
      return key;
    }
    return undefined;
  }

  clear(): void {
    this.#lanes.clear();
  }
}

/** Keys that are due, in the order in which they became so. */
class Lane {
  /** Whether every other turn is the latest's (Q4). */
  readonly #isLatestToo: boolean;
  /** Since when. */
  readonly #due = new Map<string, number>();
  /** The same keys, latest last; those that were taken from the other end meanwhile are still in it. */
  #stack: string[] = [];
  #turns = 0;

  constructor(isLatestToo = false) {
    this.#isLatestToo = isLatestToo;
  }

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
    if (this.#isLatestToo) this.#stack.push(key);
  }

  take(key: string): void {
    this.#due.delete(key);
    if (this.#stack.length > 2 * this.#due.size) this.#stack = [...this.#due.keys()];
  }

  takeOne(except: ReadonlySet<string>): string | undefined {
    const isLatest = this.#isLatestToo && this.#turns % 2 === 0;
    const found = isLatest ? this.#latest(except) : this.#earliest(except);
    if (found === undefined) return undefined;
    this.#turns++;
    this.take(found);
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
