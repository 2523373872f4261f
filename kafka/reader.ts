/**
 * Reads one partition through a connection of its own, and judges what Kafka answers.
 *
 * - "gone" only when metadata names another topic id, or no topic for `GONE_AFTER_MS`: errors 3 and 100
 *   alone may pass by.
 * - "truncated" only from the diverging epoch (KIP-320).
 * - "past-end" only when the leader itself answers out of range and the position is not below the
 *   earliest; below it, retention removed it.
 */
import type { Cluster } from "./cluster.ts";
import {
  failureOf,
  failureOfError,
  OFFSET_OUT_OF_RANGE,
  UNKNOWN_TOPIC_ID,
  UNKNOWN_TOPIC_OR_PARTITION,
} from "./failures.ts";
import { FetchConnection } from "./fetch-connection.ts";
import { listOffset } from "./list-offsets.ts";
import type { FetchOutcome, LogFailure, PartitionReader, Position, TopicInfo } from "./log.ts";
import { pause } from "./pause.ts";

const GONE_AFTER_MS = 3000;
/** A broker that does not answer this long after the longest poll is taken for frozen. */
const GRACE_MS = 5000;
/** Longest a single call tries again by itself. */
const RETRY_FOR_MS = 2000;

export class KafkaReader implements PartitionReader {
  readonly #cluster: Cluster;
  readonly #topic: TopicInfo;
  readonly #partition: number;
  #connection: FetchConnection | undefined;
  #epoch = -1;
  #closed = false;
  #missingSinceMs: number | undefined;

  constructor(cluster: Cluster, topic: TopicInfo, partition: number) {
    this.#cluster = cluster;
    this.#topic = topic;
    this.#partition = partition;
  }

  async fetch(position: Position, maxBytes: number, maxWaitMs: number): Promise<FetchOutcome> {
    const started = performance.now();
    for (let attempt = 0; ; attempt++) {
      const outcome = await this.#try(position, maxBytes, maxWaitMs, attempt > 0);
      if (outcome !== "again" && outcome.kind !== "unavailable") return outcome;
      if (this.#closed) return { kind: "unavailable", reason: "the reader is closed" };
      this.#drop();
      if (performance.now() - started > RETRY_FOR_MS) {
        return outcome === "again"
          ? { kind: "unavailable", reason: "Kafka: the partition has no leader that answers" }
          : outcome;
      }
      await pause(Math.min(500, 20 * 2 ** attempt) * (0.5 + Math.random()));
    }
  }

  close(): void {
    this.#closed = true;
    this.#drop();
  }

  async #try(
    position: Position,
    maxBytes: number,
    maxWaitMs: number,
    fresh: boolean,
  ): Promise<FetchOutcome | "again"> {
    try {
      // Without a wait where it is connected: the caller goes on working while Kafka answers.
      const connection = this.#usable ?? (await this.#connected(fresh));
      if (connection === "again") return (await this.#goneNow()) ?? "again";
      if ("kind" in connection) return connection;
      const asked = {
        topicId: this.#topic.id,
        partition: this.#partition,
        leaderEpoch: this.#epoch,
        offset: position.offset,
        lastFetchedEpoch: position.epoch,
        maxBytes,
        maxWaitMs,
      };
      const answer = await connection.fetch(asked, maxWaitMs + GRACE_MS);
      const part = answer.partition;
      const error = answer.error || (part?.error ?? UNKNOWN_TOPIC_OR_PARTITION);
      if (error === 0 && part) {
        this.#missingSinceMs = undefined;
        if (part.diverging) return { kind: "loss", loss: { kind: "truncated", ...part.diverging } };
        const { records, aborted, highWatermark, lastStable, logStart } = part;
        const { release } = answer;
        return { kind: "fetched", records, aborted, highWatermark, lastStable, logStart, release };
      }
      return await this.#judge(error, position);
    } catch (error) {
      return failureOfError(error);
    }
  }

  async #judge(error: number, position: Position): Promise<FetchOutcome | "again"> {
    if (error === OFFSET_OUT_OF_RANGE) {
      const found = await listOffset(this.#cluster, this.#topic, this.#partition, "earliest");
      if (found.kind !== "offset") return found.kind === "gone" ? "again" : found;
      const earliest = found.offset;
      return position.offset < earliest
        ? { kind: "loss", loss: { kind: "before-earliest", earliest } }
        : { kind: "loss", loss: { kind: "past-end", earliest } };
    }
    if (error === UNKNOWN_TOPIC_OR_PARTITION || error === UNKNOWN_TOPIC_ID) {
      return (await this.#goneNow()) ?? "again";
    }
    const failure = failureOf(error);
    return failure.kind === "unavailable" ? "again" : failure;
  }

  /** Asks metadata whether the topic still has this id. */
  async #goneNow(): Promise<FetchOutcome | undefined> {
    const view = await this.#cluster.view([this.#topic.name]);
    const found = view.topics.get(this.#topic.name);
    const gone: FetchOutcome = { kind: "loss", loss: { kind: "gone" } };
    if (found && found.errorCode === 0) {
      this.#missingSinceMs = undefined;
      return found.id === this.#topic.id ? undefined : gone;
    }
    if (found && found.errorCode !== UNKNOWN_TOPIC_OR_PARTITION) return undefined;
    this.#missingSinceMs ??= performance.now();
    return performance.now() - this.#missingSinceMs > GONE_AFTER_MS ? gone : undefined;
  }

  async #connected(fresh: boolean): Promise<FetchConnection | LogFailure | "again"> {
    this.#drop();
    const leader = await this.#cluster.leader(this.#topic.name, this.#partition, fresh);
    if (!leader) return "again";
    const { options, receiveBuffers } = this.#cluster;
    const connection = await FetchConnection.open(options, leader.broker, receiveBuffers);
    if (this.#closed) {
      connection.close();
      return { kind: "unavailable", reason: "the reader is closed" };
    }
    this.#epoch = leader.epoch;
    this.#connection = connection;
    return connection;
  }

  get #usable(): FetchConnection | undefined {
    return this.#connection?.usable ? this.#connection : undefined;
  }

  #drop(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }
}
