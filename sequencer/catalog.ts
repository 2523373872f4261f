/**
 * The Topics of one Outbox, as the deployment's catalog has them: read whole at the start, and looked at
 * again by `refresh`. So the sequencer needs neither API server nor operator to be up.
 */
import type { Log, TopicInfo } from "../kafka/log.ts";
import {
  CatalogOrdering,
  CatalogRecord,
  CatalogState,
} from "../proto/gen/throughline/stored/v1/stored.ts";
import { CompactedTopic } from "./compacted-topic.ts";

const FORMAT_VERSION = 1;

export interface OutboxTopic {
  /** `metadata.name` of the Topic: what the outbox calls it. */
  readonly name: string;
  readonly kafka: TopicInfo;
  readonly maxEventBytes: number;
  readonly isReady: boolean;
}

export interface CatalogOptions {
  readonly log: Log;
  readonly deploymentId: string;
  readonly namespace: string;
  readonly outbox: string;
}

export class Catalog {
  readonly #options: CatalogOptions;
  readonly #topics = new Map<string, OutboxTopic>();
  #read: CompactedTopic | undefined;
  #isEmpty = true;

  constructor(options: CatalogOptions) {
    this.#options = options;
  }

  /** Topics of this Outbox that are there, Ready or not; one that was deleted is not among them. */
  get topics(): ReadonlyMap<string, OutboxTopic> {
    return this.#topics;
  }

  /** It has not had a record yet, of any Topic. */
  get isEmpty(): boolean {
    return this.#isEmpty;
  }

  /** @throws when the catalog is not there or cannot be read. */
  async refresh(): Promise<void> {
    this.#read ??= await this.#open();
    await this.#read.read(({ key, value }) => {
      this.#isEmpty = false;
      if (key) this.#take(key.toString(), value);
    });
  }

  async #open(): Promise<CompactedTopic> {
    const { log, deploymentId } = this.#options;
    const name = `_throughline.${deploymentId}.catalog`;
    const found = await log.admin.describeTopics([name]);
    if (found.kind !== "done") throw new Error(found.reason);
    const info = found.value.get(name);
    if (!info)
      throw new Error(`Kafka topic ${name} is not there; this deployment's operator makes it`);
    return new CompactedTopic(log, info);
  }

  #take(key: string, value: Buffer | null): void {
    const { namespace, outbox } = this.#options;
    const [of, name = ""] = key.split("/");
    if (of !== namespace || name === "") return;
    if (value === null) {
      this.#topics.delete(name);
      return;
    }
    const record = CatalogRecord.decode(value);
    if (record.formatVersion !== FORMAT_VERSION)
      throw new Error(
        `the catalog has format ${record.formatVersion} of ${key}; this release reads ${FORMAT_VERSION}`,
      );
    const isOurs =
      record.ordering === CatalogOrdering.CATALOG_ORDERING_COMMIT && record.outbox === outbox;
    if (!isOurs || record.state === CatalogState.CATALOG_STATE_RETAINED) {
      this.#topics.delete(name);
      return;
    }
    const id = record.topicId.toString("hex");
    this.#topics.set(name, {
      name,
      kafka: { name: record.kafkaTopic, id, partitions: record.partitions, replicas: 0 },
      maxEventBytes: record.maxEventBytes,
      isReady: record.state === CatalogState.CATALOG_STATE_READY,
    });
  }
}
