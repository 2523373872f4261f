/**
 * The catalog as one server sees it: the topic `_throughline.<deploymentId>.catalog`, read whole from its
 * start and followed. It keeps the last state while Kafka is away or the topic is damaged.
 *
 * Until it was read whole once, `get` and `list` throw KAFKA_UNAVAILABLE: "not found" would be a lie (P10).
 * A record that cannot be taken (another cluster's, a newer format) is refused with one log line; what was
 * known under its key stays. So does what a catalog that was made anew does not name yet, for a while: its operator
 * writes one Topic after the other.
 */
import type { Logger } from "pino";
import type { KeyedRecord, Log, PartitionReader, Position, TopicInfo } from "../kafka/log.ts";
import { recordsOf } from "../kafka/records.ts";
import type { Clock } from "../process/clock.ts";
import { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import type { Catalog, CatalogTopic } from "./catalog.ts";
import { Failure } from "./failure.ts";

const FORMAT_VERSION = 1;
const FETCH_BYTES = 1 << 20;
const POLL_MS = 1000;
/** An empty catalog is known to be empty after this long. */
const FIRST_POLL_MS = 50;
const RETRY_MS = 500;
const PROGRESS_MS = 10_000;
const UNNAMED_MS = 30_000;
const DEFAULT_EVENT_BYTES = 1 << 20;

const ORDERINGS = [undefined, "Key", "Total", "Commit"] as const;
const STATES = [undefined, "Ready", "DataLost", "Retained"] as const;

export interface CatalogFollowerOptions {
  readonly log: Log;
  readonly deploymentId: string;
  /** Records of another cluster are refused; undefined takes all. */
  readonly clusterUid: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called once, when the catalog was read whole for the first time. */
  readonly onRead: () => void;
}

export function catalogTopicName(deploymentId: string): string {
  return `_throughline.${deploymentId}.catalog`;
}

export class CatalogFollower implements Catalog {
  readonly #options: CatalogFollowerOptions;
  readonly #name: string;
  readonly #listeners = new Set<(name: string) => void>();
  #topics = new Map<string, CatalogTopic>();
  /** Of an earlier catalog, and not named in this one yet. */
  #unnamed = new Set<string>();
  #keepNoLonger: () => void = () => {};
  #read = false;
  #closed = false;
  #reader: PartitionReader | undefined;
  #wake: () => void = () => {};
  /** Why it waits now; a reason is logged once, and again as progress every ten seconds. */
  #waiting: { readonly kind: string; readonly sinceMs: number; saidMs: number } | undefined;
  #reason = "it has not been asked yet";

  constructor(options: CatalogFollowerOptions) {
    this.#options = options;
    this.#name = catalogTopicName(options.deploymentId);
    void this.#run();
  }

  get(name: string): CatalogTopic | undefined {
    this.#assertRead();
    return this.#topics.get(name);
  }

  list(): readonly CatalogTopic[] {
    this.#assertRead();
    return [...this.#topics.values()];
  }

  onChange(listener: (name: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#closed = true;
    this.#reader?.close();
    this.#keepNoLonger();
    this.#wake();
  }

  #assertRead(): void {
    if (this.#read) return;
    throw new Failure(
      "KAFKA_UNAVAILABLE",
      `This server has not read its catalog ${this.#name} yet: ${this.#reason}.`,
    );
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const topic = await this.#find();
      if (topic === undefined) return;
      await this.#follow(topic);
    }
  }

  /** The catalog topic, waited for as long as it takes; undefined when closed. */
  async #find(): Promise<TopicInfo | undefined> {
    while (!this.#closed) {
      const found = await this.#options.log.admin.describeTopics([this.#name]);
      if (this.#closed) return undefined;
      if (found.kind === "done") {
        const topic = found.value.get(this.#name);
        if (topic) return topic;
        this.#wait(
          "missing",
          `topic ${this.#name} does not exist; the operator of this deployment makes it`,
        );
      } else {
        this.#wait(found.kind, found.reason);
      }
      await this.#delay(RETRY_MS);
    }
    return undefined;
  }

  /** Reads from the start until the topic is no more or the log was cut under it. */
  async #follow(topic: TopicInfo): Promise<void> {
    const { log } = this.#options;
    const reader = log.openReader(topic, 0);
    this.#reader = reader;
    let position: Position = { offset: 0, epoch: -1 };
    let fresh: Map<string, CatalogTopic> | undefined = new Map();
    try {
      while (!this.#closed) {
        const outcome = await reader.fetch(
          position,
          FETCH_BYTES,
          this.#read ? POLL_MS : FIRST_POLL_MS,
        );
        if (this.#closed) return;
        if (outcome.kind === "loss") {
          if (outcome.loss.kind === "before-earliest") {
            // Compaction and retention of a compacted topic: what is gone was replaced or removed.
            position = { offset: outcome.loss.earliest, epoch: -1 };
            continue;
          }
          this.#options.logger.warn(
            { topic: this.#name, loss: outcome.loss.kind },
            "the catalog is read anew",
          );
          await this.#delay(RETRY_MS);
          return;
        }
        if (outcome.kind !== "fetched") {
          this.#wait(outcome.kind, outcome.reason);
          await this.#delay(RETRY_MS);
          continue;
        }
        const { records, next, epoch, damage } = recordsOf(outcome, position.offset);
        for (const record of records) this.#take(record, fresh);
        position = { offset: next, epoch: epoch >= 0 ? epoch : position.epoch };
        if (damage) {
          this.#wait("corrupt", damage);
          await this.#delay(RETRY_MS);
          continue;
        }
        this.#goesOn();
        // A catalog that was made anew and has no Topic yet says nothing, whatever marks are in it: its operator is
        // about to write it, and taking it at its word would end every stream.
        const saysNothing = fresh?.size === 0 && this.#topics.size > 0;
        if (fresh && !saysNothing && position.offset >= outcome.lastStable) {
          this.#replace(fresh);
          fresh = undefined;
        }
      }
    } finally {
      reader.close();
    }
  }

  /** Takes one record into `fresh` while the topic is read whole, into what is served after that. */
  #take(record: KeyedRecord, fresh: Map<string, CatalogTopic> | undefined): void {
    const name = record.key?.toString("utf8");
    if (!name) {
      this.#refuse(record, "it has no key");
      return;
    }
    this.#unnamed.delete(name);
    const into = fresh ?? this.#topics;
    if (record.value === null) {
      if (into.delete(name) && !fresh) this.#changed(name);
      return;
    }
    const read = readCatalogRecord(name, record.value, this.#options.clusterUid);
    if (read.kind === "refused") {
      // A record that we cannot judge must not remove what is served.
      const known = fresh && this.#topics.get(name);
      if (known) fresh.set(name, known);
      this.#refuse(record, read.why);
      return;
    }
    into.set(name, read.topic);
    if (!fresh) this.#changed(name);
  }

  #replace(fresh: Map<string, CatalogTopic>): void {
    const before = this.#topics;
    const kept = [...before].filter(([name]) => !fresh.has(name));
    this.#topics = new Map([...fresh, ...kept]);
    this.#unnamed = new Set(kept.map(([name]) => name));
    this.#keepNoLonger();
    if (kept.length > 0) {
      this.#keepNoLonger = this.#options.clock.setTimer(UNNAMED_MS, () => {
        for (const name of this.#unnamed) if (this.#topics.delete(name)) this.#changed(name);
      });
    }
    if (!this.#read) {
      this.#read = true;
      this.#options.logger.info({ topic: this.#name, topics: fresh.size }, "the catalog was read");
      this.#options.onRead();
    }
    for (const name of fresh.keys()) {
      if (JSON.stringify(before.get(name)) !== JSON.stringify(fresh.get(name))) this.#changed(name);
    }
  }

  #changed(name: string): void {
    for (const listener of [...this.#listeners]) listener(name);
  }

  #refuse(record: KeyedRecord, why: string): void {
    this.#options.logger.warn(
      { topic: this.#name, key: record.key?.toString("utf8"), offset: record.offset },
      `a catalog record is refused: ${why}`,
    );
  }

  #wait(kind: string, reason: string): void {
    const { clock, logger } = this.#options;
    const nowMs = clock.now();
    this.#reason = reason;
    if (this.#waiting?.kind !== kind) {
      this.#waiting = { kind, sinceMs: nowMs, saidMs: nowMs };
      logger.warn({ reason }, "waiting for the catalog");
    } else if (kind !== "missing" && nowMs - this.#waiting.saidMs >= PROGRESS_MS) {
      this.#waiting.saidMs = nowMs;
      const seconds = Math.round((nowMs - this.#waiting.sinceMs) / 1000);
      logger.warn({ reason, seconds }, "still waiting for the catalog");
    }
  }

  #goesOn(): void {
    if (this.#waiting && this.#read) this.#options.logger.info("the catalog is followed again");
    this.#waiting = undefined;
  }

  #delay(ms: number): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.clock.setTimer(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }
}

type ReadRecord =
  | { readonly kind: "topic"; readonly topic: CatalogTopic }
  | { readonly kind: "refused"; readonly why: string };

/** Pure: one record's value to what a server serves. */
export function readCatalogRecord(
  name: string,
  value: Buffer,
  clusterUid: string | undefined,
): ReadRecord {
  let record: CatalogRecord;
  try {
    record = CatalogRecord.decode(value);
  } catch {
    return { kind: "refused", why: "its value is damaged" };
  }
  if (record.formatVersion !== FORMAT_VERSION) {
    return {
      kind: "refused",
      why: `it has format version ${record.formatVersion}; this release reads version ${FORMAT_VERSION}`,
    };
  }
  if (clusterUid !== undefined && record.clusterUid !== clusterUid) {
    return {
      kind: "refused",
      why: `cluster "${record.clusterUid}" wrote it; this server belongs to "${clusterUid}"`,
    };
  }
  const ordering = ORDERINGS[record.ordering as number];
  const state = STATES[record.state as number];
  if (`${record.namespace}/${record.name}` !== name) {
    return { kind: "refused", why: `it describes "${record.namespace}/${record.name}"` };
  }
  if (!ordering || !state || record.topicId.length !== 16 || record.partitions < 1) {
    return { kind: "refused", why: "its ordering, state, topic id or partitions make no sense" };
  }
  return {
    kind: "topic",
    topic: {
      name,
      namespace: record.namespace,
      kafkaTopic: record.kafkaTopic,
      topicId: record.topicId.toString("hex"),
      partitions: record.partitions,
      ordering,
      state,
      maxEventBytes: record.maxEventBytes || DEFAULT_EVENT_BYTES,
      publishNamespaces: record.publishNamespaces,
      subscribeNamespaces: record.subscribeNamespaces,
    },
  };
}
