/**
 * Memory for responses: large ones are received into buffers that are used again, since giving a
 * megabyte back to the system and taking it anew costs more than filling it.
 *
 * A buffer that is not given back is merely collected. Giving it back means: nobody reads it any more.
 */
const SIZE_STEP = 64 << 10;
const SMALLEST_KEPT = 32 << 10;
const MOST_KEPT_BYTES = 8 << 20;

export class ReceiveBuffers {
  /** Where a response begins to arrive, on any connection: read and copied in one go. */
  readonly scratch = Buffer.allocUnsafeSlow(64 << 10);
  readonly #free: Buffer[] = [];
  #freeBytes = 0;

  /** A buffer of at least `length` bytes. */
  take(length: number): Buffer {
    if (length < SMALLEST_KEPT) return Buffer.allocUnsafe(length);
    // The last one: the processor's cache still has it.
    const fitting = this.#free.findLastIndex((buffer) => buffer.length >= length);
    if (fitting < 0) return Buffer.allocUnsafeSlow(Math.ceil(length / SIZE_STEP) * SIZE_STEP);
    const [buffer] = this.#free.splice(fitting, 1) as [Buffer];
    this.#freeBytes -= buffer.length;
    return buffer;
  }

  /** @param used what `take` gave, or its beginning. */
  give(used: Buffer): void {
    // Small ones are slices of memory that others use too.
    if (used.length < SMALLEST_KEPT) return;
    const buffer = Buffer.from(used.buffer as ArrayBuffer);
    if (buffer.length > MOST_KEPT_BYTES / 2) return;
    this.#free.push(buffer);
    this.#freeBytes += buffer.length;
    while (this.#freeBytes > MOST_KEPT_BYTES) this.#freeBytes -= this.#free.shift()?.length ?? 0;
  }
}
