/**
 * Record batches → segments: each record becomes one `events` field of a Batch, written by hand because
 * generated code reaches 170,000 small events a second and this about two million. A test holds the
 * bytes equal to the generated encoder's.
 *
 * One arena per server holds the source and, behind it, the output: within one buffer `copyWithin` moves
 * a small field in half the time of a copy between two. Encoding is synchronous, so all share it.
 *
 * Headers that became fields do not appear twice: ce_type is Event.type; tl-sequence, tl-commit-id and
 * tl-commit-time are the fields of Commit topics.
 *
 * Kafka lets anyone write any bytes into a header; a frame must be readable whatever they are.
 */
import { isUtf8 } from "node:buffer";
import type { Fetched } from "../../kafka/log.ts";
import { forEachHeader, type RecordCursor, scan } from "../../kafka/scan.ts";
import type { Segment } from "./segment.ts";
import { SegmentMemory } from "./segment-memory.ts";

const TWO_32 = 4294967296;
/** A segment ends with the batch that makes it this large, so that most fit into one frame of 256 KiB. */
const SEGMENT_BYTES = 200 << 10;
/** Tags, lengths and numbers of one event beside its key, value and headers. */
const EVENT_OVERHEAD = 96;
const MAX_DELTA = 0xffffffff;

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
  #arena: Buffer;
  #view: DataView;
  /** What is scanned, while it lies at the beginning of the arena. */
  #source: Buffer | undefined;
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
  #typeStart = 0;
  #typeLength = 0;
  #typeSource: Buffer;
  #headerSource: Buffer;
  #sequence = 0n;
  #commitId = 0n;
  #commitTimeMs = 0n;

  constructor(memory = new SegmentMemory()) {
    this.#memory = memory;
    this.#arena = Buffer.allocUnsafeSlow(3 << 20);
    this.#view = new DataView(this.#arena.buffer, this.#arena.byteOffset);
    this.#typeSource = this.#arena;
    this.#headerSource = this.#arena;
  }

  /** Encodes what a fetch brought from `from` on. */
  encode(fetched: Fetched, from: number): Encoded {
    const { records } = fetched;
    this.#reserve(records.length * 2);
    records.copy(this.#arena, 0);
    const source = this.#arena.subarray(0, records.length);
    this.#source = source;
    this.#out = records.length;
    this.#segmentStart = this.#out;
    this.#count = 0;
    this.#from = from;
    this.#segments = [];
    this.#epoch = -1;
    this.#batch = -1;
    const end = scan(source, { from, aborted: fetched.aborted }, this.#visit);
    if (end.kind === "corrupt") this.#forgetFrom(end.next);
    if (this.#count > 0 && end.epoch !== this.#epoch) this.#closeHere();
    if (end.next > this.#from) this.#close(end.next, end.epoch);
    const segments = this.#segments;
    this.#segments = [];
    // A backlog of huge events must not leave a huge arena behind (P6).
    if (this.#arena.length > 16 << 20) this.#arena = Buffer.allocUnsafeSlow(3 << 20);
    this.#view = new DataView(this.#arena.buffer, this.#arena.byteOffset);
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
    if (record.batch !== this.#batch) {
      // Only between batches: a damaged one is dropped whole (#forgetFrom).
      const full = this.#out - this.#segmentStart >= SEGMENT_BYTES;
      if (this.#count > 0 && (full || record.epoch !== this.#epoch)) this.#closeHere();
      this.#epoch = record.epoch;
      this.#batch = record.batch;
    }
    if (this.#count > 0 && record.offset - this.#base > MAX_DELTA) this.#closeHere();
    if (this.#count === 0) this.#base = record.offset;
    this.#lastOffset = record.offset;
    this.#grow(record);
    const index = this.#count++;
    this.#starts[index] = this.#out - this.#segmentStart;
    this.#deltas[index] = record.offset - this.#base;
    if (record.buf[record.headersStart] === 0) this.#plain(record);
    else this.#withHeaders(record);
  };

  /** An event without headers: its length is known before it is written. */
  #plain(record: RecordCursor): void {
    const { keyLength, valueLength, offset } = record;
    let length = offset === 0 ? 0 : 1 + bigVarintLength(offset);
    if (record.timeMs !== 0) length += 9;
    if (keyLength >= 0) length += 1 + varintLength(keyLength) + keyLength;
    if (valueLength >= 0) length += 1 + varintLength(valueLength) + valueLength;
    this.#arena[this.#out] = 0x0a;
    this.#out = this.#fields(record, putVarint(this.#arena, this.#out + 1, length));
  }

  /** An event with headers: written six bytes on, then moved down behind its length. */
  #withHeaders(record: RecordCursor): void {
    const start = this.#out;
    const body = start + 6;
    this.#typeLength = 0;
    this.#sequence = 0n;
    this.#commitId = 0n;
    this.#commitTimeMs = 0n;
    this.#out = this.#fields(record, body);
    this.#headerSource = record.buf;
    forEachHeader(record, this.#header);
    if (this.#typeLength > 0)
      this.#bytes(0x32, this.#typeSource, this.#typeStart, this.#typeLength);
    this.#commitFields();
    const length = this.#out - body;
    this.#arena[start] = 0x0a;
    const at = putVarint(this.#arena, start + 1, length);
    this.#arena.copyWithin(at, body, body + length);
    this.#out = at + length;
  }

  /** Key, payload, offset and time, in the order of their field numbers. @returns where they end. */
  #fields(record: RecordCursor, start: number): number {
    const a = this.#arena;
    const { buf, keyLength, valueLength, offset, timeMs } = record;
    let at = start;
    if (keyLength >= 0) {
      a[at] = 0x0a;
      at = this.#put(putVarint(a, at + 1, keyLength), buf, record.keyStart, keyLength);
    }
    if (valueLength >= 0) {
      a[at] = 0x12;
      at = this.#put(putVarint(a, at + 1, valueLength), buf, record.valueStart, valueLength);
    }
    if (offset !== 0) {
      a[at] = 0x18;
      at = putBigVarint(a, at + 1, offset);
    }
    if (timeMs !== 0) {
      a[at] = 0x21;
      const high = Math.floor(timeMs / TWO_32);
      this.#view.setUint32(at + 1, timeMs - high * TWO_32, true);
      this.#view.setInt32(at + 5, high, true);
      at += 9;
    }
    return at;
  }

  /** Copies to `at`. @returns where that ends. */
  #put(at: number, source: Buffer, start: number, length: number): number {
    const a = this.#arena;
    if (source !== this.#source) source.copy(a, at, start, start + length);
    else if (length > 24) a.copyWithin(at, start, start + length);
    else for (let i = 0; i < length; i++) a[at + i] = a[start + i] as number;
    return at + length;
  }

  /** A field of bytes. */
  #bytes(tag: number, source: Buffer, start: number, length: number): void {
    const a = this.#arena;
    a[this.#out] = tag;
    this.#out = this.#put(putVarint(a, this.#out + 1, length), source, start, length);
  }

  readonly #header = (
    keyStart: number,
    keyLength: number,
    valueStart: number,
    valueLength: number,
  ): void => {
    const source = this.#headerSource;
    if (keyLength === 7 && source.toString("latin1", keyStart, keyStart + 7) === "ce_type") {
      const mended = mendedText(source, valueStart, valueLength);
      this.#typeSource = mended ?? source;
      this.#typeStart = mended ? 0 : valueStart;
      this.#typeLength = mended?.length ?? Math.max(0, valueLength);
      return;
    }
    if (valueLength === 8 && source[keyStart] === 0x74 && source[keyStart + 2] === 0x2d) {
      const name = source.toString("latin1", keyStart, keyStart + keyLength);
      const number = (): bigint => source.readBigInt64BE(valueStart);
      if (name === "tl-sequence") this.#sequence = number();
      else if (name === "tl-commit-id") this.#commitId = number();
      else if (name === "tl-commit-time") this.#commitTimeMs = number();
      if (name === "tl-sequence" || name === "tl-commit-id" || name === "tl-commit-time") return;
    }
    const mended = mendedText(source, keyStart, keyLength);
    const nameLength = mended?.length ?? keyLength;
    const value = Math.max(0, valueLength);
    let length = 0;
    if (nameLength > 0) length += 1 + varintLength(nameLength) + nameLength;
    if (value > 0) length += 1 + varintLength(value) + value;
    this.#arena[this.#out] = 0x2a;
    this.#out = putVarint(this.#arena, this.#out + 1, length);
    if (nameLength > 0) {
      this.#bytes(0x0a, mended ?? source, mended ? 0 : keyStart, nameLength);
    }
    if (value > 0) this.#bytes(0x12, source, valueStart, value);
  };

  #commitFields(): void {
    this.#uint64(0x38, this.#sequence);
    this.#uint64(0x40, this.#commitId);
    if (this.#commitTimeMs !== 0n) {
      this.#arena[this.#out++] = 0x49;
      this.#view.setBigInt64(this.#out, this.#commitTimeMs, true);
      this.#out += 8;
    }
  }

  /** Eight bytes of a header, which anyone may have written: every value must remain a field. */
  #uint64(tag: number, value: bigint): void {
    if (value === 0n) return;
    this.#arena[this.#out++] = tag;
    if (value > 0n && value <= Number.MAX_SAFE_INTEGER) {
      this.#out = putBigVarint(this.#arena, this.#out, Number(value));
      return;
    }
    let rest = BigInt.asUintN(64, value);
    for (; rest >= 128n; rest >>= 7n) this.#arena[this.#out++] = Number(rest & 127n) | 128;
    this.#arena[this.#out++] = Number(rest);
  }

  /** Right after the last event. */
  #closeHere(): void {
    this.#close(this.#lastOffset + 1, this.#epoch);
  }

  #close(next: number, epoch: number): void {
    const lease = this.#memory.take(this.#out - this.#segmentStart);
    const bytes = lease.memory.subarray(0, this.#out - this.#segmentStart);
    this.#arena.copy(bytes, 0, this.#segmentStart, this.#out);
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
  #grow(record: RecordCursor): void {
    const size = (record.end - record.headersStart) * 6;
    this.#reserve(
      this.#out +
        size +
        Math.max(0, record.keyLength) +
        Math.max(0, record.valueLength) +
        EVENT_OVERHEAD,
    );
    if (this.#count + 1 >= this.#starts.length) {
      this.#starts = doubled(this.#starts);
      this.#deltas = doubled(this.#deltas);
    }
  }

  #reserve(length: number): void {
    if (this.#arena.length >= length) return;
    const grown = Buffer.allocUnsafeSlow(length * 2);
    this.#arena.copy(grown, 0, 0, this.#out);
    this.#arena = grown;
    this.#source = undefined;
    this.#view = new DataView(grown.buffer, grown.byteOffset);
  }
}

/**
 * A string field of bytes that are no UTF-8 would make strict clients (Go, Java, Python) refuse the whole
 * frame, so what is wrong becomes U+FFFD. @returns undefined when nothing is wrong.
 */
function mendedText(source: Buffer, start: number, length: number): Buffer | undefined {
  let bits = 0;
  for (let i = start; i < start + length; i++) bits |= source[i] as number;
  if (bits < 128) return undefined;
  const text = source.subarray(start, start + length);
  return isUtf8(text) ? undefined : Buffer.from(text.toString("utf8"));
}

function doubled(old: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const grown = new Uint32Array(old.length * 2);
  grown.set(old);
  return grown;
}

// Each writes at `at` and returns where it ended.

function putVarint(a: Buffer, at: number, value: number): number {
  let rest = value;
  let out = at;
  for (; rest >= 128; rest >>>= 7) a[out++] = (rest & 127) | 128;
  a[out] = rest;
  return out + 1;
}

/** Up to 53 bits. */
function putBigVarint(a: Buffer, at: number, value: number): number {
  let rest = value;
  let out = at;
  for (; rest >= 0x80000000; rest = Math.floor(rest / 128)) a[out++] = (rest % 128) | 128;
  return putVarint(a, out, rest);
}

function varintLength(value: number): number {
  if (value < 128) return 1;
  if (value < 16384) return 2;
  if (value < 2097152) return 3;
  return value < 268435456 ? 4 : 5;
}

function bigVarintLength(value: number): number {
  let length = 0;
  let rest = value;
  for (; rest >= 0x80000000; rest = Math.floor(rest / 128)) length++;
  return length + varintLength(rest);
}
