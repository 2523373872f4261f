/**
 * Where each publisher's last number lives: the compacted topic `_throughline.<deploymentId>.publishers`,
 * one record per publisher, written in the same transaction as the events that it counts.
 *
 * Group offsets, the other thing that Kafka commits in a transaction, expire when a group has no members
 * (`offsets.retention.minutes`): a publisher that slept for a week would begin again at 1, and repeat. A
 * compacted topic keeps the newest record of a key for ever.
 *
 * L1 An opening takes the transactional id, writes a record of its own to the partition, and reads up to
 *    that. Only the true leader takes a write, so that no stale one (a broker that froze and thaws) can end
 *    the read too early; and the last stable offset would: a transaction of another publisher that is open
 *    there holds it back (for 10 s at most).
 * L2 Nothing is kept between openings: openings at the same time share one pass over a partition, whose
 *    length compaction bounds. A server holds no table of publishers.
 * L3 A record that cannot be read is an error, never "no record": that would begin again at 1.
 * L4 The partition of a key never changes, also when somebody adds partitions.
 *
 * A server makes the topic when it is missing; it needs Kafka's rights Create, DescribeConfigs, Read and
 * Write on topics, and Write on transactional ids, with the prefix `_throughline.<deploymentId>.`.
 */
import type { Log, LogFailure, Position, TopicInfo, TransactionPart } from "../../kafka/log.ts";
import { recordsOf } from "../../kafka/records.ts";
import type { Clock } from "../../process/clock.ts";
import { Failure } from "../failure.ts";

export interface LastNumber {
  /** Kafka's topic id: of another topic of the same name the number says nothing. */
  readonly topicId: string;
  readonly number: number;
  readonly instance: string;
}

export interface LastNumbersWorld {
  readonly log: Log;
  readonly deploymentId: string;
  readonly clock: Clock;
}

const PARTITIONS = 16;
/** Small segments, and compacted soon: an opening reads a whole partition. */
const SETTINGS = {
  "cleanup.policy": "compact",
  "segment.bytes": String(8 << 20),
  "min.cleanable.dirty.ratio": "0.1",
  "delete.retention.ms": "600000",
};
const FORMAT_VERSION = 1;
const FETCH_BYTES = 1 << 20;
const FETCH_WAIT_MS = 500;
/** A transaction of another publisher holds back a read no longer than its own time, 10 s. */
const READ_WITHIN_MS = 15_000;

/** Key of the records that openings write; a publisher's own key has slashes. */
const OPENED = "opened";

/** One pass over a partition: who asked for what. */
interface Pass {
  /** The pass goes past this offset. */
  upTo: number;
  readonly wanted: Map<string, LastNumber | undefined>;
  done: Promise<void>;
}

export class LastNumbers {
  readonly name: string;
  readonly #world: LastNumbersWorld;
  #topic: Promise<TopicInfo> | undefined;
  /** By partition: the pass that has not begun yet, which more may join, after the one that runs. */
  readonly #waiting = new Map<number, Pass>();
  readonly #running = new Map<number, Promise<void>>();

  constructor(world: LastNumbersWorld) {
    this.#world = world;
    this.name = `_throughline.${world.deploymentId}.publishers`;
  }

  /** @throws Failure */
  topic(): Promise<TopicInfo> {
    this.#topic ??= this.#ensure().catch((error) => {
      this.#topic = undefined;
      throw error;
    });
    return this.#topic;
  }

  /** Somebody deleted the topic: the next opening looks again. */
  forgetTopic(): void {
    this.#topic = undefined;
  }

  /** Where a publisher's records are (L4). */
  place(topic: TopicInfo, publisher: string): { topic: TopicInfo; partition: number } {
    return { topic, partition: partitionOf(publisher) };
  }

  record(topic: TopicInfo, publisher: string, last: LastNumber): TransactionPart {
    const value = JSON.stringify({ format: FORMAT_VERSION, ...last });
    return {
      ...this.place(topic, publisher),
      records: [
        {
          key: Buffer.from(publisher),
          value: Buffer.from(value),
          headers: [],
          timeMs: this.#world.clock.now(),
        },
      ],
    };
  }

  /** What an opening writes first (L1). */
  opening(topic: TopicInfo, publisher: string): TransactionPart {
    return {
      ...this.place(topic, publisher),
      records: [
        {
          ...{ key: Buffer.from(OPENED), value: Buffer.from(publisher), headers: [] },
          timeMs: this.#world.clock.now(),
        },
      ],
    };
  }

  /** The last number that was committed before the opening's own record at `upTo`. @throws Failure */
  async read(topic: TopicInfo, publisher: string, upTo: number): Promise<LastNumber | undefined> {
    const partition = partitionOf(publisher);
    let pass = this.#waiting.get(partition);
    if (!pass) {
      const made: Pass = { upTo, wanted: new Map(), done: Promise.resolve() };
      const before = this.#running.get(partition) ?? Promise.resolve();
      made.done = before.then(() => {
        this.#waiting.delete(partition);
        return this.#run(topic, partition, made);
      });
      this.#waiting.set(partition, made);
      pass = made;
    }
    pass.upTo = Math.max(pass.upTo, upTo);
    pass.wanted.set(publisher, undefined);
    await pass.done;
    return pass.wanted.get(publisher);
  }

  #run(topic: TopicInfo, partition: number, pass: Pass): Promise<void> {
    const running = this.#pass(topic, partition, pass);
    const settled = running
      .catch(() => {})
      .then(() => {
        if (this.#running.get(partition) === settled) this.#running.delete(partition);
      });
    this.#running.set(partition, settled);
    return running;
  }

  async #pass(topic: TopicInfo, partition: number, { upTo, wanted }: Pass): Promise<void> {
    const { log, clock } = this.#world;
    const until = clock.now() + READ_WITHIN_MS;
    const reader = log.openReader(topic, partition);
    let position: Position = { offset: 0, epoch: -1 };
    try {
      while (position.offset <= upTo) {
        const fetched = await reader.fetch(position, FETCH_BYTES, FETCH_WAIT_MS);
        if (fetched.kind === "loss") {
          if (fetched.loss.kind !== "before-earliest") throw this.#gone();
          position = { offset: fetched.loss.earliest, epoch: -1 };
          continue;
        }
        if (fetched.kind !== "fetched") throw failed(fetched);
        const { records, next, epoch, damage } = recordsOf(fetched, position.offset);
        for (const { key, value } of records) {
          const publisher = key?.toString();
          if (publisher === undefined || !wanted.has(publisher)) continue;
          wanted.set(publisher, value === null ? undefined : this.#decode(publisher, value));
        }
        if (damage) throw new Failure("LOG_CORRUPT", `${this.name}[${partition}]: ${damage}`);
        position = { offset: next, epoch: epoch >= 0 ? epoch : position.epoch };
        if (clock.now() > until) throw this.#late(partition);
      }
    } finally {
      reader.close();
    }
  }

  #decode(publisher: string, value: Buffer): LastNumber {
    let read: Partial<LastNumber & { readonly format: number }> = {};
    try {
      read = { ...(JSON.parse(value.toString()) as object) };
    } catch {
      // Said below.
    }
    const { format, topicId, number, instance } = read;
    if (
      format === FORMAT_VERSION &&
      typeof topicId === "string" &&
      Number.isSafeInteger(number) &&
      typeof instance === "string"
    ) {
      return { topicId, number: number as number, instance };
    }
    throw new Failure(
      "LOG_CORRUPT",
      `${this.name} has a record of "${publisher}" that this release cannot read${
        Number(format) > FORMAT_VERSION ? ` (format ${format})` : ""
      }.`,
    );
  }

  async #ensure(): Promise<TopicInfo> {
    const { admin } = this.#world.log;
    for (let made = false; ; made = true) {
      const found = await admin.describeTopics([this.name]);
      if (found.kind !== "done") throw failed(found);
      const known = found.value.get(this.name);
      if (known) return await this.#checked(known);
      const created = await admin.createTopic({
        ...{ name: this.name, partitions: PARTITIONS, replicas: -1, settings: SETTINGS },
      });
      if (created.kind === "done") return created.value;
      // Another server may be first, once.
      const first = created.kind === "refused" && created.error === "TOPIC_ALREADY_EXISTS";
      if (made || !first) throw failed(created);
    }
  }

  /** One that a broker's auto-creation made would forget numbers after a week. */
  async #checked(topic: TopicInfo): Promise<TopicInfo> {
    const settings = await this.#world.log.admin.settings(this.name);
    if (settings.kind !== "done") throw failed(settings);
    const policy = settings.value["cleanup.policy"];
    if (policy === "compact" && topic.partitions >= PARTITIONS) return topic;
    throw new Failure(
      "KAFKA_REFUSED",
      `${this.name} must have cleanup.policy=compact and ${PARTITIONS} partitions or more; it has ${policy ?? "the broker's default"} and ${topic.partitions}. Delete it if it is not in use: a server makes it anew.`,
    );
  }

  #gone(): Failure {
    this.forgetTopic();
    return new Failure("KAFKA_UNAVAILABLE", `${this.name} was deleted or cut while it was read.`);
  }

  #late(partition: number): Failure {
    return new Failure(
      "KAFKA_UNAVAILABLE",
      `${this.name}[${partition}] could not be read to its end within ${READ_WITHIN_MS} ms.`,
    );
  }
}

export function failed(
  failure: LogFailure | { readonly kind: "refused"; readonly reason: string },
): Failure {
  switch (failure.kind) {
    case "unauthorised":
    case "refused":
      return new Failure("KAFKA_REFUSED", failure.reason);
    case "corrupt":
      return new Failure("LOG_CORRUPT", failure.reason);
    case "unavailable":
      return new Failure("KAFKA_UNAVAILABLE", failure.reason);
  }
}

/** FNV-1a. */
function partitionOf(publisher: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(publisher)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0) % PARTITIONS;
}
