/** What the scanner gives for batches, as values that a test can compare; and the codecs to make them. */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { compressionsAlgorithms } from "@platformatic/kafka";
import type { AbortedTransaction } from "../../kafka/log.ts";
import { forEachHeader, type RecordCursor, type ScanEnd, scan } from "../../kafka/scan.ts";
import type { RecordBytes } from "./batch-bytes.ts";

export type Codec = readonly [name: string, codec: number, compress: (bytes: Buffer) => Buffer];

/** Every compression that a producer may choose, by other implementations than ours. */
export const CODECS: readonly Codec[] = [
  ["gzip", 1, gzipSync],
  ["snappy", 2, (bytes) => compressionsAlgorithms.snappy.compressSync(bytes)],
  ["snappy in snappy-java's chunks", 2, xerial],
  ["lz4", 3, (bytes) => compressionsAlgorithms.lz4.compressSync(bytes)],
  ["zstd", 4, zstdCompressSync],
];

function xerial(bytes: Buffer): Buffer {
  const chunk = compressionsAlgorithms.snappy.compressSync(bytes);
  const head = Buffer.from("82534e415050590000000001000000010000000000", "hex").subarray(0, 20);
  head.writeUInt32BE(chunk.length, 16);
  return Buffer.concat([head, chunk]);
}

export interface Seen {
  readonly offset: number;
  readonly epoch: number;
  readonly timeMs: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly headers: readonly (readonly [string, string | null])[];
}

function seen(cursor: RecordCursor): Seen {
  const text = (start: number, length: number): string | null =>
    length < 0 ? null : cursor.buf.toString("latin1", start, start + length);
  const headers: [string, string | null][] = [];
  forEachHeader(cursor, (keyStart, keyLength, valueStart, valueLength) => {
    headers.push([text(keyStart, keyLength) as string, text(valueStart, valueLength)]);
  });
  const { offset, epoch, timeMs } = cursor;
  const key = text(cursor.keyStart, cursor.keyLength);
  const value = text(cursor.valueStart, cursor.valueLength);
  return { offset, epoch, timeMs, key, value, headers };
}

/** Reads to the end, or to the damage, with checksums. */
export function read(
  records: Buffer,
  from = 0,
  aborted: readonly AbortedTransaction[] = [],
): { seen: Seen[]; end: ScanEnd } {
  const all: Seen[] = [];
  const end = scan(records, { from, aborted }, (cursor) => all.push(seen(cursor)));
  return { seen: all, end };
}

export function values(...all: string[]): RecordBytes[] {
  return all.map((value) => ({ value: Buffer.from(value) }));
}

/** `<offset>:<value>` of each record. */
export function listed(of: { readonly seen: readonly Seen[] }): string[] {
  return of.seen.map(({ offset, value }) => `${offset}:${value}`);
}

export function reasonOf(end: ScanEnd): string {
  return end.kind === "corrupt" ? end.reason : `ended at ${end.next}`;
}
