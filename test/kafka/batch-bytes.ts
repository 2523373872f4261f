/**
 * Record batches byte by byte, by the format's own page and without the product's code: every field can be
 * set, so every field can be wrong. https://kafka.apache.org/documentation/#recordbatch
 */

export interface RecordBytes {
  readonly offsetDelta?: number;
  readonly timeDelta?: number;
  readonly key?: Buffer | null;
  readonly value?: Buffer | null;
  readonly headers?: readonly (readonly [Buffer, Buffer | null])[];
  /** What the record says it has, where that is not the truth. */
  readonly length?: number;
  readonly keyLength?: number;
  readonly valueLength?: number;
  readonly headerCount?: number;
  readonly after?: Buffer;
}

export interface BatchBytes {
  readonly base?: number | bigint;
  readonly epoch?: number;
  readonly codec?: number;
  readonly compress?: (bytes: Buffer) => Buffer;
  readonly appendTime?: boolean;
  readonly firstTime?: number;
  readonly maxTime?: number;
  readonly producer?: bigint;
  readonly transactional?: boolean;
  readonly control?: boolean;
  readonly magic?: number;
  readonly length?: number;
  readonly lastOffsetDelta?: number;
  readonly count?: number;
  /** Behind the records, inside the batch. */
  readonly after?: Buffer;
}

export function batchBytes(records: readonly RecordBytes[], batch: BatchBytes = {}): Buffer {
  const body = Buffer.concat([
    ...records.map((record, i) => recordBytes(record, i)),
    batch.after ?? Buffer.alloc(0),
  ]);
  const payload = batch.compress ? batch.compress(body) : body;
  const head = Buffer.alloc(61);
  head.writeBigInt64BE(BigInt(batch.base ?? 0), 0);
  head.writeInt32BE(batch.length ?? head.length + payload.length - 12, 8);
  head.writeInt32BE(batch.epoch ?? 0, 12);
  head.writeUInt8(batch.magic ?? 2, 16);
  const attributes =
    (batch.codec ?? 0) |
    (batch.appendTime ? 8 : 0) |
    (batch.transactional ? 16 : 0) |
    (batch.control ? 32 : 0);
  head.writeInt16BE(attributes, 21);
  head.writeInt32BE(batch.lastOffsetDelta ?? Math.max(0, records.length - 1), 23);
  head.writeBigInt64BE(BigInt(batch.firstTime ?? 0), 27);
  head.writeBigInt64BE(BigInt(batch.maxTime ?? 0), 35);
  head.writeBigInt64BE(batch.producer ?? -1n, 43);
  head.writeInt16BE(-1, 51);
  head.writeInt32BE(-1, 53);
  head.writeInt32BE(batch.count ?? records.length, 57);
  const bytes = Buffer.concat([head, payload]);
  bytes.writeUInt32BE(crc32c(bytes, 21, bytes.length), 17);
  return bytes;
}

/** The end of a transaction, in a control batch of its own. */
export function markerBytes(base: number, producer: bigint, kind: "commit" | "abort"): Buffer {
  const key = Buffer.from([0, 0, 0, kind === "commit" ? 1 : 0]);
  const record = { key, value: Buffer.alloc(6) };
  return batchBytes([record], { base, producer, transactional: true, control: true });
}

function recordBytes(record: RecordBytes, index: number): Buffer {
  const headers = record.headers ?? [];
  const body = Buffer.concat([
    Buffer.from([0]),
    varint(record.timeDelta ?? 0),
    varint(record.offsetDelta ?? index),
    field(record.key, record.keyLength),
    field(record.value, record.valueLength),
    varint(record.headerCount ?? headers.length),
    ...headers.flatMap(([key, value]) => [field(key), field(value)]),
    record.after ?? Buffer.alloc(0),
  ]);
  return Buffer.concat([varint(record.length ?? body.length), body]);
}

function field(bytes: Buffer | null | undefined, length?: number): Buffer {
  const said = varint(length ?? bytes?.length ?? -1);
  return bytes ? Buffer.concat([said, bytes]) : said;
}

/** Zig-zag. */
export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value) >= 0n ? BigInt(value) * 2n : -BigInt(value) * 2n - 1n;
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}

/** What one byte does to a CRC-32C (Castagnoli). */
const CRC_OF_BYTE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

function crc32c(bytes: Buffer, start: number, end: number): number {
  let crc = 0xffffffff;
  for (let i = start; i < end; i++) {
    crc = (crc >>> 8) ^ (CRC_OF_BYTE[(crc ^ (bytes[i] as number)) & 255] as number);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
