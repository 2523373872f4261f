/**
 * Fetch v17 of one partition: the request made and the response read where it lies, records left as
 * bytes. Protocol: https://kafka.apache.org/protocol#The_Messages_Fetch
 */
import { Reader } from "@platformatic/kafka";
import type { AbortedTransaction, TopicId } from "./log.ts";

const FETCH = 1;
const VERSION = 17;
const READ_COMMITTED = 1;
const MIN_BYTES = 1;

export interface FetchRequest {
  readonly topicId: TopicId;
  readonly partition: number;
  readonly leaderEpoch: number;
  readonly offset: number;
  readonly lastFetchedEpoch: number;
  readonly maxBytes: number;
  readonly maxWaitMs: number;
}

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
  readonly aborted: readonly AbortedTransaction[];
  /** Part of the response's bytes. */
  readonly records: Buffer;
  /** The log ends at `endOffset` for `epoch`: what lies after it was cut (KIP-320). */
  readonly diverging: { readonly epoch: number; readonly endOffset: number } | undefined;
}

/** The whole request, its length in front. */
export function encodeFetch(correlationId: number, clientId: string, asked: FetchRequest): Buffer {
  const out = Buffer.allocUnsafe(96 + clientId.length * 3);
  let at = out.writeInt16BE(FETCH, 4);
  at = out.writeInt16BE(VERSION, at);
  at = out.writeInt32BE(correlationId, at);
  const idLength = out.write(clientId, at + 2);
  at = out.writeInt16BE(idLength, at) + idLength;
  out[at++] = 0; // Tags of the header.
  at = out.writeInt32BE(asked.maxWaitMs, at);
  at = out.writeInt32BE(MIN_BYTES, at);
  at = out.writeInt32BE(asked.maxBytes, at);
  out[at++] = READ_COMMITTED;
  at = out.writeInt32BE(0, at); // No fetch session,
  at = out.writeInt32BE(-1, at); // and none wanted.
  out[at++] = 2; // One topic (counts are one more in compact arrays),
  at += out.write(asked.topicId, at, "hex");
  out[at++] = 2; // and one partition of it.
  at = out.writeInt32BE(asked.partition, at);
  at = out.writeInt32BE(asked.leaderEpoch, at);
  at = out.writeBigInt64BE(BigInt(asked.offset), at);
  at = out.writeInt32BE(asked.lastFetchedEpoch, at);
  at = out.writeBigInt64BE(-1n, at); // A follower's log start: none.
  at = out.writeInt32BE(asked.maxBytes, at);
  out[at++] = 0; // Tags of the partition,
  out[at++] = 0; // of the topic.
  out[at++] = 1; // No forgotten topics,
  out[at++] = 1; // no rack.
  out[at++] = 0; // Tags of the request.
  out.writeInt32BE(at - 4, 0);
  return out.subarray(0, at);
}

/** @param response all after its length. Throws when it is not a Fetch response. */
export function decodeFetch(response: Buffer): RawFetched {
  const reader = Reader.from(response);
  reader.skip(4);
  reader.readTaggedFields();
  reader.readInt32();
  const error = reader.readInt16();
  reader.readInt32();
  const topics = reader.readUnsignedVarInt() - 1;
  if (topics < 1) return { error, partition: undefined };
  reader.skip(16);
  const partitions = reader.readUnsignedVarInt() - 1;
  return { error, partition: partitions < 1 ? undefined : decodePartition(reader, response) };
}

function decodePartition(reader: Reader, response: Buffer): RawPartition {
  reader.readInt32();
  const error = reader.readInt16();
  const highWatermark = Number(reader.readInt64());
  const lastStable = Number(reader.readInt64());
  const logStart = Number(reader.readInt64());
  const aborted: AbortedTransaction[] = [];
  for (let left = reader.readUnsignedVarInt() - 1; left > 0; left--) {
    aborted.push({ producerId: reader.readInt64(), firstOffset: Number(reader.readInt64()) });
    reader.readTaggedFields();
  }
  reader.readInt32();
  const length = Math.max(0, reader.readUnsignedVarInt() - 1);
  const records = response.subarray(reader.position, reader.position + length);
  if (records.length < length) throw new Error("Kafka: a fetch answer is cut short");
  reader.skip(length);
  let diverging: RawPartition["diverging"];
  for (let tags = reader.readUnsignedVarInt(); tags > 0; tags--) {
    const tag = reader.readUnsignedVarInt();
    const size = reader.readUnsignedVarInt();
    const at = reader.position;
    if (tag === 0) {
      diverging = { epoch: reader.readInt32(), endOffset: Number(reader.readInt64()) };
    }
    reader.skip(at + size - reader.position);
  }
  return { error, highWatermark, lastStable, logStart, aborted, records, diverging };
}
