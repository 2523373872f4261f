/**
 * Memory of large segments, used again. Left to the garbage collector, ten catch-ups cost it a full
 * collection every few turns, of 5 to 15 ms each, in which live events wait.
 *
 * Invariants:
 * - M1 Memory is written to only while nobody holds it: a tail holds its segments, a frame under way the
 *   one that its bytes lie in.
 * - M2 What is let go is taken again by `take` alone, never in between: between the pull of a segment and
 *   its frame nobody may hold it.
 * - M3 What nobody lets go (a stream that broke, a tail that ended) is merely collected.
 */

/** Who holds a segment's memory. */
export class Lease {
  readonly memory: Buffer;
  readonly #idle: (lease: Lease) => void;
  #holders = 0;

  /** @param idle nobody holds it any more; may be called again when it was held since. */
  constructor(memory: Buffer, idle: (lease: Lease) => void = () => {}) {
    this.memory = memory;
    this.#idle = idle;
  }

  get isHeld(): boolean {
    return this.#holders > 0;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    if (--this.#holders === 0) this.#idle(this);
  }
}

export interface SegmentMemoryOptions {
  /** Memory is a multiple of this; what is smaller is not used again. */
  readonly stepBytes: number;
  /** Most that is kept for later. */
  readonly keptBytes: number;
  /** Hears of memory that is new. */
  readonly allocated: (bytes: number) => void;
}

export class SegmentMemory {
  readonly #options: SegmentMemoryOptions;
  /** Each at most once. */
  readonly #idle = new Set<Lease>();
  #idleBytes = 0;

  constructor(options: Partial<SegmentMemoryOptions> = {}) {
    this.#options = { stepBytes: 64 << 10, keptBytes: 8 << 20, allocated: () => {}, ...options };
  }

  /** Memory of at least so many bytes, which nobody holds yet. */
  take(bytes: number): Lease {
    const { stepBytes, allocated } = this.#options;
    if (bytes < stepBytes) {
      allocated(bytes);
      return new Lease(Buffer.allocUnsafeSlow(bytes));
    }
    const length = Math.ceil(bytes / stepBytes) * stepBytes;
    // The last one: the processor's cache still has it.
    let found: Lease | undefined;
    for (const lease of this.#idle) {
      if (lease.isHeld) this.#forget(lease);
      else if (lease.memory.length === length) found = lease;
    }
    if (found) {
      this.#forget(found);
      return found;
    }
    allocated(length);
    return new Lease(Buffer.allocUnsafeSlow(length), (lease) => this.#keep(lease));
  }

  #keep(lease: Lease): void {
    if (this.#idle.has(lease)) return;
    if (this.#idleBytes + lease.memory.length > this.#options.keptBytes) return;
    this.#idle.add(lease);
    this.#idleBytes += lease.memory.length;
  }

  #forget(lease: Lease): void {
    this.#idle.delete(lease);
    this.#idleBytes -= lease.memory.length;
  }
}
