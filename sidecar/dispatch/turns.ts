/**
 * Catch-ups take turns: one batch of one catch-up dispatcher per turn of the event loop, over all
 * partitions. Ten of them that got their answers at once would otherwise be served in one go, and every
 * step of a live event (its publish, its read, its frame) would wait behind that.
 */
export class Turns {
  readonly #nextTurn: (begin: () => void) => void;
  readonly #waiting: (() => void)[] = [];
  #taken = false;

  /** @param nextTurn calls back once what is ready now has had its turn. */
  constructor(nextTurn: (begin: () => void) => void) {
    this.#nextTurn = nextTurn;
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
    this.#nextTurn(() => {
      this.#taken = false;
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#begin();
      next();
    });
  }
}
