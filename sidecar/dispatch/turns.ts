/**
 * Catch-ups take turns: one batch of one catch-up dispatcher per turn of the event loop, over all
 * partitions. Ten of them that got their answers at once would otherwise be served in one go, and every
 * step of a live event (its publish, its read, its frame) would wait behind that.
 *
 * While events reach live clients there is a pause after each turn: a processor that is never idle makes
 * them wait as much, in Kafka and in the clients too where they share it. Each live byte shortens that by
 * two of catch-up, so that a catch-up goes on faster than what it has to reach.
 */
import type { DispatchClock } from "./dispatch-host.ts";

const PAUSE_MS = 10;
const MOST_TURNS_BOUGHT = 8;
/** How long after the last event for a live client the pauses go on. */
const LIVE_MS = 100;

export class Turns {
  readonly #clock: DispatchClock;
  readonly #nextTurn: (begin: () => void) => void;
  readonly #waiting: (() => void)[] = [];
  #taken = false;
  /** So many live bytes buy a turn without a pause. */
  readonly #price: number;
  #liveUntil = Number.NEGATIVE_INFINITY;
  #liveBytes = 0;

  /**
   * @param turnBytes what one turn reads.
   * @param nextTurn calls back once what is ready now has had its turn.
   */
  constructor(clock: DispatchClock, turnBytes: number, nextTurn: (begin: () => void) => void) {
    this.#price = turnBytes / 2;
    this.#clock = clock;
    this.#nextTurn = nextTurn;
  }

  /** Events have come for clients that had all before them. */
  live(bytes: number): void {
    this.#liveUntil = this.#clock.now() + LIVE_MS;
    this.#liveBytes = Math.min(this.#liveBytes + bytes, MOST_TURNS_BOUGHT * this.#price);
  }

  /** Resolves when it is the caller's turn: at once when nobody has had this one. */
  take(): Promise<void> {
    if (!this.#taken) {
      this.#begin();
      return Promise.resolve();
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #begin(): void {
    this.#taken = true;
    const over = (): void => {
      this.#taken = false;
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#begin();
      next();
    };
    if (this.#pauses()) this.#clock.setTimer(PAUSE_MS, over);
    else this.#nextTurn(over);
  }

  #pauses(): boolean {
    if (this.#clock.now() >= this.#liveUntil) return false;
    if (this.#liveBytes < this.#price) return true;
    this.#liveBytes -= this.#price;
    return false;
  }
}
