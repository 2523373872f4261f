/** Fills a topic fast: a few record batches, made once, are sent over and over. */
import { zstdCompressSync } from "node:zlib";
import { crc32c } from "@platformatic/kafka";
import { BrokerSender } from "../../kafka/broker-sender.ts";
import { Cluster } from "../../kafka/cluster.ts";
import type { NewRecord, TopicInfo } from "../../kafka/log.ts";
import { encodeBatch, NO_PRODUCER } from "../../kafka/record-batch.ts";

/** About what Kafka's own producer makes of 100-byte records with its default batch of 16 KiB. */
const EVENTS_PER_BATCH = 140;
const DISTINCT_BATCHES = 64;
/** A request takes one batch per partition, so several connections work at once. */
const CONNECTIONS = 8;
const HEADER_BYTES = 61;

export interface Filling {
  readonly events: number;
  readonly payloadBytes?: number;
  readonly header?: boolean;
  readonly zstd?: boolean;
  readonly eventsPerBatch?: number;
}

/** Spreads `events` evenly over the partitions; a whole number of batches. @returns how many. */
export async function fill(
  brokers: readonly string[],
  topic: TopicInfo,
  filling: Filling,
): Promise<number> {
  const perBatch = filling.eventsPerBatch ?? EVENTS_PER_BATCH;
  const cluster = new Cluster({ brokers, clientId: "bench-fill" });
  const leader = await cluster.leader(topic.name, 0, true);
  if (!leader) throw new Error(`${topic.name} has no leader`);
  const batches = Array.from({ length: DISTINCT_BATCHES }, (_, i) => batch(i, perBatch, filling));
  const total = Math.ceil(filling.events / perBatch);
  let next = 0;
  const work = async (): Promise<void> => {
    const sender = new BrokerSender(cluster, leader.broker, 30_000);
    while (next < total) {
      const n = next++;
      const sent = await sender.send({
        topic,
        partition: n % topic.partitions,
        batch: batches[n % DISTINCT_BATCHES] as Buffer,
      });
      if (sent.kind !== "answered" || sent.part.error !== 0) {
        throw new Error(`fill: ${sent.kind} ${"part" in sent ? sent.part.error : ""}`);
      }
    }
    sender.close();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, work));
  await cluster.close();
  return total * perBatch;
}

function batch(seed: number, count: number, filling: Filling): Buffer {
  let state = seed + 1;
  const letter = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return 32 + ((state >> 16) % 90);
  };
  const records = Array.from({ length: count }, (_, i): NewRecord => {
    const key = Buffer.from(String(seed * count + i).padStart(8, "0"));
    const value = Buffer.from(Array.from({ length: filling.payloadBytes ?? 100 }, letter));
    const headers = filling.header ? [["ce_type", Buffer.from("order.created")] as const] : [];
    return { key, value, headers, timeMs: Date.now() };
  });
  const made = encodeBatch(records, NO_PRODUCER);
  return filling.zstd ? compressed(made) : made;
}

function compressed(plain: Buffer): Buffer {
  const body = zstdCompressSync(plain.subarray(HEADER_BYTES));
  const made = Buffer.concat([plain.subarray(0, HEADER_BYTES), body]);
  made.writeInt32BE(made.length - 12, 8);
  made.writeInt16BE(4, 21);
  made.writeUInt32BE(crc32c(made.subarray(21)) >>> 0, 17);
  return made;
}
