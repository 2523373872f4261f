/**
 * The witness: kafkajs, which shares no code with our reader, reads every partition of every incarnation of
 * each Topic from its start, committed events only. Marks at the ends of partitions tell that it has all.
 */
import { type Consumer, Kafka, logLevel } from "kafkajs";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { Waits } from "../story/waits.ts";
import { follow } from "./follow.ts";
import { contentOf, nowMs } from "./history.ts";
import { type Incarnation, PartitionLog } from "./judge/world.ts";

export class Witness {
  /** By topic id. */
  readonly topics = new Map<string, Incarnation>();
  readonly #kafka: Kafka;
  readonly #log: Log;
  readonly #consumers = new Map<string, Consumer>();
  readonly #waits = new Waits();
  #marks = 0;
  readonly #seenMarks = new Set<string>();

  /** @param log of our own, only to append marks. */
  constructor(brokers: readonly string[], log: Log) {
    this.#kafka = new Kafka({
      ...{ brokers: [...brokers], logLevel: logLevel.NOTHING, clientId: "witness" },
      retry: { retries: 1000, maxRetryTime: 2000 },
    });
    this.#log = log;
  }

  async follow(name: string, { name: topic, id, partitions }: TopicInfo): Promise<void> {
    const incarnation: Incarnation = { topic: name, id, partitions: [] };
    for (let i = 0; i < partitions; i++) incarnation.partitions.push(new PartitionLog());
    this.topics.set(id, incarnation);
    const groupId = `witness-${id}`;
    const consumer = await follow(this.#kafka, { topic, groupId }, (partition, messages) => {
      for (let i = incarnation.partitions.length; i <= partition; i++) {
        incarnation.partitions.push(new PartitionLog());
      }
      const log = incarnation.partitions[partition] as PartitionLog;
      const seenMs = nowMs();
      for (const { offset, key, value, headers } of messages) {
        const at = Number(offset);
        // A consumer that joins anew begins after what was committed for it.
        if (at <= (log.offsets.at(-1) ?? -1)) continue;
        const text = value?.toString() ?? "";
        const type = headers?.["ce_type"]?.toString() ?? "";
        log.add(at, contentOf(text, key?.toString() ?? "", type), seenMs);
        if (text.startsWith("mark:")) this.#seenMarks.add(`${id}/${text}`);
      }
      this.#waits.changed();
    });
    this.#consumers.set(id, consumer);
  }

  /** Resolves when it has all that was committed before. @returns offsets of the marks by partition. */
  async holds(topic: TopicInfo): Promise<number[]> {
    const offsets: number[] = [];
    for (let partition = 0; partition < topic.partitions; partition++) {
      const mark = `mark:${++this.#marks}`;
      const value = Buffer.from(mark);
      const record = { key: null, value, headers: [], timeMs: Date.now() };
      for (;;) {
        const outcome = await this.#log.append(topic, partition, record);
        if (outcome.kind === "appended") {
          offsets.push(outcome.offset);
          break;
        }
        if (outcome.kind === "gone") throw new Error(`${topic.name} is gone under the witness`);
      }
      await this.#waits.until(() => this.#seenMarks.has(`${topic.id}/${mark}`));
    }
    return offsets;
  }

  get events(): number {
    let events = 0;
    for (const { partitions } of this.topics.values()) {
      for (const { offsets } of partitions) events += offsets.length;
    }
    return events;
  }

  /** Before its topic is deleted. */
  async leave(id: string): Promise<void> {
    await this.#consumers.get(id)?.disconnect();
    this.#consumers.delete(id);
  }

  async close(): Promise<void> {
    for (const id of [...this.#consumers.keys()]) await this.leave(id);
  }
}
