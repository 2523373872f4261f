/**
 * Reconciles one Topic: observe (gather), plan (decide), apply (act), record in the catalog. Used by the
 * local mode now and by the cluster's operator later, through the same functions.
 */
import type { AdminOutcome, Log, TopicInfo, TopicSettings } from "../kafka/log.ts";
import { CatalogState } from "../proto/gen/throughline/stored/v1/stored.ts";
import { type CatalogWriter, Superseded } from "./catalog-writer.ts";
import { type Observed, planTopic, type Step } from "./plan.ts";
import { kafkaTopicOf, maxEventBytesOf, nameOf, partitionsOf } from "./topic-spec.ts";
import type { TopicResource } from "./validate.ts";

const ORDERINGS = { Key: 1, Total: 2, Commit: 3 } as const;

/** The Ready condition of a Topic, and what it has in Kafka. */
export interface TopicStatus {
  readonly ready: boolean;
  /** Stable word for programs. */
  readonly reason: string;
  readonly message: string;
  readonly kafkaTopic: string;
  /** Id of the Kafka topic that this Topic owns, also when that is lost; empty when it owns none. */
  readonly topicId: string;
  /** As Kafka has them; 0 when it has no such topic. */
  readonly partitions: number;
  readonly replicas: number;
}

export interface Owner {
  readonly uid: string;
  readonly generation: number;
  readonly clusterUid: string;
}

export class Reconciler {
  readonly #log: Log;
  readonly #catalog: CatalogWriter;
  readonly #allows: (kafkaTopic: string) => boolean;

  /** @param allows Kafka names that a Topic may have outside `<namespace>.…`; default none. */
  constructor(
    log: Log,
    catalog: CatalogWriter,
    allows: (kafkaTopic: string) => boolean = () => false,
  ) {
    this.#log = log;
    this.#catalog = catalog;
    this.#allows = allows;
  }

  /** Makes Kafka and the catalog what the Topic says. Never rejects for what Kafka refuses. */
  async apply(topic: TopicResource, owner: Owner): Promise<TopicStatus> {
    let kafka: TopicInfo | undefined;
    let outcome: Pick<TopicStatus, "ready" | "reason" | "message">;
    try {
      const observed = await this.#observe(topic);
      kafka = observed.kafka;
      const { steps, problem } = planTopic(observed);
      for (const step of steps) kafka = await this.#step(step, topic, owner, kafka);
      outcome = problem
        ? { ready: false, ...problem }
        : { ready: true, reason: "Ready", message: "The stream is served." };
    } catch (error) {
      const reason =
        error instanceof Refused
          ? error.reason
          : error instanceof Superseded
            ? "Superseded"
            : "KafkaUnavailable";
      outcome = { ready: false, reason, message: (error as Error).message };
    }
    const record = this.#catalog.records.get(nameOf(topic));
    return {
      ...outcome,
      kafkaTopic: kafkaTopicOf(topic),
      topicId: record?.topicId.toString("hex") ?? "",
      partitions: kafka?.partitions ?? 0,
      replicas: kafka?.replicas ?? 0,
    };
  }

  /** The Topic is no more: its Kafka topic goes only by policy, and by recorded id (P9). */
  async delete(name: string, policy: "Retain" | "Delete"): Promise<void> {
    const record = this.#catalog.records.get(name);
    // Made and never recorded: it stays, as nobody can say that it is ours.
    if (!record) return this.#catalog.abandon(name);
    if (policy === "Retain") {
      await this.#catalog.put(name, {
        ...record,
        state: CatalogState.CATALOG_STATE_RETAINED,
      });
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
    const begun = this.#catalog.begun.get(name);
    const holders = [...this.#catalog.records].flatMap(([other, its]) =>
      other !== name && its.kafkaTopic === kafkaTopic ? [{ name: other, record: its }] : [],
    );
    const allowed = this.#allows(kafkaTopic);
    const kafka = done(await this.#log.admin.describeTopics([kafkaTopic])).get(kafkaTopic);
    const settings = kafka ? done(await this.#log.admin.settings(kafkaTopic)) : {};
    return { topic, record, begun, holders, allowed, kafka, settings };
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
        return this.#create(topic, step.settings);
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

  /** Says so before it makes it: who dies in between finds his own topic, not a stranger's. */
  async #create(topic: TopicResource, settings: TopicSettings): Promise<TopicInfo> {
    const name = nameOf(topic);
    await this.#catalog.begin(name, kafkaTopicOf(topic));
    const made = await this.#log.admin.createTopic({
      name: kafkaTopicOf(topic),
      partitions: partitionsOf(topic),
      replicas: topic.spec.replicas ?? -1,
      settings,
    });
    // A refusal is certain: nothing of ours is there. Anything else may have made it.
    if (made.kind === "refused") await this.#catalog.abandon(name);
    return done(made);
  }

  async #record(
    topic: TopicResource,
    owner: Owner,
    state: CatalogState,
    kafka: TopicInfo | undefined,
  ): Promise<void> {
    const name = nameOf(topic);
    const before = this.#catalog.records.get(name);
    // Of a topic whose data is lost, the record keeps the identity that was lost.
    const ready = state === CatalogState.CATALOG_STATE_READY;
    const id = ready && kafka ? Buffer.from(kafka.id, "hex") : before?.topicId;
    if (id === undefined) return;
    const { spec, metadata } = topic;
    await this.#catalog.put(name, {
      formatVersion: 1,
      namespace: metadata.namespace,
      name: metadata.name,
      ownerUid: owner.uid,
      ownerGeneration: BigInt(owner.generation),
      state,
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
