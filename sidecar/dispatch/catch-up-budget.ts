/**
 * One budget per server for all catch-up dispatchers (P6): so many at once; who comes later waits its
 * turn, first come first served over partitions.
 */
export class CatchUpBudget {
  #free: number;
  readonly #queue = new Set<() => void>();

  constructor(dispatchers: number) {
    this.#free = dispatchers;
  }

  /** Takes one place, or remembers to call `again` when one is free. */
  take(again: () => void): boolean {
    if (this.#free > 0) {
      this.#free--;
      this.#queue.delete(again);
      return true;
    }
    this.#queue.add(again);
    return false;
  }

  give(): void {
    this.#free++;
    const [first] = this.#queue;
    if (first === undefined) return;
    this.#queue.delete(first);
    first();
  }
}
