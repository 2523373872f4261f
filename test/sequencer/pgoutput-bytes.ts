/** Bytes as PostgreSQL sends them: messages of pgoutput, and frames around them. */

export interface Column {
  readonly name: string;
  readonly type: number;
}

export const OUTBOX_COLUMNS: readonly Column[] = [
  { name: "id", type: 20 },
  { name: "topic", type: 25 },
  { name: "type", type: 25 },
  { name: "key", type: 25 },
  { name: "payload", type: 17 },
  { name: "headers", type: 3802 },
];

export function begin(commitId: bigint, timeUs = 0n): Buffer {
  const bytes = Buffer.alloc(21);
  bytes.write("B");
  bytes.writeBigUInt64BE(commitId, 1);
  bytes.writeBigInt64BE(timeUs, 9);
  return bytes;
}

export function commit(commitId: bigint, endLsn: bigint): Buffer {
  const bytes = Buffer.alloc(26);
  bytes.write("C");
  bytes.writeBigUInt64BE(commitId, 2);
  bytes.writeBigUInt64BE(endLsn, 10);
  return bytes;
}

export function relation(
  columns: readonly Column[] = OUTBOX_COLUMNS,
  [schema, table] = ["throughline", "outbox"],
): Buffer {
  const head = Buffer.alloc(5);
  head.write("R");
  head.writeInt32BE(7, 1);
  const parts = [head, Buffer.from(`${schema}\0${table}\0d`), int16(columns.length)];
  for (const { name, type } of columns)
    parts.push(Buffer.from(`\0${name}\0`), int32(type), int32(-1));
  return Buffer.concat(parts);
}

export function insert(values: readonly (Buffer | null)[]): Buffer {
  const parts = [Buffer.from("I"), int32(7), Buffer.from("N"), int16(values.length)];
  for (const value of values) {
    if (value === null) parts.push(Buffer.from("n"));
    else parts.push(Buffer.from("b"), int32(value.length), value);
  }
  return Buffer.concat(parts);
}

/** A row of the outbox. */
export function event(id: bigint, topic: string, payload: string | null = null): Buffer {
  const key = int64(id);
  return insert([
    ...[key, Buffer.from(topic), Buffer.from("made"), null],
    ...[payload === null ? null : Buffer.from(payload), null],
  ]);
}

export function frame(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

export function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}
