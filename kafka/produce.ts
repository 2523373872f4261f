/**
 * Produce with record batches as bytes, several partitions to a request.
 * Protocol: https://kafka.apache.org/protocol#The_Messages_Produce
 *
 * Version 13 (Kafka 4.1) names topics by id: what is meant for a topic can never land in a newer one of
 * the same name. Before that, version 9 by name.
 */
import {
  apiVersionsV4,
  type Connection,
  createAPI,
  type Reader,
  Writer,
} from "@platformatic/kafka";
import { dashed } from "./cluster.ts";
import type { TopicInfo } from "./log.ts";

const PRODUCE = 0;
const BY_ID = 13;
const BY_NAME = 9;
const ALL_IN_SYNC_REPLICAS = -1;

export interface ProducePart {
  readonly topic: TopicInfo;
  readonly partition: number;
  readonly batch: Buffer;
}

export interface ProducedPart {
  /** Topic id, or its name where the version has no ids. */
  readonly topic: string;
  readonly partition: number;
  readonly error: number;
  readonly said: string | null;
  readonly offset: number;
}

export type Produce = (
  parts: readonly ProducePart[],
  timeoutMs: number,
  transactionalId: string | null,
) => Promise<ProducedPart[]>;

/** Asks the broker once what it speaks. Rejects as the connection does. */
export async function produceOver(connection: Connection): Promise<Produce> {
  const spoken = await apiVersionsV4.api.async(connection, "throughline", "1");
  const newest = spoken.apiKeys.find(({ apiKey }) => apiKey === PRODUCE)?.maxVersion ?? 0;
  return produceIn(connection, newest >= BY_ID);
}

/** In a transaction a version above 11 would mean another transaction protocol (KIP-890). */
export function produceInTransaction(connection: Connection): Produce {
  return produceIn(connection, false);
}

function produceIn(connection: Connection, byId: boolean): Produce {
  const api = byId ? PRODUCE_BY_ID : PRODUCE_BY_NAME;
  return (parts, timeoutMs, transactionalId) =>
    api.async(connection, parts, timeoutMs, transactionalId);
}

/** Made once: to make one costs more than a request. */
const PRODUCE_BY_ID = produceAs(true);
const PRODUCE_BY_NAME = produceAs(false);

function produceAs(byId: boolean) {
  return createAPI<Parameters<Produce>, ProducedPart[]>(
    PRODUCE,
    byId ? BY_ID : BY_NAME,
    (parts: readonly ProducePart[], timeoutMs: number, transactionalId: string | null) =>
      request(parts, timeoutMs, transactionalId, byId),
    (_correlationId, _key, _version, reader) => response(reader, byId),
  );
}

function request(
  parts: readonly ProducePart[],
  timeoutMs: number,
  transactionalId: string | null,
  byId: boolean,
): Writer {
  const topics = Map.groupBy(parts, ({ topic }) => topic.id);
  return Writer.create()
    .appendString(transactionalId)
    .appendInt16(ALL_IN_SYNC_REPLICAS)
    .appendInt32(timeoutMs)
    .appendArray([...topics.values()], (w, [...ofTopic]) => {
      const { topic } = ofTopic[0] as ProducePart;
      if (byId) w.appendUUID(dashed(topic.id));
      else w.appendString(topic.name);
      w.appendArray(ofTopic, (p, { partition, batch }) => {
        p.appendInt32(partition)
          .appendUnsignedVarInt(batch.length + 1)
          .append(batch);
      });
    })
    .appendTaggedFields();
}

function response(reader: Reader, byId: boolean): ProducedPart[] {
  const topics = reader.readArray((r) => {
    const topic = byId ? r.readUUID().replaceAll("-", "") : r.readString();
    return r.readArray((p) => readPart(p, topic));
  });
  return topics.flat();
}

function readPart(reader: Reader, topic: string): ProducedPart {
  const partition = reader.readInt32();
  const error = reader.readInt16();
  const offset = Number(reader.readInt64());
  reader.readInt64();
  reader.readInt64();
  const recordErrors = reader.readArray((r) => {
    r.readInt32();
    return r.readNullableString();
  });
  const said = reader.readNullableString() ?? recordErrors.find((text) => text !== null) ?? null;
  return { topic, partition, error, said, offset };
}
