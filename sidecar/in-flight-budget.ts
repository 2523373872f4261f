/**
 * Bytes of frames that clients have not taken yet, over all streams of a server (P6). Each stream may
 * always have one small frame out; more comes from this budget.
 */
export class InFlightBudget {
  readonly #maxBytes: number;
  #used = 0;
  readonly #waiting = new Set<() => void>();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get used(): number {
    return this.#used;
  }

  /** 0 to 1, and more where small frames go beyond it. */
  get usedShare(): number {
    return this.#used / this.#maxBytes;
  }

  get free(): number {
    return Math.max(0, this.#maxBytes - this.#used);
  }

  get contended(): boolean {
    return this.#waiting.size > 0;
  }

  take(bytes: number): void {
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    if (this.#waiting.size === 0) return;
    const [first] = this.#waiting;
    this.#waiting.delete(first as () => void);
    (first as () => void)();
  }

  /** Calls once when bytes were given back. */
  whenGiven(again: () => void): void {
    this.#waiting.add(again);
  }

  forget(again: () => void): void {
    this.#waiting.delete(again);
  }
}
