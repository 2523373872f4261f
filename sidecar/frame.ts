/**
 * Frames on the wire: a Batch whose event bytes are shared by every client that takes them, between a
 * prefix and a suffix of the client's own.
 *
 * How it is sent is direct-write.ts's: from its parts, or copied whole.
 */
export interface Frame {
  readonly byteLength: number;
  copy(target: Buffer, at: number): unknown;
  /** The frame in pieces that need no copy; undefined when one copy of all is better. */
  parts?(): readonly Buffer[] | undefined;
}

/** Past so many pieces copying is cheaper than naming each. */
const MOST_PARTS = 8;
const BATCH_TAG = 0x12;
const PARTITION_TAG = 0x10;
const MAYBE_REDELIVERED_TAG = 0x18;
const TOKEN_TAG = 0x7a;

/** What a frame says after its events. */
export interface FrameEnd {
  readonly partition: number;
  readonly maybeRedelivered: boolean;
  readonly token: Buffer;
}

export class BatchFrame implements Frame {
  readonly byteLength: number;
  readonly #prefix: Buffer;
  readonly #events: Buffer;
  readonly #ranges: readonly number[];
  readonly #suffix: Buffer;

  /**
   * @param events encoded `events` fields of a segment.
   * @param ranges start and end of each run of `events` that goes into the frame.
   * @param eventBytes sum of the runs.
   */
  constructor(
    events: Buffer,
    ranges: readonly number[],
    eventBytes: number,
    { partition, maybeRedelivered, token }: FrameEnd,
  ) {
    const suffix = Buffer.allocUnsafe(14 + token.length);
    let at = 0;
    if (partition !== 0) {
      suffix[at++] = PARTITION_TAG;
      at = putVarint(suffix, at, partition);
    }
    if (maybeRedelivered) {
      suffix[at++] = MAYBE_REDELIVERED_TAG;
      suffix[at++] = 1;
    }
    suffix[at++] = TOKEN_TAG;
    at = putVarint(suffix, at, token.length);
    at += token.copy(suffix, at);
    this.#suffix = suffix.subarray(0, at);
    const prefix = Buffer.allocUnsafe(6);
    prefix[0] = BATCH_TAG;
    this.#prefix = prefix.subarray(0, putVarint(prefix, 1, eventBytes + at));
    this.#events = events;
    this.#ranges = ranges;
    this.byteLength = this.#prefix.length + eventBytes + at;
  }

  /**
   * A small part of a segment is better copied: while it waits for a slow client it would keep all of the
   * segment alive, of which only its own bytes are in the budget (P6).
   */
  parts(): readonly Buffer[] | undefined {
    const ranges = this.#ranges;
    if (ranges.length > MOST_PARTS * 2 || this.byteLength < this.#events.length / 2) {
      return undefined;
    }
    const parts = [this.#prefix];
    for (let i = 0; i < ranges.length; i += 2) {
      parts.push(this.#events.subarray(ranges[i], ranges[i + 1]));
    }
    parts.push(this.#suffix);
    return parts;
  }

  copy(target: Buffer, at: number): void {
    let to = at + this.#prefix.copy(target, at);
    const ranges = this.#ranges;
    for (let i = 0; i < ranges.length; i += 2) {
      to += this.#events.copy(target, to, ranges[i], ranges[i + 1]);
    }
    this.#suffix.copy(target, to);
  }
}

function putVarint(target: Buffer, at: number, value: number): number {
  let to = at;
  let rest = value;
  while (rest >= 128) {
    target[to++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  target[to++] = rest;
  return to;
}
