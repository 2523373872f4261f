/**
 * Record batches → segments: each record becomes one `events` field of a Batch, written by hand because
 * generated code reaches 170,000 small events a second and this several million. A test holds the bytes
 * equal to the generated encoder's.
 *
 * Fields are read where the records lie and written into one arena per server: encoding is synchronous,
 * so all share it.
 *
 * Headers that became fields do not appear twice: ce_type is Event.type; tl-sequence, tl-commit-id and
 * tl-commit-time are the fields of Commit topics.
 *
 * Kafka lets anyone write any bytes into a header; a frame must be readable whatever they are.
 */
import { isUtf8 } from "node:buffer";
import type { Fetched } from "../../kafka/log.ts";
import { forEachHeader, type RecordCursor, scan } from "../../kafka/scan.ts";
import {
  Bytes,
  longVarintLength,
  putBytes,
  putFixed64,
  putLongVarint,
  putUint64,
  putVarint,
  varintLength,
} from "./fields.ts";
import type { Segment } from "./segment.ts";
import { SegmentMemory } from "./segment-memory.ts";

const ARENA_BYTES = 2 << 20;
const LARGEST_KEPT_ARENA_BYTES = 16 << 20;
/** A segment ends with the batch that makes it this large, so that most fit into one frame of 256 KiB. */
const SEGMENT_BYTES = 200 << 10;
/** Tags, lengths and numbers of one event beside its key, value and headers. */
const EVENT_OVERHEAD = 96;
/** A segment has its offsets as 32-bit distances, and a batch may be half as long. */
const FARTHEST_BATCH = 0x7fffffff;
/** What an event has beside its record's bytes: tags, longer numbers, its time. */
const USUAL_GROWTH = 16;
const CE_TYPE = Buffer.from("ce_type");
const SEQUENCE = Buffer.from("tl-sequence");
const COMMIT_ID = Buffer.from("tl-commit-id");
const COMMIT_TIME = Buffer.from("tl-commit-time");

export type Encoded =
  | { readonly kind: "segments"; readonly segments: readonly Segment[]; readonly next: number }
  /** `segments` is what came before the damage: it is to be delivered (P2). */
  | {
      readonly kind: "corrupt";
      readonly segments: readonly Segment[];
      readonly offset: number;
      readonly reason: string;
    };

export class SegmentEncoder {
  readonly #memory: SegmentMemory;
  #arena = new Bytes(Buffer.allocUnsafeSlow(ARENA_BYTES));
  /** What is scanned. */
  #source = this.#arena;
  #out = 0;
  #starts = new Uint32Array(16384);
  #deltas = new Uint32Array(16384);
  #count = 0;
  #base = 0;
  #epoch = -1;
  #batch = -1;
  #segmentStart = 0;
  #from = 0;
  #lastOffset = 0;
  #segments: Segment[] = [];
  // Header walk results of the current record.
  #type = this.#arena;
  #typeStart = 0;
  #typeLength = 0;
  #sequence = 0n;
  #commitId = 0n;
  #commitTimeMs = 0n;

  constructor(memory = new SegmentMemory()) {
    this.#memory = memory;
  }

  /** Encodes what a fetch brought from `from` on. */
  encode({ records, aborted }: Pick<Fetched, "records" | "aborted">, from: number): Encoded {
    this.#out = 0;
    this.#segmentStart = 0;
    this.#count = 0;
    this.#from = from;
    this.#segments = [];
    this.#epoch = -1;
    this.#batch = -1;
    const end = scan(records, { from, aborted }, this.#visit);
    if (end.kind === "corrupt") this.#forgetFrom(end.next);
    if (this.#count > 0 && end.epoch !== this.#epoch) this.#closeHere();
    if (end.next > this.#from) this.#close(end.next, end.epoch);
    const segments = this.#segments;
    this.#segments = [];
    // A backlog of huge events must not leave a huge arena behind (P6).
    if (this.#arena.buffer.length > LARGEST_KEPT_ARENA_BYTES) {
      this.#arena = new Bytes(Buffer.allocUnsafeSlow(ARENA_BYTES));
    }
    // What was read is not ours to keep.
    this.#source = this.#arena;
    this.#type = this.#arena;
    return end.kind === "corrupt"
      ? { kind: "corrupt", segments, offset: end.offset, reason: end.reason }
      : { kind: "segments", segments, next: end.next };
  }

  /** Drops the events of a batch that began well and is damaged further on. */
  #forgetFrom(offset: number): void {
    const before = offset - this.#base;
    while (this.#count > 0 && (this.#deltas[this.#count - 1] as number) >= before) {
      this.#count--;
      this.#out = this.#segmentStart + (this.#starts[this.#count] as number);
    }
  }

  readonly #visit = (record: RecordCursor): void => {
    if (record.batch !== this.#batch) this.#nextBatch(record);
    if (this.#count === 0) this.#base = record.offset;
    this.#lastOffset = record.offset;
    this.#grow(record);
    const index = this.#count++;
    this.#starts[index] = this.#out - this.#segmentStart;
    this.#deltas[index] = record.offset - this.#base;
    if (record.buf[record.headersStart] === 0) this.#plain(record);
    else this.#withHeaders(record);
  };

  /** A segment ends between batches only: a damaged one is dropped whole (#forgetFrom). */
  #nextBatch({ batch, offset, epoch, buf }: RecordCursor): void {
    const full = this.#out - this.#segmentStart >= SEGMENT_BYTES;
    const far = offset - this.#base > FARTHEST_BATCH;
    if (this.#count > 0 && (full || far || epoch !== this.#epoch)) this.#closeHere();
    this.#epoch = epoch;
    this.#batch = batch;
    if (buf !== this.#source.buffer) this.#source = new Bytes(buf);
  }

  /** An event without headers: its length is known before it is written. */
  #plain(record: RecordCursor): void {
    const { keyLength, valueLength, offset } = record;
    const { view } = this.#arena;
    let length = offset === 0 ? 0 : 1 + longVarintLength(offset);
    if (record.timeMs !== 0) length += 9;
    if (keyLength >= 0) length += 1 + varintLength(keyLength) + keyLength;
    if (valueLength >= 0) length += 1 + varintLength(valueLength) + valueLength;
    view.setUint8(this.#out, 0x0a);
    this.#out = this.#fields(record, putVarint(view, this.#out + 1, length));
  }

  /** An event with headers: written behind room for its length, and moved where that took another. */
  #withHeaders(record: RecordCursor): void {
    const { buffer, view } = this.#arena;
    const start = this.#out + 1;
    const body = start + varintLength(record.end - record.keyStart + USUAL_GROWTH);
    view.setUint8(this.#out, 0x0a);
    this.#typeLength = 0;
    this.#sequence = 0n;
    this.#commitId = 0n;
    this.#commitTimeMs = 0n;
    this.#out = this.#fields(record, body);
    forEachHeader(record, this.#header);
    if (this.#typeLength > 0) this.#bytes(0x32, this.#type, this.#typeStart, this.#typeLength);
    this.#uint64(0x38, this.#sequence);
    this.#uint64(0x40, this.#commitId);
    if (this.#commitTimeMs !== 0n) {
      view.setUint8(this.#out, 0x49);
      view.setBigInt64(this.#out + 1, this.#commitTimeMs, true);
      this.#out += 9;
    }
    const length = this.#out - body;
    const at = start + varintLength(length);
    if (at !== body) buffer.copyWithin(at, body, this.#out);
    putVarint(view, start, length);
    this.#out = at + length;
  }

  /** Key, payload, offset and time, in the order of their field numbers. @returns where they end. */
  #fields(record: RecordCursor, start: number): number {
    const arena = this.#arena;
    const { view } = arena;
    const { keyLength, valueLength, offset, timeMs } = record;
    let at = start;
    if (keyLength >= 0) {
      view.setUint8(at, 0x0a);
      at = putVarint(view, at + 1, keyLength);
      at = putBytes(arena, at, this.#source, record.keyStart, keyLength);
    }
    if (valueLength >= 0) {
      view.setUint8(at, 0x12);
      at = putVarint(view, at + 1, valueLength);
      at = putBytes(arena, at, this.#source, record.valueStart, valueLength);
    }
    if (offset !== 0) {
      view.setUint8(at, 0x18);
      at = putLongVarint(view, at + 1, offset);
    }
    if (timeMs !== 0) {
      view.setUint8(at, 0x21);
      at = putFixed64(view, at + 1, timeMs);
    }
    return at;
  }

  /** A field of bytes. */
  #bytes(tag: number, source: Bytes, start: number, length: number): void {
    const arena = this.#arena;
    arena.view.setUint8(this.#out, tag);
    const at = putVarint(arena.view, this.#out + 1, length);
    this.#out = putBytes(arena, at, source, start, length);
  }

  #uint64(tag: number, value: bigint): void {
    if (value === 0n) return;
    const { view } = this.#arena;
    view.setUint8(this.#out, tag);
    this.#out = putUint64(view, this.#out + 1, value);
  }

  readonly #header = (
    keyStart: number,
    keyLength: number,
    valueStart: number,
    valueLength: number,
  ): void => {
    const source = this.#source;
    if (isText(source, keyStart, keyLength, CE_TYPE)) {
      const mended = mendedText(source, valueStart, valueLength);
      this.#type = mended ?? source;
      this.#typeStart = mended ? 0 : valueStart;
      this.#typeLength = mended?.buffer.length ?? Math.max(0, valueLength);
      return;
    }
    const { view } = source;
    const isNumber = valueLength === 8;
    if (isNumber && isText(source, keyStart, keyLength, SEQUENCE))
      this.#sequence = view.getBigInt64(valueStart);
    else if (isNumber && isText(source, keyStart, keyLength, COMMIT_ID))
      this.#commitId = view.getBigInt64(valueStart);
    else if (isNumber && isText(source, keyStart, keyLength, COMMIT_TIME))
      this.#commitTimeMs = view.getBigInt64(valueStart);
    else this.#other(keyStart, keyLength, valueStart, valueLength);
  };

  /** A header that remains one. */
  #other(keyStart: number, keyLength: number, valueStart: number, valueLength: number): void {
    const source = this.#source;
    const mended = mendedText(source, keyStart, keyLength);
    const nameLength = mended?.buffer.length ?? keyLength;
    const value = Math.max(0, valueLength);
    let length = 0;
    if (nameLength > 0) length += 1 + varintLength(nameLength) + nameLength;
    if (value > 0) length += 1 + varintLength(value) + value;
    const { view } = this.#arena;
    view.setUint8(this.#out, 0x2a);
    this.#out = putVarint(view, this.#out + 1, length);
    if (nameLength > 0) this.#bytes(0x0a, mended ?? source, mended ? 0 : keyStart, nameLength);
    if (value > 0) this.#bytes(0x12, source, valueStart, value);
  }

  /** Right after the last event. */
  #closeHere(): void {
    this.#close(this.#lastOffset + 1, this.#epoch);
  }

  #close(next: number, epoch: number): void {
    const lease = this.#memory.take(this.#out - this.#segmentStart);
    const bytes = lease.memory.subarray(0, this.#out - this.#segmentStart);
    this.#arena.buffer.copy(bytes, 0, this.#segmentStart, this.#out);
    this.#starts[this.#count] = bytes.length;
    this.#segments.push({
      from: this.#from,
      next,
      epoch,
      ...{ bytes, lease },
      count: this.#count,
      starts: this.#starts.slice(0, this.#count + 1),
      deltas: this.#deltas.slice(0, this.#count),
      base: this.#count > 0 ? this.#base : this.#from,
    });
    this.#from = next;
    this.#segmentStart = this.#out;
    this.#count = 0;
  }

  /** Room for one more event; headers may grow to three times their size in Kafka. */
  #grow({ keyStart, headersStart, end }: RecordCursor): void {
    this.#reserve(this.#out + headersStart - keyStart + (end - headersStart) * 6 + EVENT_OVERHEAD);
    if (this.#count + 1 >= this.#starts.length) {
      this.#starts = doubled(this.#starts);
      this.#deltas = doubled(this.#deltas);
    }
  }

  #reserve(length: number): void {
    const { buffer } = this.#arena;
    if (buffer.length >= length) return;
    const grown = Buffer.allocUnsafeSlow(length * 2);
    buffer.copy(grown, 0, 0, this.#out);
    this.#arena = new Bytes(grown);
  }
}

/** @param text in ASCII. */
function isText({ view }: Bytes, start: number, length: number, text: Buffer): boolean {
  if (length !== text.length) return false;
  for (let i = 0; i < length; i++) if (view.getUint8(start + i) !== text[i]) return false;
  return true;
}

/**
 * A string field of bytes that are no UTF-8 would make strict clients (Go, Java, Python) refuse the whole
 * frame, so what is wrong becomes U+FFFD. @returns undefined when nothing is wrong.
 */
function mendedText({ buffer, view }: Bytes, start: number, length: number): Bytes | undefined {
  let bits = 0;
  for (let i = start; i < start + length; i++) bits |= view.getUint8(i);
  if (bits < 128) return undefined;
  const text = buffer.subarray(start, start + length);
  return isUtf8(text) ? undefined : new Bytes(Buffer.from(text.toString("utf8")));
}

function doubled(old: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const grown = new Uint32Array(old.length * 2);
  grown.set(old);
  return grown;
}
