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
  for (const [name, value] of record.headers) bytes += 10 + name.length * 3 + value.length;
  return bytes;
}

/** One uncompressed batch of these records. */
export function encodeBatch(records: readonly NewRecord[], identity: BatchIdentity): Buffer {
  let room = HEADER_BYTES;
  for (const record of records) room += recordBytes(record);
  const out = Buffer.allocUnsafe(room);
  const firstTime = records[0]?.timeMs ?? 0;
  let maxTime = firstTime;
  let at = HEADER_BYTES;
  for (const [i, record] of records.entries()) {
    maxTime = Math.max(maxTime, record.timeMs);
    at = putRecord(out, at, record, record.timeMs - firstTime, i);
  }
  out.writeBigInt64BE(BigInt(identity.baseOffset ?? 0), 0);
  out.writeInt32BE(at - 12, 8);
  out.writeInt32BE(identity.leaderEpoch ?? -1, 12);
  out[16] = 2;
  out.writeInt16BE((identity.transactional ? 16 : 0) | (identity.control ? 32 : 0), 21);
  out.writeInt32BE(records.length - 1, 23);
  out.writeBigInt64BE(BigInt(firstTime), 27);
  out.writeBigInt64BE(BigInt(maxTime), 35);
  out.writeBigInt64BE(identity.producerId, 43);
  out.writeInt16BE(identity.producerEpoch, 51);
  out.writeInt32BE(identity.baseSequence, 53);
  out.writeInt32BE(records.length, 57);
  const batch = out.subarray(0, at);
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17);
  return batch;
}

function putRecord(
  out: Buffer,
  start: number,
  record: NewRecord,
  timeDelta: number,
  offsetDelta: number,
): number {
  // The length comes first and is at most five bytes: written after the body, then closed up.
  const body = start + 5;
  let at = body;
  out[at++] = 0;
  at = putLong(out, at, timeDelta);
  at = putLong(out, at, offsetDelta);
  at = putBytes(out, at, record.key);
  at = putBytes(out, at, record.value);
  at = putLong(out, at, record.headers.length);
  for (const [name, value] of record.headers) {
    at = putBytes(out, at, Buffer.from(name));
    at = putBytes(out, at, value);
  }
  const length = at - body;
  const from = putLong(out, start, length);
  out.copyWithin(from, body, at);
  return from + length;
}

function putBytes(out: Buffer, at: number, bytes: Buffer | null): number {
  if (bytes === null) return putLong(out, at, -1);
  const from = putLong(out, at, bytes.length);
  return from + bytes.copy(out, from);
}

/** Zig-zag varint of a whole number below 2^52. */
function putLong(out: Buffer, at: number, value: number): number {
  let rest = value < 0 ? -2 * value - 1 : 2 * value;
  let to = at;
  while (rest >= 128) {
    out[to++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  out[to++] = rest;
  return to;
}
