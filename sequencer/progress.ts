/**
 * How far the events are in Kafka: the compacted topic `_throughline.<deploymentId>.progress`, a record per
 * Outbox, written in the same transaction as the events that it counts. (Reports of what sequencers do are
 * there too, under keys of their own: `state-reports.ts`.)
 *
 * An opening takes the transactional id (older writers are fenced and can commit nothing any more), writes
 * a record of its own to the partition and reads up to that: only the true leader takes a write, so that a
 * stale one cannot end the read too early.
 */
import type { Log, TopicInfo, TransactionalWriter, TransactionPart } from "../kafka/log.ts";
import { OutboxProgress } from "../proto/gen/throughline/stored/v1/stored.ts";
import { CompactedTopic } from "./compacted-topic.ts";
import { FailClosed } from "./fail-closed.ts";
import type { Place } from "./lsn.ts";

const FORMAT_VERSION = 1;
const OPENED = "opened";
const SETTINGS = {
  "cleanup.policy": "compact",
  "segment.bytes": String(8 << 20),
  "min.cleanable.dirty.ratio": "0.1",
  "delete.retention.ms": "600000",
};

export interface Progress {
  readonly systemId: string;
  readonly timeline: number;
  /** The last event that is in Kafka. */
  readonly sent: Place;
  /** The slot may be confirmed up to here. */
  readonly confirmed: bigint;
  /** The last order value in Kafka, by topic name. */
  readonly sequences: ReadonlyMap<string, number>;
}

export class ProgressTopic {
  readonly #topic: CompactedTopic;
  readonly #key: string;

  private constructor(topic: CompactedTopic, key: string) {
    this.#topic = topic;
    this.#key = key;
  }

  /** @throws as `progressTopicOf`. */
  static async open(log: Log, deploymentId: string, key: string): Promise<ProgressTopic> {
    const info = await progressTopicOf(log, deploymentId);
    return new ProgressTopic(new CompactedTopic(log, info), key);
  }

  get info(): TopicInfo {
    return this.#topic.info;
  }

  /** @returns undefined when this Outbox has none. @throws FailClosed, or when Kafka cannot do it. */
  async read(writer: TransactionalWriter, nowMs: number): Promise<Progress | undefined> {
    const value = Buffer.from(this.#key);
    const opened = await writer.write([
      {
        ...{ topic: this.#topic.info, partition: 0 },
        records: [{ key: Buffer.from(OPENED), value, headers: [], timeMs: nowMs }],
      },
    ]);
    if (opened.kind !== "committed")
      throw new Error("reason" in opened ? opened.reason : `Kafka: ${opened.kind}`);
    let progress: Progress | undefined;
    await this.#topic.readTo((opened.positions[0]?.offset ?? 0) + 1, (record) => {
      if (record.key?.toString() !== this.#key) return;
      progress = record.value === null ? undefined : this.#decode(record.value);
    });
    return progress;
  }

  record(progress: Progress, nowMs: number): TransactionPart {
    const value = OutboxProgress.encode({
      ...{ formatVersion: FORMAT_VERSION, confirmed: progress.confirmed },
      ...{ systemId: progress.systemId, timeline: progress.timeline },
      ...{ commitId: progress.sent.commitId, commitIndex: progress.sent.index },
      topics: Array.from(progress.sequences, ([name, sequence]) => ({
        ...{ name, sequence: BigInt(sequence) },
      })),
    }).finish();
    return {
      ...{ topic: this.#topic.info, partition: 0 },
      records: [
        { key: Buffer.from(this.#key), value: Buffer.from(value), headers: [], timeMs: nowMs },
      ],
    };
  }

  #decode(value: Buffer): Progress {
    let read: OutboxProgress | undefined;
    try {
      read = OutboxProgress.decode(value);
    } catch {
      // Said below.
    }
    if (read?.formatVersion !== FORMAT_VERSION)
      throw new FailClosed(
        "ProgressLost",
        `${this.#topic.info.name} has a record of ${this.#key} that this release cannot read (format ${read?.formatVersion ?? "unknown"}); run the release that wrote it.`,
      );
    return {
      ...{ systemId: read.systemId, timeline: read.timeline, confirmed: read.confirmed },
      sent: { commitId: read.commitId, index: read.commitIndex },
      sequences: new Map(read.topics.map(({ name, sequence }) => [name, Number(sequence)])),
    };
  }
}

/** Makes the topic when it is missing. @throws FailClosed, or when Kafka cannot be asked. */
export async function progressTopicOf(log: Log, deploymentId: string): Promise<TopicInfo> {
  const name = `_throughline.${deploymentId}.progress`;
  for (let made = false; ; made = true) {
    const found = await log.admin.describeTopics([name]);
    if (found.kind !== "done") throw new Error(found.reason);
    const info = found.value.get(name);
    if (info) {
      await assertKeepsKeys(log, info);
      return info;
    }
    const of = { name, partitions: 1, replicas: -1, settings: SETTINGS };
    const created = await log.admin.createTopic(of);
    if (created.kind === "done") return created.value;
    // Another sequencer may be first, once.
    const isThere = created.kind === "refused" && created.error === "TOPIC_ALREADY_EXISTS";
    if (made || !isThere) throw new Error(created.reason);
  }
}

/** One that a broker's auto-creation made would forget after a week. @throws FailClosed */
async function assertKeepsKeys(log: Log, { name, partitions }: TopicInfo): Promise<void> {
  const settings = await log.admin.settings(name);
  if (settings.kind !== "done") throw new Error(settings.reason);
  const policy = settings.value["cleanup.policy"];
  if (policy === "compact" && partitions === 1) return;
  throw new FailClosed(
    "ProgressLost",
    `Kafka topic ${name} must have cleanup.policy=compact and one partition; it has ${policy ?? "the broker's default"} and ${partitions}. Somebody else made it: delete it if no sequencer has used it.`,
  );
}
