/**
 * Reconciles one Topic: observe (gather), plan (decide), apply (act), record in the catalog. Topic files and
 * an API server use the same functions.
 */
import type { Log, TopicInfo, TopicSettings } from "../kafka/log.ts";
import { CatalogState } from "../proto/gen/throughline/stored/v1/stored.ts";
import { type AllowedNames, NOTHING_ALLOWED } from "./allowed-names.ts";
import { annotationOf, DELETE_ADOPTED } from "./annotations.ts";
import { type CatalogWriter, Superseded } from "./catalog-writer.ts";
import { done, Refused } from "./kafka-outcome.ts";
import type { OtherDeployments, OtherHolder } from "./other-deployments.ts";
import {
  idOf,
  isOwnName,
  isTaking,
  type Observed,
  type Plan,
  planAfterTaking,
  planTopic,
  type Recorded,
  type Step,
} from "./plan.ts";
import { kafkaTopicOf, maxEventBytesOf, nameOf, partitionsOf } from "./topic-spec.ts";
import type { TopicResource } from "./validate.ts";

const ORDERINGS = { Key: 1, Total: 2, Commit: 3 } as const;

/** Why a Topic is as it is: a stable word for programs, a sentence for people. */
export interface Why {
  readonly reason: string;
  readonly message: string;
}

/** The Ready condition of a Topic, and what it has in Kafka. */
export interface TopicStatus extends Why {
  readonly ready: boolean;
  readonly kafkaTopic: string;
  /** Id of the Kafka topic that this Topic owns, also when that is lost; empty when it owns none. */
  readonly topicId: string;
  /** Its Kafka topic was there before. */
  readonly adopted: boolean;
  /** As Kafka has them; 0 when it has no such topic. */
  readonly partitions: number;
  readonly replicas: number;
}

/** What the source of a Topic knows beside it. */
export interface Owner {
  readonly uid: string;
  readonly generation: number;
  readonly clusterUid: string;
  readonly recorded?: Recorded | undefined;
  /** Other Topics that name the same Kafka topic and are older, the oldest first. */
  readonly older?: readonly TopicResource[];
}

export interface Rules {
  /** Beside the names of its namespace; default none. */
  readonly allowed?: AllowedNames;
  /**
   * What a person is told of a Topic whose Outbox is not there; undefined: it is, or nobody knows. Default: nobody
   * knows.
   */
  readonly outboxMissing?: (topic: TopicResource) => string | undefined;
  /** Who else uses this Kafka; default nobody. */
  readonly others?: OtherDeployments;
  /** Asked before each deed in Kafka; default always. */
  readonly mayAct?: () => boolean;
}

export class Reconciler {
  readonly #log: Log;
  readonly #catalog: CatalogWriter;
  readonly #allowed: AllowedNames;
  readonly #others: OtherDeployments | undefined;
  readonly #outboxMissing: (topic: TopicResource) => string | undefined;
  readonly #mayAct: () => boolean;

  constructor(log: Log, catalog: CatalogWriter, rules: Rules = {}) {
    this.#log = log;
    this.#catalog = catalog;
    this.#allowed = rules.allowed ?? NOTHING_ALLOWED;
    this.#others = rules.others;
    this.#outboxMissing = rules.outboxMissing ?? (() => undefined);
    this.#mayAct = rules.mayAct ?? (() => true);
  }

  /** Makes Kafka and the catalog what the Topic says. Never rejects for what Kafka refuses. */
  async apply(topic: TopicResource, owner: Owner): Promise<TopicStatus> {
    let kafka: TopicInfo | undefined;
    let problem: Why | undefined;
    try {
      // Without a record a Kafka topic is about to be taken, whatever is found there.
      const isNew = !this.#catalog.records.has(nameOf(topic));
      const [seen] = await Promise.all([
        this.#observe(topic, owner),
        isNew && this.#others?.refresh(),
      ]);
      kafka = seen.kafka;
      const taking = isTaking(seen);
      if (taking && !isNew) await this.#others?.refresh();
      const others = (): readonly OtherHolder[] => this.#others?.holders(kafkaTopicOf(topic)) ?? [];
      const act = async (plan: Plan): Promise<void> => {
        for (const step of plan.steps) kafka = await this.#step(step, topic, owner, kafka);
        problem = plan.problem;
      };
      await act(planTopic({ ...seen, others: others() }));
      const record = this.#catalog.records.get(nameOf(topic));
      if (taking && this.#others && record && idOf(record) === kafka?.id) {
        await this.#others.refresh();
        const after = planAfterTaking({ ...seen, record, kafka, others: others() });
        if (after) await act(after);
      }
    } catch (error) {
      problem = whyOf(error);
    }
    const record = this.#catalog.records.get(nameOf(topic));
    return {
      ready: problem === undefined,
      ...(problem ?? this.#unfed(topic) ?? { reason: "Ready", message: served(topic, record) }),
      kafkaTopic: kafkaTopicOf(topic),
      topicId: record ? idOf(record) : "",
      adopted: record?.adopted ?? false,
      partitions: kafka?.partitions ?? 0,
      replicas: kafka?.replicas ?? 0,
    };
  }

  /**
   * The Topic is no more: its Kafka topic goes only by policy, and by recorded id (P9).
   * @param deleteAdopted names the id of one that was there before the Topic: without it such a one stays.
   * @returns why it cannot go now; undefined when all is done.
   */
  async delete(
    name: string,
    policy: "Retain" | "Delete",
    deleteAdopted?: string,
  ): Promise<Why | undefined> {
    try {
      const record = this.#catalog.records.get(name);
      if (!record) {
        await this.#deleteBegun(name);
        return undefined;
      }
      const id = idOf(record);
      if (policy === "Retain" || (record.adopted && deleteAdopted !== id)) {
        await this.#catalog.put(name, { ...record, state: CatalogState.CATALOG_STATE_RETAINED });
      } else {
        await this.#deleteKafkaTopic(id);
        await this.#catalog.remove(name);
      }
      return undefined;
    } catch (error) {
      return whyOf(error);
    }
  }

  /**
   * An operator died when it had made it, or not, and had not recorded it: no server knew it. One with an event
   * in it may be another's, and stays (P9).
   */
  async #deleteBegun(name: string): Promise<void> {
    const kafkaTopic = this.#catalog.begun.get(name);
    if (kafkaTopic !== undefined) {
      const kafka = await this.#describe(kafkaTopic);
      const isHeld = this.#catalog.records
        .sharing(kafkaTopic)
        .some(([, record]) => idOf(record) === kafka?.id);
      if (kafka && !isHeld && (await this.#isEmpty(kafka))) await this.#deleteKafkaTopic(kafka.id);
    }
    await this.#catalog.abandon(name);
  }

  async #deleteKafkaTopic(id: string): Promise<void> {
    this.#assertLeading();
    const deleted = await this.#log.admin.deleteTopic(id);
    if (deleted.kind !== "refused" || deleted.error !== "UNKNOWN_TOPIC_ID") done(deleted);
  }

  async #isEmpty(kafka: TopicInfo): Promise<boolean> {
    const ends = await Promise.all(
      Array.from({ length: kafka.partitions }, (_, i) => this.#log.offset(kafka, i, "latest")),
    );
    return ends.every((end) => end.kind === "offset" && end.offset === 0);
  }

  /** It is Ready all the same: its stream is served. */
  #unfed(topic: TopicResource): Why | undefined {
    const message = this.#outboxMissing(topic);
    return message === undefined ? undefined : { reason: "OutboxMissing", message };
  }

  async #describe(kafkaTopic: string): Promise<TopicInfo | undefined> {
    return done(await this.#log.admin.describeTopics([kafkaTopic])).get(kafkaTopic);
  }

  async #observe(topic: TopicResource, owner: Owner): Promise<Omit<Observed, "others">> {
    const name = nameOf(topic);
    const { namespace } = topic.metadata;
    const kafkaTopic = kafkaTopicOf(topic);
    const { records, begun, deploymentId } = this.#catalog;
    const holders = records
      .sharing(kafkaTopic)
      .flatMap(([other, record]) => (other === name ? [] : [{ name: other, record }]));
    // Who may not have it, or has another, keeps nobody waiting.
    const older = owner.older?.find(
      (other) =>
        !records.has(nameOf(other)) &&
        (isOwnName(other) || this.#allowed.mayName(other.metadata.namespace, kafkaTopic)),
    );
    const kafka = await this.#describe(kafkaTopic);
    const settings: TopicSettings = kafka ? done(await this.#log.admin.settings(kafkaTopic)) : {};
    return {
      ...{ topic, holders, kafka, settings, deploymentId, recorded: owner.recorded },
      record: records.get(name),
      begun: begun.get(name),
      older: older && nameOf(older),
      mayName: this.#allowed.mayName(namespace, kafkaTopic),
      mayAdopt: this.#allowed.mayAdopt(namespace, kafkaTopic),
      toAdopt: this.#allowed.toAdopt,
    };
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
        this.#assertLeading();
        done(await admin.createPartitions(name, step.partitions));
        return kafka && { ...kafka, partitions: step.partitions };
      case "change-settings":
        this.#assertLeading();
        done(await admin.changeSettings(name, step.set, step.unset));
        return kafka;
      case "record":
        await this.#record(topic, owner, step, kafka);
        return kafka;
      case "release":
        await this.#catalog.remove(step.name);
        return kafka;
    }
  }

  /** A leader that was frozen and thaws finds here that it is none. The catalog's fence says the same. */
  #assertLeading(): void {
    if (!this.#mayAct()) throw new Superseded("this operator is the leader no more");
  }

  /** Says so before it makes it: who dies in between finds his own topic, not a stranger's. */
  async #create(topic: TopicResource, settings: TopicSettings): Promise<TopicInfo> {
    const name = nameOf(topic);
    // An attempt of which nobody knows how it ended may have made it by now.
    const wasBegun = this.#catalog.begun.get(name) === kafkaTopicOf(topic);
    await this.#catalog.begin(name, kafkaTopicOf(topic));
    this.#assertLeading();
    const made = await this.#log.admin.createTopic({
      name: kafkaTopicOf(topic),
      partitions: partitionsOf(topic),
      replicas: topic.spec.replicas ?? -1,
      settings,
    });
    if (made.kind === "refused" && wasBegun && made.error === "TOPIC_ALREADY_EXISTS")
      throw new Refused("KafkaUnavailable", `${made.reason} It is looked at again.`);
    // A refusal is certain: nothing of ours is there. Anything else may have made it.
    if (made.kind === "refused") await this.#catalog.abandon(name);
    return done(made);
  }

  async #record(
    topic: TopicResource,
    owner: Owner,
    { state, adopted }: Extract<Step, { do: "record" }>,
    kafka: TopicInfo | undefined,
  ): Promise<void> {
    const name = nameOf(topic);
    const before = this.#catalog.records.get(name);
    // Of a topic whose data is lost, the record keeps the identity that was lost.
    const ready = state === CatalogState.CATALOG_STATE_READY;
    const known = before ? idOf(before) : owner.recorded?.topicId;
    const id = ready && kafka ? kafka.id : known;
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
      topicId: Buffer.from(id, "hex"),
      partitions: kafka?.partitions ?? before?.partitions ?? partitionsOf(topic),
      ordering: ORDERINGS[spec.ordering ?? "Key"],
      outbox: spec.outbox ?? "",
      maxEventBytes: maxEventBytesOf(topic),
      publishNamespaces: [...(spec.access?.publish ?? [])],
      subscribeNamespaces: [...(spec.access?.subscribe ?? [])],
      clusterUid: owner.clusterUid,
      takenAtMs: before && idOf(before) === id ? before.takenAtMs : BigInt(this.#catalog.now()),
      adopted,
    });
  }
}

function whyOf(error: unknown): Why {
  const { message } = error as Error;
  if (error instanceof Refused) return { reason: error.reason, message };
  return { reason: error instanceof Superseded ? "Superseded" : "KafkaUnavailable", message };
}

function served(
  topic: TopicResource,
  record: { readonly adopted: boolean; readonly topicId: Buffer } | undefined,
): string {
  const isServed = "The stream is served.";
  if (!record?.adopted || topic.spec.deletionPolicy !== "Delete") return isServed;
  const id = record.topicId.toString("hex");
  return annotationOf(topic, DELETE_ADOPTED) === id
    ? isServed
    : `${isServed} Its Kafka topic was there before and stays when this Topic is deleted; if it is to go too, annotate the Topic with ${DELETE_ADOPTED}: ${id}.`;
}
