/**
 * PostgreSQL's messages in a byte stream (pure): a type byte, a length of 32 bits that counts itself, a body.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */

const HEAD_BYTES = 5;

export class WireFrames {
  /** A message that has begun: its bytes so far. */
  #part: Buffer | undefined;
  #have = 0;

  /** Visits each message that is whole now: its type at `at`, its body from `at + 5` to `end`. */
  push(chunk: Buffer, visit: (bytes: Buffer, at: number, end: number) => void): void {
    let at = this.#part ? this.#complete(chunk, visit) : 0;
    while (at + HEAD_BYTES <= chunk.length) {
      const end = at + 1 + lengthAt(chunk, at + 1);
      if (end > chunk.length) break;
      visit(chunk, at, end);
      at = end;
    }
    if (at < chunk.length) this.#begin(chunk, at);
  }

  #begin(chunk: Buffer, at: number): void {
    const have = chunk.length - at;
    const need = have >= HEAD_BYTES ? 1 + lengthAt(chunk, at + 1) : HEAD_BYTES;
    this.#part = Buffer.allocUnsafe(need);
    this.#have = chunk.copy(this.#part, 0, at);
  }

  /** @returns how much of the chunk belongs to the message that had begun. */
  #complete(chunk: Buffer, visit: (bytes: Buffer, at: number, end: number) => void): number {
    let at = 0;
    for (;;) {
      const part = this.#part as Buffer;
      const more = chunk.copy(part, this.#have, at, at + part.length - this.#have);
      this.#have += more;
      at += more;
      if (this.#have < part.length) return at;
      const need = 1 + lengthAt(part, 1);
      if (part.length >= need) {
        this.#part = undefined;
        visit(part, 0, need);
        return at;
      }
      // Only its head was known.
      this.#part = Buffer.allocUnsafe(need);
      part.copy(this.#part, 0);
    }
  }
}

function lengthAt(bytes: Buffer, at: number): number {
  const length = bytes.readInt32BE(at);
  if (length < 4) throw new Error(`PostgreSQL sent a message of impossible length ${length}`);
  return length;
}
