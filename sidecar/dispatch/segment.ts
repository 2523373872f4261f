/**
 * A segment: the events of one stretch of one partition, encoded once as `events` fields of a Batch and
 * shared by every client that takes them.
 *
 * Invariants:
 * - S1 A segment covers the positions [from, next): every committed event there is in it.
 * - S2 All of it has one leader epoch, so a token cut anywhere in it carries the epoch of the last batch
 *   before it.
 */
import type { Lease } from "./segment-memory.ts";

export interface Segment {
  readonly from: number;
  readonly next: number;
  readonly epoch: number;
  readonly bytes: Buffer;
  /** Of the memory that `bytes` lies in: held as long as they are read. */
  readonly lease: Lease;
  readonly count: number;
  /** Where event i begins in `bytes`; count + 1 entries, the last is the end. */
  readonly starts: Uint32Array;
  /** Offset of event i, less `base`. */
  readonly deltas: Uint32Array;
  readonly base: number;
}

/** What a segment costs in memory. */
export function sizeOf(segment: Segment): number {
  return segment.lease.memory.length + segment.starts.byteLength + segment.deltas.byteLength + 200;
}

/** Index of the first event with an offset of at least `offset`; `count` when there is none. */
export function firstAt(segment: Segment, offset: number): number {
  const { deltas } = segment;
  const wanted = offset - segment.base;
  let low = 0;
  let high = segment.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((deltas[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** How many events from `first` fit into `maxBytes`: at least one when there is one. */
export function fitting(
  segment: Segment,
  first: number,
  maxEvents: number,
  maxBytes: number,
): number {
  const { starts } = segment;
  const limit = (starts[first] as number) + maxBytes;
  let low = first + 1;
  let high = Math.min(segment.count, first + maxEvents);
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if ((starts[middle] as number) <= limit) low = middle;
    else high = middle - 1;
  }
  return low - first;
}

/** First and last event of these byte ranges, as offsets less `base`. */
export function edgesOf(segment: Segment, ranges: readonly number[]): [number, number] {
  const first = indexOf(segment, ranges[0] as number);
  const last = indexOf(segment, ranges.at(-1) as number) - 1;
  return [segment.deltas[first] as number, segment.deltas[last] as number];
}

/** Every event of these byte ranges, as offsets less `base`. */
export function offsetsOf(segment: Segment, ranges: readonly number[], count: number): Uint32Array {
  const offsets = new Uint32Array(count);
  let at = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    const first = indexOf(segment, ranges[i] as number);
    const end = indexOf(segment, ranges[i + 1] as number);
    offsets.set(segment.deltas.subarray(first, end), at);
    at += end - first;
  }
  return offsets;
}

/** The event that begins at this byte. */
function indexOf({ starts, count }: Segment, byte: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((starts[middle] as number) < byte) low = middle + 1;
    else high = middle;
  }
  return low;
}
