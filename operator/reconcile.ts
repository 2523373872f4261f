/**
 * Reconciles one Topic: observe (gather), plan (decide), apply (act), record in the catalog. Used by the
 * local mode now and by the cluster's operator later, through the same functions.
 */
import type { AdminOutcome, Log, TopicInfo } from "../kafka/log.ts";
import type { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import type { CatalogWriter } from "./catalog-writer.ts";
import {
  kafkaTopicOf,
  maxEventBytesOf,
  type Observed,
  partitionsOf,
  planTopic,
  type Step,
} from "./plan.ts";
import type { TopicResource } from "./validate.ts";

const RETAINED = 3;
const ORDERINGS = { Key: 1, Total: 2, Commit: 3 } as const;

/** The Ready condition of a Topic. */
export interface TopicStatus {
  readonly ready: boolean;
  /** Stable word for programs. */
  readonly reason: string;
  readonly message: string;
  readonly kafkaTopic: string;
  readonly topicId: string;
  readonly partitions: number;
}

export interface Owner {
  readonly uid: string;
  readonly generation: number;
  readonly clusterUid: string;
}

export class Reconciler {
  readonly #log: Log;
  readonly #catalog: CatalogWriter;

  constructor(log: Log, catalog: CatalogWriter) {
    this.#log = log;
    this.#catalog = catalog;
  }

  /** Makes Kafka and the catalog what the Topic says. Never rejects for what Kafka refuses. */
  async apply(topic: TopicResource, owner: Owner): Promise<TopicStatus> {
    const kafkaTopic = kafkaTopicOf(topic);
    try {
      const observed = await this.#observe(topic);
      const plan = planTopic(observed);
      let kafka = observed.kafka;
      for (const step of plan.steps) kafka = await this.#step(step, topic, owner, kafka);
      const status = { kafkaTopic, topicId: kafka?.id ?? "", partitions: kafka?.partitions ?? 0 };
      return plan.problem
        ? { ready: false, ...plan.problem, ...status }
        : { ready: true, reason: "Ready", message: "The stream is served.", ...status };
    } catch (error) {
      const reason = error instanceof Refused ? error.reason : "KafkaUnavailable";
      const message = (error as Error).message;
      return { ready: false, reason, message, kafkaTopic, topicId: "", partitions: 0 };
    }
  }

  /** The Topic is no more: its Kafka topic goes only by policy, and by recorded id (P9). */
  async delete(name: string, policy: "Retain" | "Delete"): Promise<void> {
    const record = this.#catalog.records.get(name);
    if (!record) return;
    if (policy === "Retain") {
      await this.#catalog.put(name, { ...record, state: RETAINED });
      return;
    }
    const deleted = await this.#log.admin.deleteTopic(record.topicId.toString("hex"));
    const gone = deleted.kind === "refused" && deleted.error === "UNKNOWN_TOPIC_ID";
    if (deleted.kind !== "done" && !gone) throw new Error(deleted.reason);
    await this.#catalog.remove(name);
  }

  async #observe(topic: TopicResource): Promise<Observed> {
    const name = nameOf(topic);
    const kafkaTopic = kafkaTopicOf(topic);
    const record = this.#catalog.records.get(name);
    const holder = [...this.#catalog.records].find(
      ([other, held]) => other !== name && held.kafkaTopic === kafkaTopic,
    )?.[0];
    const kafka = done(await this.#log.admin.describeTopics([kafkaTopic])).get(kafkaTopic);
    const settings = kafka ? done(await this.#log.admin.settings(kafkaTopic)) : {};
    return { topic, record, holder, kafka, settings };
  }

  async #step(
    step: Step,
    topic: TopicResource,
    owner: Owner,
    kafka: TopicInfo | undefined,
  ): Promise<TopicInfo | undefined> {
    const { admin } = this.#log;
    const name = kafkaTopicOf(topic);
    switch (step.do) {
      case "create":
        return done(
          await admin.createTopic({
            name,
            partitions: partitionsOf(topic),
            replicas: topic.spec.replicas ?? -1,
            settings: step.settings,
          }),
        );
      case "grow":
        done(await admin.createPartitions(name, step.partitions));
        return kafka && { ...kafka, partitions: step.partitions };
      case "change-settings":
        done(await admin.changeSettings(name, step.set, step.unset));
        return kafka;
      case "record":
        await this.#record(topic, owner, step.state, kafka);
        return kafka;
    }
  }

  async #record(
    topic: TopicResource,
    owner: Owner,
    state: number,
    kafka: TopicInfo | undefined,
  ): Promise<void> {
    const name = nameOf(topic);
    const before = this.#catalog.records.get(name);
    // Of a topic whose data is lost, the record keeps the identity that was lost.
    const id = state === 1 && kafka ? Buffer.from(kafka.id, "hex") : before?.topicId;
    if (id === undefined) return;
    const { spec, metadata } = topic;
    await this.#catalog.put(name, {
      formatVersion: 1,
      namespace: metadata.namespace,
      name: metadata.name,
      ownerUid: owner.uid,
      ownerGeneration: BigInt(owner.generation),
      state: state as CatalogRecord["state"],
      kafkaTopic: kafkaTopicOf(topic),
      topicId: id,
      partitions: kafka?.partitions ?? before?.partitions ?? partitionsOf(topic),
      ordering: ORDERINGS[spec.ordering ?? "Key"],
      outbox: spec.outbox ?? "",
      maxEventBytes: maxEventBytesOf(topic),
      publishNamespaces: [...(spec.access?.publish ?? [])],
      subscribeNamespaces: [...(spec.access?.subscribe ?? [])],
      clusterUid: owner.clusterUid,
    });
  }
}

export function nameOf(topic: TopicResource): string {
  return `${topic.metadata.namespace}/${topic.metadata.name}`;
}

/** Kafka said no: its error name becomes the condition's reason, its sentence the message. */
class Refused extends Error {
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

function done<T>(outcome: AdminOutcome<T>): T {
  if (outcome.kind === "done") return outcome.value;
  throw outcome.kind === "refused"
    ? new Refused(outcome.error, outcome.reason)
    : new Error(outcome.reason);
}
