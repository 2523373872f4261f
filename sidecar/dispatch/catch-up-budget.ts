/**
 * One budget per server for all catch-up dispatchers (P6): so many at once; who comes later waits its
 * turn, first come first served over partitions.
 */
export class CatchUpBudget {
  readonly dispatchers: number;
  #free: number;
  readonly #queue = new Set<() => void>();

  constructor(dispatchers: number) {
    this.dispatchers = dispatchers;
    this.#free = dispatchers;
  }

  /** Somebody waits for a place. */
  get contended(): boolean {
    return this.#queue.size > 0;
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
    this.pass();
  }

  /** Whoever was called and needs no place any more passes it on, or the next would never hear of it. */
  pass(): void {
    if (this.#free === 0) return;
    const [first] = this.#queue;
    if (first === undefined) return;
    this.#queue.delete(first);
    first();
  }

  forget(again: () => void): void {
    this.#queue.delete(again);
  }
}
