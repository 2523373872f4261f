/**
 * Decides (pure): an ordered list of named checks over what was observed, each with the reason that the
 * user will see (P9). The first that is not satisfied says what to do; acting is `reconcile.ts`.
 */
import type { TopicInfo, TopicSettings } from "../kafka/log.ts";
import type { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { CatalogState } from "../proto/gen/throughline/stored/v1/stored.ts";
import { kafkaTopicOf, partitionsOf, settingsOf } from "./topic-spec.ts";
import type { TopicResource } from "./validate.ts";

/** Names the id of a Kafka topic whose data is lost and need not come back. */
const ACCEPT_LOSS = "throughline.dev/accept-loss";
/** Kafka's own tools set these while they move replicas; they are nobody's wish for the Topic. */
const LEFT_ALONE = [
  "leader.replication.throttled.replicas",
  "follower.replication.throttled.replicas",
];

export interface Observed {
  readonly topic: TopicResource;
  /** What the catalog says of this Topic; undefined when it is new. */
  readonly record: CatalogRecord | undefined;
  /** The Kafka topic that was about to be made for this Topic when an operator died. */
  readonly begun: string | undefined;
  /** Other Topics that name the same Kafka topic. */
  readonly holders: readonly { readonly name: string; readonly record: CatalogRecord }[];
  /** Whether a name outside the Topic's namespace is on the operator's allow-list. */
  readonly allowed: boolean;
  /** The Kafka topic, if it is there. */
  readonly kafka: TopicInfo | undefined;
  readonly settings: TopicSettings;
}

export type Step =
  | { readonly do: "create"; readonly settings: TopicSettings }
  | { readonly do: "grow"; readonly partitions: number }
  | {
      readonly do: "change-settings";
      readonly set: TopicSettings;
      readonly unset: readonly string[];
    }
  | { readonly do: "record"; readonly state: CatalogState };

export interface Plan {
  readonly steps: readonly Step[];
  /** Why the Topic is not Ready after the steps; undefined when it is. */
  readonly problem: { readonly reason: string; readonly message: string } | undefined;
}

interface Check {
  readonly name: string;
  /** A plan when the check is not satisfied. */
  readonly check: (observed: Observed) => Plan | undefined;
}

const CHECKS: readonly Check[] = [
  {
    name: "the Kafka name is the namespace's own, or allowed",
    check: ({ topic, record, allowed }) => {
      const { namespace } = topic.metadata;
      const own = kafkaTopicOf(topic).startsWith(`${namespace}.`);
      return own || allowed || record
        ? undefined
        : stop(
            "NameNotAllowed",
            `Kafka topic "${kafkaTopicOf(topic)}" does not begin with "${namespace}."; a name outside the namespace needs the operator's allow-list. ${ANEW}`,
          );
    },
  },
  {
    name: "no other Topic holds the Kafka topic",
    check: ({ holders, topic, kafka }) => {
      // One that was retained, with nothing left to retain, frees the name.
      const holder = holders.find(
        ({ record }) => !isRetained(record) || kafka?.id === idOf(record),
      );
      if (!holder) return undefined;
      const held = isRetained(holder.record)
        ? `is retained for Topic ${holder.name}, which was deleted`
        : `is held by Topic ${holder.name}`;
      return stop("Conflict", `Kafka topic "${kafkaTopicOf(topic)}" ${held}. ${ANEW}`);
    },
  },
  {
    name: "the Topic's data is in the Kafka topic that it names",
    check: ({ record, topic }) => {
      if (!record || record.kafkaTopic === kafkaTopicOf(topic) || accepts(topic, record))
        return undefined;
      return stop(
        "OtherKafkaTopic",
        `The data of this Topic is in Kafka topic "${record.kafkaTopic}"; set spec.kafkaTopic: ${record.kafkaTopic}, or to leave that data behind annotate the Topic with ${ACCEPT_LOSS}: ${idOf(record)}.`,
      );
    },
  },
  {
    name: "recorded data is still there",
    check: ({ record, kafka, topic }) => {
      if (!record || kafka?.id === idOf(record) || accepts(topic, record)) return undefined;
      const id = idOf(record);
      const [found, next] = kafka
        ? [`has another id (${kafka.id})`, "with what is there now"]
        : ["is gone", "with an empty one"];
      return {
        steps: [{ do: "record", state: CatalogState.CATALOG_STATE_DATA_LOST }],
        problem: {
          reason: "DataLost",
          message: `Kafka topic "${record.kafkaTopic}" (id ${id}) ${found}; to go on ${next}, annotate the Topic with ${ACCEPT_LOSS}: ${id}.`,
        },
      };
    },
  },
  {
    name: "a Kafka topic that is not ours is not taken",
    check: ({ record, begun, kafka, topic }) => {
      if (!kafka) return undefined;
      const name = kafkaTopicOf(topic);
      if (record?.kafkaTopic === name || begun === name) return undefined;
      return stop(
        "NotOurs",
        `Kafka topic "${name}" exists and no Topic of this deployment made it. ${ANEW}`,
      );
    },
  },
  {
    name: "one partition where the order is total",
    check: ({ topic, kafka }) => {
      const { ordering = "Key" } = topic.spec;
      if (!kafka || ordering === "Key" || kafka.partitions === 1) return undefined;
      return stop(
        "MorePartitions",
        `Kafka topic "${kafka.name}" has ${kafka.partitions} partitions and ordering ${ordering} needs one; Kafka cannot remove partitions. ${ANEW}`,
      );
    },
  },
  {
    name: "the Kafka topic exists",
    check: ({ topic, kafka }) =>
      kafka
        ? undefined
        : {
            steps: [
              { do: "create", settings: settingsOf(topic) },
              { do: "record", state: CatalogState.CATALOG_STATE_READY },
            ],
            problem: undefined,
          },
  },
];

/** A name cannot be changed, so the way out is another Topic. */
const ANEW = "Delete this Topic and make one with another spec.kafkaTopic.";

/** What to do for a Topic that should be. */
export function planTopic(observed: Observed): Plan {
  for (const { check } of CHECKS) {
    const plan = check(observed);
    if (plan) return plan;
  }
  const { topic, kafka, settings } = observed;
  const steps: Step[] = [];
  const partitions = partitionsOf(topic);
  if (kafka && kafka.partitions < partitions) steps.push({ do: "grow", partitions });
  const wanted = settingsOf(topic);
  const set = Object.fromEntries(
    Object.entries(wanted).filter(([key, value]) => settings[key] !== value),
  );
  // What is set on the topic and not in the spec was removed from it, or is drift; both end (P9).
  const unset = Object.keys(settings).filter(
    (key) => !(key in wanted) && !LEFT_ALONE.includes(key),
  );
  if (Object.keys(set).length + unset.length > 0) steps.push({ do: "change-settings", set, unset });
  steps.push({ do: "record", state: CatalogState.CATALOG_STATE_READY });
  return { steps, problem: kafka && differenceThatStays(topic, kafka) };
}

/** The stream is served, and Kafka is not what the spec says: status tells it. */
function differenceThatStays(topic: TopicResource, kafka: TopicInfo): Plan["problem"] {
  const partitions = partitionsOf(topic);
  if (kafka.partitions > partitions) {
    return {
      reason: "MorePartitions",
      message: `Kafka topic "${kafka.name}" has ${kafka.partitions} partitions, spec.partitions says ${partitions}; Kafka cannot remove partitions, so raise it.`,
    };
  }
  const { replicas } = topic.spec;
  if (replicas !== undefined && replicas !== kafka.replicas) {
    return {
      reason: "ReplicasDiffer",
      message: `Kafka topic "${kafka.name}" has ${kafka.replicas} replicas, spec.replicas says ${replicas}; move them with kafka-reassign-partitions, or set spec.replicas to ${kafka.replicas}.`,
    };
  }
  return undefined;
}

function accepts(topic: TopicResource, record: CatalogRecord): boolean {
  return topic.metadata.annotations?.[ACCEPT_LOSS] === idOf(record);
}

function isRetained(record: CatalogRecord): boolean {
  return record.state === CatalogState.CATALOG_STATE_RETAINED;
}

function idOf(record: CatalogRecord): string {
  return record.topicId.toString("hex");
}

function stop(reason: string, message: string): Plan {
  return { steps: [], problem: { reason, message } };
}
