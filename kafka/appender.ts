/**
 * Appends to all partitions: chooses the partition, bounds what waits (P6), and shares one sender per
 * broker between the partitions that it leads. What happens within a partition (P1, P7) is in
 * `partition-appender.ts`.
 */
import { BrokerSender } from "./broker-sender.ts";
import type { Broker, Cluster } from "./cluster.ts";
import type { AppendOutcome, NewRecord, TopicInfo } from "./log.ts";
import {
  type AppendLimits,
  PartitionAppender,
  type PartitionAppenderWorld,
} from "./partition-appender.ts";
import { Partitioner } from "./partitioner.ts";
import { newIdentity, type ProducerIdentity } from "./producer-identity.ts";
import { recordBytes } from "./record-batch.ts";

export const APPEND_LIMITS: AppendLimits = {
  lingerMs: 2,
  batchBytes: 256 << 10,
  bufferBytes: 32 << 20,
  deliveryTimeoutMs: 30_000,
  requestTimeoutMs: 10_000,
};

export class Appender {
  readonly #world: PartitionAppenderWorld;
  readonly #partitioner: Partitioner;
  readonly #partitions = new Map<string, PartitionAppender[]>();
  readonly #senders = new Map<string, BrokerSender>();
  #bytes = 0;
  #closed = false;

  /** @param identity for each partition, and again whenever it is given up. */
  constructor(
    cluster: Cluster,
    limits: AppendLimits,
    identity: () => Promise<ProducerIdentity> = () => newIdentity(cluster),
  ) {
    this.#partitioner = new Partitioner(Math.random);
    this.#world = {
      ...{ cluster, limits, identity },
      now: () => performance.now(),
      random: Math.random,
      send: (broker, part) => this.#sender(broker).send(part),
    };
  }

  /** @throws RangeError for a partition that the topic does not have. */
  append(topic: TopicInfo, partition: number | null, record: NewRecord): Promise<AppendOutcome> {
    const chosen = partition ?? this.#partitioner.choose(record.key, topic.partitions);
    if (!Number.isInteger(chosen) || chosen < 0 || chosen >= topic.partitions) {
      throw new RangeError(`${topic.name} has ${topic.partitions} partitions, not ${chosen}`);
    }
    const { bufferBytes } = this.#world.limits;
    const bytes = recordBytes(record);
    const refusal = this.#closed
      ? "the log is closed"
      : this.#bytes + bytes > bufferBytes && this.#bytes > 0
        ? `publish buffer full: ${this.#bytes} of ${bufferBytes} bytes wait for Kafka`
        : undefined;
    if (refusal !== undefined) return Promise.resolve({ kind: "unavailable", reason: refusal });
    this.#bytes += bytes;
    return new Promise((resolve) => {
      this.#partition(topic, chosen).add({
        record,
        bytes,
        sinceMs: this.#world.now(),
        done: (outcome) => {
          this.#bytes -= bytes;
          resolve(outcome);
        },
      });
    });
  }

  close(): void {
    this.#closed = true;
    for (const partitions of this.#partitions.values()) {
      for (const partition of partitions) partition?.close();
    }
    for (const sender of this.#senders.values()) sender.close();
  }

  #partition(topic: TopicInfo, partition: number): PartitionAppender {
    let ofTopic = this.#partitions.get(topic.id);
    if (!ofTopic) {
      ofTopic = [];
      this.#partitions.set(topic.id, ofTopic);
    }
    ofTopic[partition] ??= new PartitionAppender(this.#world, topic, partition);
    return ofTopic[partition];
  }

  #sender(broker: Broker): BrokerSender {
    const key = `${broker.host}:${broker.port}`;
    let sender = this.#senders.get(key);
    if (!sender) {
      sender = new BrokerSender(this.#world.cluster, broker, this.#world.limits.requestTimeoutMs);
      this.#senders.set(key, sender);
    }
    return sender;
  }
}
