/**
 * Decides (pure): an ordered list of named checks over what was observed, each with the reason that the
 * user will see (P9). The first that is not satisfied says what to do; acting is `reconcile.ts`.
 */
import type { TopicInfo, TopicSettings } from "../kafka/log.ts";
import type { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { CatalogState } from "../proto/gen/throughline/stored/v1/stored.ts";
import { ACCEPT_LOSS, annotationOf } from "./annotations.ts";
import type { OtherHolder } from "./other-deployments.ts";
import { kafkaTopicOf, partitionsOf, settingsOf } from "./topic-spec.ts";
import type { TopicResource } from "./validate.ts";

/** Kafka's own tools set these while they move replicas; they are nobody's wish for the Topic. */
const LEFT_ALONE = [
  "leader.replication.throttled.replicas",
  "follower.replication.throttled.replicas",
];

/** The Kafka topic of a Topic, as its status has it. */
export interface Recorded {
  readonly topicId: string;
  readonly adopted: boolean;
}

export interface Observed {
  readonly topic: TopicResource;
  /** What the catalog says of this Topic; undefined when it is new. */
  readonly record: CatalogRecord | undefined;
  /** What its status said before: it speaks when the catalog was lost. */
  readonly recorded: Recorded | undefined;
  /** The Kafka topic that was about to be made for this Topic when an operator died. */
  readonly begun: string | undefined;
  /** Other Topics that name the same Kafka topic. */
  readonly holders: readonly { readonly name: string; readonly record: CatalogRecord }[];
  /** The oldest Topic that asks for the same Kafka topic, and may; undefined when this one is. */
  readonly older: string | undefined;
  readonly deploymentId: string;
  /** Records of other deployments that name the same Kafka topic. */
  readonly others: readonly OtherHolder[];
  /** Whether it may have this name outside its namespace, and a topic that exists. */
  readonly mayName: boolean;
  readonly mayAdopt: boolean;
  readonly toAdopt: string;
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
  | { readonly do: "record"; readonly state: CatalogState; readonly adopted: boolean }
  /** The record of this Topic, or of one that was deleted, goes: the Kafka topic is another's. */
  | { readonly do: "release"; readonly name: string };

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

/** Also looked at when a Kafka topic was just taken: another deployment may have done so at the same time. */
const NO_OTHER_DEPLOYMENT: Check = {
  name: "no other deployment holds the Kafka topic",
  check: ({ topic, record, kafka, others, deploymentId }) => {
    const own = record && idOf(record) === kafka?.id ? record : undefined;
    const holder = others.find(
      (other) =>
        (!isRetained(other.record) || kafka?.id === idOf(other.record)) &&
        (!own || isOlder(other, { deploymentId, record: own })),
    );
    if (!holder) return undefined;
    const { record: its, deploymentId: id } = holder;
    return {
      steps: own ? [{ do: "release", name: fullName(own) }] : [],
      problem: {
        reason: "Conflict",
        message: `Kafka topic "${kafkaTopicOf(topic)}" ${isRetained(its) ? "is retained for" : "is held by"} Topic ${fullName(its)} of deployment "${id}". ${ANEW}`,
      },
    };
  },
};

const CHECKS: readonly Check[] = [
  {
    name: "the Kafka name is the namespace's own, or allowed",
    check: ({ topic, record, mayName }) => {
      const { namespace } = topic.metadata;
      return isOwnName(topic) || mayName || record
        ? undefined
        : stop(
            "NameNotAllowed",
            `Kafka topic "${kafkaTopicOf(topic)}" does not begin with "${namespace}."; a name outside the namespace needs the operator's allow-list. ${ANEW}`,
          );
    },
  },
  {
    name: "no other Topic holds the Kafka topic",
    check: ({ holders, topic, record, kafka, mayAdopt, toAdopt }) => {
      const isOurs = record !== undefined && !isRetained(record) && kafka?.id === idOf(record);
      // One that was retained, with nothing left to retain, frees the name; else who may adopt takes it.
      const holder = holders.find(({ record: its }) =>
        isRetained(its) ? kafka?.id === idOf(its) && !mayAdopt && !isOurs : true,
      );
      if (!holder) return undefined;
      const name = kafkaTopicOf(topic);
      return isRetained(holder.record)
        ? stop(
            "Conflict",
            `Kafka topic "${name}" is retained for Topic ${holder.name}, which was deleted. ${ways(toAdopt)}`,
          )
        : stop("Conflict", `Kafka topic "${name}" is held by Topic ${holder.name}. ${ANEW}`);
    },
  },
  {
    name: "no older Topic asks for the Kafka topic",
    check: ({ older, record, begun, topic }) =>
      older === undefined || record || begun === kafkaTopicOf(topic)
        ? undefined
        : stop(
            "Conflict",
            `Kafka topic "${kafkaTopicOf(topic)}" is asked for by Topic ${older} too, which is older. ${ANEW}`,
          ),
  },
  {
    name: "the Topic's data is in the Kafka topic that it names",
    check: ({ record, topic }) => {
      if (!record || record.kafkaTopic === kafkaTopicOf(topic) || accepts(topic, idOf(record)))
        return undefined;
      return stop(
        "OtherKafkaTopic",
        `The data of this Topic is in Kafka topic "${record.kafkaTopic}"; set spec.kafkaTopic: ${record.kafkaTopic}, or to leave that data behind annotate the Topic with ${ACCEPT_LOSS}: ${idOf(record)}.`,
      );
    },
  },
  {
    name: "recorded data is still there",
    check: ({ record, recorded, kafka, topic }) => {
      const id = record ? idOf(record) : recorded?.topicId;
      if (id === undefined || kafka?.id === id || accepts(topic, id)) return undefined;
      const [found, next] = kafka
        ? [`has another id (${kafka.id})`, "with what is there now"]
        : ["is gone", "with an empty one"];
      const name = record?.kafkaTopic ?? kafkaTopicOf(topic);
      const adopted = record?.adopted ?? recorded?.adopted ?? false;
      return {
        steps: [{ do: "record", state: CatalogState.CATALOG_STATE_DATA_LOST, adopted }],
        problem: {
          reason: "DataLost",
          message: `Kafka topic "${name}" (id ${id}) ${found}; to go on ${next}, annotate the Topic with ${ACCEPT_LOSS}: ${id}.`,
        },
      };
    },
  },
  NO_OTHER_DEPLOYMENT,
  {
    name: "a Kafka topic that is not ours is not taken, unless it may be adopted",
    check: (observed) => {
      const { kafka, topic, mayAdopt, toAdopt } = observed;
      if (!kafka || isOurs(observed, kafka) || mayAdopt) return undefined;
      return stop(
        "NotOurs",
        `Kafka topic "${kafkaTopicOf(topic)}" exists and no Topic of this deployment made it. ${ways(toAdopt)}`,
      );
    },
  },
  {
    name: "what is adopted is as it is declared: nothing that it has set falls away unsaid",
    check: (observed) => {
      const { kafka, topic, settings } = observed;
      if (!kafka || isOurs(observed, kafka)) return undefined;
      const undeclared = notWanted(topic, settings);
      if (undeclared.length === 0) return undefined;
      const list = undeclared.map((key) => `${key}=${settings[key]}`).join(", ");
      return stop(
        "SettingsDiffer",
        `Kafka topic "${kafka.name}" has settings that the spec does not name, and adopting it would end them: ${list}. Say what it should have in spec.retention, spec.limits and spec.config, or remove them from the Kafka topic (a compacted one cannot be a Topic).`,
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
              { do: "record", state: CatalogState.CATALOG_STATE_READY, adopted: false },
            ],
            problem: undefined,
          },
  },
];

/** A name cannot be changed, so the way out is another Topic. */
const ANEW = "Delete this Topic and make one with another spec.kafkaTopic.";

function ways(toAdopt: string): string {
  return toAdopt === "" ? ANEW : `${toAdopt} Or: ${ANEW}`;
}

/** What to do for a Topic that should be. */
export function planTopic(observed: Observed): Plan {
  for (const { check } of CHECKS) {
    const plan = check(observed);
    if (plan) return plan;
  }
  const { topic, kafka, settings, holders } = observed;
  const steps: Step[] = [];
  const partitions = partitionsOf(topic);
  if (kafka && kafka.partitions < partitions) steps.push({ do: "grow", partitions });
  const wanted = settingsOf(topic);
  const set = Object.fromEntries(
    Object.entries(wanted).filter(([key, value]) => settings[key] !== value),
  );
  // What is set on the topic and not in the spec was removed from it, or is drift; both end (P9).
  const unset = notWanted(topic, settings);
  if (Object.keys(set).length + unset.length > 0) steps.push({ do: "change-settings", set, unset });
  const adopted = kafka !== undefined && isAdopted(observed, kafka);
  steps.push({ do: "record", state: CatalogState.CATALOG_STATE_READY, adopted });
  for (const { name } of holders) steps.push({ do: "release", name });
  return { steps, problem: kafka && differenceThatStays(topic, kafka) };
}

/** What to do when a Kafka topic was just taken and recorded. */
export function planAfterTaking(observed: Observed): Plan | undefined {
  return NO_OTHER_DEPLOYMENT.check(observed);
}

/** Whether what comes makes a Kafka topic this Topic's that was not before. */
export function isTaking({ record, kafka }: Pick<Observed, "record" | "kafka">): boolean {
  return !record || idOf(record) !== kafka?.id;
}

export function isOwnName(topic: TopicResource): boolean {
  return kafkaTopicOf(topic).startsWith(`${topic.metadata.namespace}.`);
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

function accepts(topic: TopicResource, id: string): boolean {
  return annotationOf(topic, ACCEPT_LOSS) === id;
}

/** Recorded, or made by an operator that died before it said so; after an accepted loss, what is there now. */
function isOurs({ record, recorded, begun, topic }: Observed, kafka: TopicInfo): boolean {
  const name = kafkaTopicOf(topic);
  if (record?.kafkaTopic === name || begun === name) return true;
  return (
    recorded !== undefined && (recorded.topicId === kafka.id || accepts(topic, recorded.topicId))
  );
}

/**
 * Whether the Kafka topic was there before it was this Topic's: one that says so is enough, since an older release
 * that was there meanwhile drops it from what it writes.
 */
function isAdopted({ record, recorded, begun, topic }: Observed, kafka: TopicInfo): boolean {
  const own = record && idOf(record) === kafka.id ? record : undefined;
  const said = recorded?.topicId === kafka.id ? recorded : undefined;
  if (own || said) return own?.adopted === true || said?.adopted === true;
  return begun !== kafkaTopicOf(topic);
}

function notWanted(topic: TopicResource, settings: TopicSettings): string[] {
  const wanted = settingsOf(topic);
  return Object.keys(settings).filter((key) => !(key in wanted) && !LEFT_ALONE.includes(key));
}

/** By when it took the Kafka topic; of two that say the same time, by name, so that both say the same. */
function isOlder(one: OtherHolder, other: OtherHolder): boolean {
  const [a, b] = [one.record.takenAtMs, other.record.takenAtMs];
  return a < b || (a === b && one.deploymentId < other.deploymentId);
}

function fullName({ namespace, name }: CatalogRecord): string {
  return `${namespace}/${name}`;
}

function isRetained(record: CatalogRecord): boolean {
  return record.state === CatalogState.CATALOG_STATE_RETAINED;
}

export function idOf(record: CatalogRecord): string {
  return record.topicId.toString("hex");
}

function stop(reason: string, message: string): Plan {
  return { steps: [], problem: { reason, message } };
}
