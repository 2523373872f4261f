/**
 * How busy a server is with catching up, over all partitions: tells whether it is the server that sets a
 * dispatcher's pace, or slow members (P6). Only in the first case are others made to wait for it, and
 * is its members' slowness no fault of theirs.
 */
import type { PlanningPace } from "./plan-catch-up.ts";
import { Rate } from "./rate.ts";

/**
 * Members of one dispatcher may have so many times less than the average, and it is still a fair share: the
 * window of each waits for whoever has his turn last, and few windows wait for all.
 */
const UNFAIR = 16;
/** Shares are judged over so many times what makes a dispatcher old: turns of a thousand clients take a second or two. */
const JUDGED_OVER = 4;

export class CatchUpLoad {
  readonly #saturated: () => boolean;
  readonly #pace: PlanningPace;
  readonly #delivered: Rate;
  #members = 0;

  /** @param saturated the processor has been busy for nearly all of the last second or so. */
  constructor(saturated: () => boolean, pace: PlanningPace, nowMs: number) {
    this.#saturated = saturated;
    this.#pace = pace;
    this.#delivered = this.share(nowMs);
  }

  /** What a dispatcher delivers, over the time that shares are judged by. */
  share(nowMs: number): Rate {
    return new Rate(JUDGED_OVER * this.#pace.youngMs, nowMs);
  }

  members(delta: number): void {
    this.#members += delta;
  }

  delivered(bytes: number, nowMs: number): void {
    this.#delivered.note(bytes, nowMs);
  }

  /** Called from time to time while anybody waits, so that the answer is of the last second. */
  get saturated(): boolean {
    return this.#saturated();
  }

  /** @param delivered bytes per second to all members of a dispatcher; undefined while it is young. */
  setsPaceOf(delivered: number | undefined, members: number, nowMs: number): boolean {
    if (!this.saturated) return false;
    const all = this.#delivered.perSecond(nowMs);
    if (delivered === undefined || all === undefined) return true;
    return (
      all >= this.#pace.busyBytesPerSecond && delivered * this.#members * UNFAIR >= all * members
    );
  }
}
