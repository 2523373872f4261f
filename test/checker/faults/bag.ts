/** Choices that all come about equally often (pure). */
import type { Random } from "../../sim/random.ts";

/** Each once before any again. */
export class Bag<T> {
  readonly #all: readonly T[];
  readonly #random: Random;
  #left: T[] = [];

  constructor(all: readonly T[], random: Random) {
    this.#all = all;
    this.#random = random;
  }

  take(): T {
    if (this.#left.length === 0) this.#left = [...this.#all];
    const [taken] = this.#left.splice(this.#random.int(0, this.#left.length - 1), 1);
    return taken as T;
  }
}
