/**
 * Record batches (message format v2) read where they lie: one reused cursor, no object per record.
 *
 * - Control records and records of aborted transactions are never visited.
 * - What comes next is base offset + last offset delta + 1 of the last whole batch.
 * - Offsets rise: within a batch, and from one batch to the next (P1).
 * - Malformed bytes are a value (`corrupt`), never an exception or an endless loop. Of the records that
 *   were visited, those at or past its `next` are of the damaged batch.
 *
 * Format: https://kafka.apache.org/documentation/#recordbatch
 */
import { crc32c } from "@node-rs/crc32";
import { decompress } from "./compression.ts";
import type { AbortedTransaction } from "./log.ts";

const HEADER_BYTES = 61;
const CODEC_MASK = 7;
const LOG_APPEND_TIME = 8;
const TRANSACTIONAL = 16;
const CONTROL = 32;
const TWO_32 = 4294967296;

/** The record under the scan; valid only during the visit. */
export class RecordCursor {
  buf: Buffer = Buffer.alloc(0);
  offset = 0;
  timeMs = 0;
  /** Leader epoch and base offset of the record's batch. */
  epoch = -1;
  batch = -1;
  keyStart = 0;
  /** -1: the record has no key. */
  keyLength = -1;
  valueStart = 0;
  /** -1: the record has no value. */
  valueLength = -1;
  /** At the varint that counts the headers. */
  headersStart = 0;
  end = 0;
}

export interface ScanOptions {
  /** First offset wanted: batches may begin before it. */
  readonly from: number;
  readonly aborted: readonly AbortedTransaction[];
  /** False passes over checksums: what lies beneath is then judged by its form alone (tests). */
  readonly checksums?: boolean;
}

export type ScanEnd =
  | { readonly kind: "end"; readonly next: number; readonly epoch: number }
  /** `next` and `epoch` are those of the last batch before the damage. */
  | {
      readonly kind: "corrupt";
      readonly offset: number;
      readonly reason: string;
      readonly next: number;
      readonly epoch: number;
    };

class Malformed extends Error {}

/** Reads varints; one instance per scan, so that nothing lives at module level. */
class VarintReader {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  /** Zig-zag, 32 bits. */
  int(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.at++] as number;
    if (byte < 128) return (byte >>> 1) ^ -(byte & 1);
    let value = byte & 127;
    for (let shift = 7; shift < 35; shift += 7) {
      byte = bytes[this.at++] as number;
      value |= (byte & 127) << shift;
      if (byte < 128) return (value >>> 1) ^ -(value & 1);
    }
    throw new Malformed("a number does not end");
  }

  /** Zig-zag, up to 53 bits. */
  long(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.at++] as number;
    if (byte < 128) return (byte >>> 1) ^ -(byte & 1);
    let value = byte & 127;
    let scale = 128;
    for (let i = 0; i < 9; i++) {
      byte = bytes[this.at++] as number;
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte < 128) return value % 2 === 1 ? -(value - 1) / 2 - 1 : value / 2;
    }
    throw new Malformed("a number does not end");
  }
}

/** Visits every committed record with an offset of at least `from`. */
export function scan(
  records: Buffer,
  options: ScanOptions,
  visit: (cursor: RecordCursor) => void,
): ScanEnd {
  const { from, checksums = true } = options;
  const aborted = [...options.aborted].sort((a, b) => a.firstOffset - b.firstOffset);
  const open = new Set<bigint>();
  const cursor = new RecordCursor();
  let nextAborted = 0;
  let next = from;
  let epoch = -1;
  let p = 0;
  while (p + HEADER_BYTES <= records.length) {
    const base = records.readInt32BE(p) * TWO_32 + records.readUInt32BE(p + 4);
    const end = p + 12 + records.readInt32BE(p + 8);
    if (end > records.length) break;
    const corrupt = (reason: string): ScanEnd => ({
      kind: "corrupt",
      offset: base,
      reason: `batch at offset ${base}: ${reason}`,
      next,
      epoch,
    });
    if (end < p + HEADER_BYTES) return corrupt("its length is impossible");
    if (records[p + 16] !== 2) return corrupt(`message format ${records[p + 16]} is not 2`);
    const last = base + records.readInt32BE(p + 23);
    if (base < 0 || last < base || last >= Number.MAX_SAFE_INTEGER) {
      return corrupt("its offsets are impossible");
    }
    // The checksum does not cover the base offset.
    if (next > from && base < next) return corrupt("it begins before the end of the one before it");
    if (last >= from) {
      if (checksums && crc32c(records.subarray(p + 21, end)) !== records.readUInt32BE(p + 17)) {
        return corrupt("checksum does not match");
      }
      const attributes = records.readInt16BE(p + 21);
      let skip = (attributes & CONTROL) !== 0;
      if (attributes & TRANSACTIONAL && aborted.length > 0) {
        while (
          nextAborted < aborted.length &&
          (aborted[nextAborted] as AbortedTransaction).firstOffset <= last
        ) {
          open.add((aborted[nextAborted++] as AbortedTransaction).producerId);
        }
        const producer = records.readBigInt64BE(p + 43);
        // Any end marker of this producer closes its aborted range.
        if (skip) open.delete(producer);
        else skip = open.has(producer);
      }
      const batchEpoch = records.readInt32BE(p + 12);
      if (!skip) {
        try {
          cursor.epoch = batchEpoch;
          cursor.batch = base;
          visitBatch(records, p, end, base, from, attributes, cursor, visit);
        } catch (error) {
          if (error instanceof Malformed || error instanceof RangeError)
            return corrupt(error.message);
          throw error;
        }
      }
      next = last + 1;
      epoch = batchEpoch;
    }
    p = end;
  }
  // Kafka's first batch is whole and reaches the wanted offset; if a damaged length or offset says
  // otherwise, the same fetch would be sent again without end.
  if (next === from && records.length > 0) {
    const reason = `no whole batch reaches offset ${from}`;
    return { kind: "corrupt", offset: from, reason, next, epoch };
  }
  return { kind: "end", next, epoch };
}

function visitBatch(
  records: Buffer,
  p: number,
  batchEnd: number,
  base: number,
  from: number,
  attributes: number,
  cursor: RecordCursor,
  visit: (cursor: RecordCursor) => void,
): void {
  const firstTime = records.readInt32BE(p + 27) * TWO_32 + records.readUInt32BE(p + 31);
  const maxTime = records.readInt32BE(p + 35) * TWO_32 + records.readUInt32BE(p + 39);
  const appendTime = (attributes & LOG_APPEND_TIME) !== 0;
  const last = base + records.readInt32BE(p + 23);
  const count = records.readInt32BE(p + 57);
  const codec = attributes & CODEC_MASK;
  let bytes = records;
  let end = batchEnd;
  let at = p + HEADER_BYTES;
  if (codec !== 0) {
    bytes = inflated(codec, records.subarray(at, batchEnd));
    at = 0;
    end = bytes.length;
  }
  cursor.buf = bytes;
  const read = new VarintReader(bytes, at);
  let previous = base - 1;
  for (let i = 0; i < count; i++) {
    const length = read.int();
    const recordEnd = read.at + length;
    if (length < 6 || recordEnd > end) throw new Malformed(`record ${i} overruns the batch`);
    read.at++;
    const timeDelta = read.long();
    const offset = base + read.int();
    if (offset <= previous || offset > last) throw new Malformed(`record ${i} is out of order`);
    previous = offset;
    if (offset >= from) {
      cursor.offset = offset;
      cursor.timeMs = appendTime ? maxTime : firstTime + timeDelta;
      cursor.keyLength = read.int();
      cursor.keyStart = read.at;
      if (cursor.keyLength > 0) read.at += cursor.keyLength;
      cursor.valueLength = read.int();
      cursor.valueStart = read.at;
      if (cursor.valueLength > 0) read.at += cursor.valueLength;
      if (read.at >= recordEnd) throw new Malformed(`record ${i} has a field that overruns it`);
      if (bytes[read.at] === 0 && read.at + 1 < recordEnd) {
        throw new Malformed(`record ${i} is longer than its fields`);
      }
      cursor.headersStart = read.at;
      cursor.end = recordEnd;
      visit(cursor);
    }
    read.at = recordEnd;
  }
  if (read.at !== end) throw new Malformed(`it does not end with record ${count - 1}`);
}

function inflated(codec: number, bytes: Buffer): Buffer {
  try {
    return decompress(codec, bytes);
  } catch (error) {
    throw new Malformed(`cannot be decompressed: ${(error as Error).message}`);
  }
}

/** Visits the headers of the record under the cursor, in order. A value length of -1 means null. */
export function forEachHeader(
  cursor: RecordCursor,
  visit: (keyStart: number, keyLength: number, valueStart: number, valueLength: number) => void,
): void {
  const read = new VarintReader(cursor.buf, cursor.headersStart);
  const count = read.int();
  if (count < 0) throw new Malformed("a record has fewer than no headers");
  for (let i = 0; i < count; i++) {
    const keyLength = read.int();
    const keyStart = read.at;
    read.at += Math.max(0, keyLength);
    const valueLength = read.int();
    const valueStart = read.at;
    read.at += Math.max(0, valueLength);
    if (keyLength < 0 || read.at > cursor.end) throw new Malformed("a header overruns its record");
    visit(keyStart, keyLength, valueStart, valueLength);
  }
  if (read.at !== cursor.end) throw new Malformed("a record is longer than its headers");
}

/** The position after the last whole batch, from headers alone, so that the next fetch can be sent. */
export function scanNext(records: Buffer, from: number): { next: number; epoch: number } {
  let next = from;
  let epoch = -1;
  for (let p = 0; p + HEADER_BYTES <= records.length; ) {
    const length = records.readInt32BE(p + 8);
    const end = p + 12 + length;
    if (end > records.length || length < HEADER_BYTES - 12) break;
    const last =
      records.readInt32BE(p) * TWO_32 + records.readUInt32BE(p + 4) + records.readInt32BE(p + 23);
    if (last >= from) {
      next = last + 1;
      epoch = records.readInt32BE(p + 12);
    }
    p = end;
  }
  return { next, epoch };
}
