/** Fetch v17 with records left as bytes. Protocol: https://kafka.apache.org/protocol#The_Messages_Fetch */
import { createAPI, fetchV17, type Reader } from "@platformatic/kafka";
import type { AbortedTransaction } from "./log.ts";

export interface RawFetched {
  /** Of the whole response. */
  readonly error: number;
  readonly partition: RawPartition | undefined;
}

export interface RawPartition {
  readonly error: number;
  readonly highWatermark: number;
  readonly lastStable: number;
  readonly logStart: number;
  readonly aborted: AbortedTransaction[];
  records: Buffer;
  /** The log ends at `endOffset` for `epoch`: what lies after it was cut (KIP-320). */
  diverging: { epoch: number; endOffset: number } | undefined;
}

const NO_RECORDS = Buffer.alloc(0);

function parse(_correlationId: number, _key: number, _version: number, reader: Reader): RawFetched {
  reader.readInt32();
  const error = reader.readInt16();
  reader.readInt32();
  const topics = reader.readArray((topic) => {
    topic.readUUID();
    return topic.readArray(parsePartition, true, false);
  });
  return { error, partition: topics?.[0]?.[0] };
}

function parsePartition(reader: Reader): RawPartition {
  reader.readInt32();
  const partition: RawPartition = {
    error: reader.readInt16(),
    highWatermark: Number(reader.readInt64()),
    lastStable: Number(reader.readInt64()),
    logStart: Number(reader.readInt64()),
    aborted:
      reader.readNullableArray((r) => ({
        producerId: r.readInt64(),
        firstOffset: Number(r.readInt64()),
      })) ?? [],
    records: NO_RECORDS,
    diverging: undefined,
  };
  reader.readInt32();
  const length = reader.readUnsignedVarInt() - 1;
  if (length > 0) {
    partition.records = reader.buffer.slice(reader.position, reader.position + length) as Buffer;
    reader.skip(length);
  }
  for (let tags = reader.readUnsignedVarInt(); tags > 0; tags--) {
    const tag = reader.readUnsignedVarInt();
    const size = reader.readUnsignedVarInt();
    const at = reader.position;
    if (tag === 0) {
      partition.diverging = { epoch: reader.readInt32(), endOffset: Number(reader.readInt64()) };
    }
    reader.skip(at + size - reader.position);
  }
  return partition;
}

export const rawFetch = createAPI<Parameters<typeof fetchV17.createRequest>, RawFetched>(
  1,
  17,
  fetchV17.createRequest,
  parse,
);
