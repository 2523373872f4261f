/**
 * Writes record batches (message format v2): what the appender sends and the in-memory log stores.
 * Format: https://kafka.apache.org/documentation/#recordbatch
 */
import { crc32c } from "@node-rs/crc32";
import type { NewRecord } from "./log.ts";

const HEADER_BYTES = 61;

export interface BatchIdentity {
  readonly baseOffset?: number;
  readonly leaderEpoch?: number;
  readonly producerId: bigint;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  readonly transactional?: boolean;
  readonly control?: boolean;
}

export const NO_PRODUCER: BatchIdentity = {
  producerId: -1n,
  producerEpoch: -1,
  baseSequence: -1,
};

/** Upper bound of a record's bytes in a batch. */
export function recordBytes(record: NewRecord): number {
  let bytes = 40 + (record.key?.length ?? 0) + (record.value?.length ?? 0);
  for (const [name, value] of record.headers)
    bytes += 10 + name.length * 3 + (typeof value === "bigint" ? 8 : value.length);
  return bytes;
}

/** One uncompressed batch of these records. */
export function encodeBatch(records: readonly NewRecord[], identity: BatchIdentity): Buffer {
  let room = HEADER_BYTES;
  for (const record of records) room += recordBytes(record);
  const encoder = new BatchEncoder(room);
  for (const record of records) encoder.add(record);
  return encoder.finish(identity);
}

/** Makes one uncompressed batch, record by record. */
export class BatchEncoder {
  #out: Buffer;
  #view: DataView;
  #at = HEADER_BYTES;
  #firstMs = 0;
  #maxMs = 0;
  count = 0;

  /** @param room for so many bytes; it grows where they are more. */
  constructor(room: number) {
    this.#out = Buffer.allocUnsafe(Math.max(room, HEADER_BYTES));
    this.#view = viewOf(this.#out);
  }

  add(record: NewRecord): void {
    const { key, value, headers, timeMs } = record;
    const most = recordBytes(record);
    if (this.#at + most > this.#out.length) this.#grow(most);
    if (this.count === 0) this.#firstMs = this.#maxMs = timeMs;
    else if (timeMs > this.#maxMs) this.#maxMs = timeMs;
    const out = this.#out;
    // The length comes first: room for that of the most that it can be, closed up where it took less.
    const start = this.#at;
    const body = start + longBytes(most);
    let at = body;
    out[at++] = 0;
    at = putLong(out, at, timeMs - this.#firstMs);
    at = putLong(out, at, this.count++);
    at = putBytes(out, at, key);
    at = putBytes(out, at, value);
    at = putLong(out, at, headers.length);
    for (let i = 0; i < headers.length; i++) {
      const [name, of] = headers[i] as NewRecord["headers"][number];
      at = putText(out, at, name);
      if (typeof of === "bigint") {
        out[at++] = 16;
        this.#view.setBigInt64(at, of);
        at += 8;
      } else at = putBytes(out, at, of);
    }
    const length = at - body;
    const from = putLong(out, start, length);
    if (from < body) out.copyWithin(from, body, at);
    this.#at = from + length;
  }

  /** At least one record was added. */
  finish(identity: BatchIdentity): Buffer {
    const out = this.#out;
    out.writeBigInt64BE(BigInt(identity.baseOffset ?? 0), 0);
    out.writeInt32BE(this.#at - 12, 8);
    out.writeInt32BE(identity.leaderEpoch ?? -1, 12);
    out[16] = 2;
    out.writeInt16BE((identity.transactional ? 16 : 0) | (identity.control ? 32 : 0), 21);
    out.writeInt32BE(this.count - 1, 23);
    out.writeBigInt64BE(BigInt(this.#firstMs), 27);
    out.writeBigInt64BE(BigInt(this.#maxMs), 35);
    out.writeBigInt64BE(identity.producerId, 43);
    out.writeInt16BE(identity.producerEpoch, 51);
    out.writeInt32BE(identity.baseSequence, 53);
    out.writeInt32BE(this.count, 57);
    const batch = out.subarray(0, this.#at);
    batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
    return batch;
  }

  #grow(more: number): void {
    const larger = Buffer.allocUnsafe(Math.max(this.#at + more, 2 * this.#out.length));
    this.#out.copy(larger, 0, 0, this.#at);
    this.#out = larger;
    this.#view = viewOf(larger);
  }
}

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length);
}

function putBytes(out: Buffer, at: number, bytes: Buffer | null): number {
  if (bytes === null) return putLong(out, at, -1);
  const { length } = bytes;
  const from = putLong(out, at, length);
  // A call costs more than to move so few.
  if (length < 32) for (let i = 0; i < length; i++) out[from + i] = bytes[i] as number;
  else out.set(bytes, from);
  return from + length;
}

/** Names are short, and nearly always ASCII. */
function putText(out: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length >= 64) return putBytes(out, at, Buffer.from(text));
  out[at] = 2 * length;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 128) return putBytes(out, at, Buffer.from(text));
    out[at + 1 + i] = code;
  }
  return at + 1 + length;
}

/** Zig-zag varint of a whole number below 2^52. */
function putLong(out: Buffer, at: number, value: number): number {
  let rest = value < 0 ? -2 * value - 1 : 2 * value;
  let to = at;
  for (; rest >= 2 ** 31; rest = Math.floor(rest / 128)) out[to++] = (rest % 128) | 128;
  for (; rest >= 128; rest >>>= 7) out[to++] = (rest & 127) | 128;
  out[to++] = rest;
  return to;
}

/** How many bytes that takes of a length. */
function longBytes(length: number): number {
  let bytes = 1;
  for (let rest = 2 * length; rest >= 128; rest >>>= 7) bytes++;
  return bytes;
}
