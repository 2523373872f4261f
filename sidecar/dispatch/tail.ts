/**
 * A byte-capped run of segments of one partition, without a hole: each segment's `from` is the `next`
 * of the one before (T1), so what is served from it is in log order (P1). Contiguity is proved by these
 * fetch positions, never by offset arithmetic.
 * Main dispatchers keep their newest events in one, catch-up dispatchers what their members still need.
 */
import { type Segment, sizeOf } from "./segment.ts";

export class Tail {
  readonly #segments: Segment[] = [];
  #from: number;
  #next: number;
  #fromEpoch: number;
  #bytes = 0;

  constructor(from: number, fromEpoch: number) {
    this.#from = from;
    this.#next = from;
    this.#fromEpoch = fromEpoch;
  }

  /** First position that can be served from here. */
  get from(): number {
    return this.#from;
  }

  /** Position after the newest segment. */
  get next(): number {
    return this.#next;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get epoch(): number {
    return this.#segments.at(-1)?.epoch ?? this.#fromEpoch;
  }

  append(segment: Segment): void {
    if (segment.from !== this.#next) {
      throw new Error(`segment begins at ${segment.from}, the tail ends at ${this.#next}`);
    }
    this.#segments.push(segment);
    segment.lease.hold();
    this.#next = segment.next;
    this.#bytes += sizeOf(segment);
  }

  /** The oldest segment, which `dropOldest` would let go. */
  get oldest(): Segment | undefined {
    return this.#segments[0];
  }

  get length(): number {
    return this.#segments.length;
  }

  dropOldest(): number {
    const segment = this.#segments.shift();
    if (segment === undefined) return 0;
    segment.lease.release();
    this.#from = segment.next;
    this.#fromEpoch = segment.epoch;
    const freed = sizeOf(segment);
    this.#bytes -= freed;
    return freed;
  }

  /** The segment that holds what comes at `position`; undefined when it is outside or at the end. */
  at(position: number): Segment | undefined {
    const segments = this.#segments;
    let low = 0;
    let high = segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((segments[middle] as Segment).next <= position) low = middle + 1;
      else high = middle;
    }
    return segments[low];
  }

  /**
   * Whether the log here is the one that the position was taken from: the batch before it has the epoch
   * that the position names. False also means "not known here": then Kafka must be asked.
   */
  agrees(offset: number, epoch: number): boolean {
    if (epoch === -1) return true;
    if (offset < this.#from || offset > this.#next) return false;
    if (offset === this.#from) return epoch === this.#fromEpoch;
    return this.at(offset - 1)?.epoch === epoch;
  }
}
