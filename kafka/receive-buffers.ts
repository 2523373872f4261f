/**
 * Memory for responses: large ones are received into buffers that are used again, since giving a
 * megabyte back to the system and taking it anew costs more than filling it.
 *
 * A buffer that is not given back is merely collected. Giving it back means: nobody reads it any more.
 */
const SIZE_STEP = 256 << 10;
const LARGEST_KEPT = 4 << 20;
const MOST_KEPT = 4;

export class ReceiveBuffers {
  /** Where a response begins to arrive, on any connection: read and copied in one go. */
  readonly scratch = Buffer.allocUnsafeSlow(64 << 10);
  readonly #free: Buffer[] = [];

  /** A buffer of at least `length` bytes. */
  take(length: number): Buffer {
    if (length < SIZE_STEP / 2) return Buffer.allocUnsafe(length);
    const fitting = this.#free.findIndex((buffer) => buffer.length >= length);
    if (fitting >= 0) return this.#free.splice(fitting, 1)[0] as Buffer;
    return Buffer.allocUnsafeSlow(Math.ceil(length / SIZE_STEP) * SIZE_STEP);
  }

  give(buffer: Buffer): void {
    const { length } = buffer;
    if (length % SIZE_STEP !== 0 || length === 0 || length > LARGEST_KEPT) return;
    if (this.#free.length === MOST_KEPT) this.#free.shift();
    this.#free.push(buffer);
  }
}
