/**
 * Decides (pure): an ordered list of named checks over what was observed, each with the reason that the
 * user will see (P9). The first that is not satisfied says what to do; acting is `apply.ts`.
 */
import type { TopicInfo, TopicSettings } from "../kafka/log.ts";
import type { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { bytesOf, millisecondsOf } from "./quantities.ts";
import type { TopicResource } from "./validate.ts";

const ACCEPT_LOSS = "throughline.dev/accept-loss";
const READY = 1;
const DATA_LOST = 2;
const DEFAULT_MAX_EVENT_BYTES = 1 << 20;
/** Room for key, headers and batch beside the payload. */
const MESSAGE_OVERHEAD_BYTES = 64 * 1024;

export interface Observed {
  readonly topic: TopicResource;
  /** What the catalog says of this Topic; undefined when it is new. */
  readonly record: CatalogRecord | undefined;
  /** The Topic that holds the same Kafka topic, if another does. */
  readonly holder: string | undefined;
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
  | { readonly do: "record"; readonly state: number };

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
    name: "no other Topic holds the Kafka topic",
    check: ({ holder, topic }) =>
      holder === undefined
        ? undefined
        : stop(
            "Conflict",
            `Kafka topic "${kafkaTopicOf(topic)}" is held by Topic ${holder}; choose another.`,
          ),
  },
  {
    name: "recorded data is still there",
    check: ({ record, kafka, topic }) => {
      if (!record) return undefined;
      const id = record.topicId.toString("hex");
      if (kafka?.id === id || topic.metadata.annotations?.[ACCEPT_LOSS] === id) return undefined;
      const found = kafka ? `has another id (${kafka.id})` : "is gone";
      return {
        steps: [{ do: "record", state: DATA_LOST }],
        problem: {
          reason: "DataLost",
          message: `Kafka topic "${record.kafkaTopic}" (id ${id}) ${found}; to go on without its data, annotate the Topic with ${ACCEPT_LOSS}: ${id}.`,
        },
      };
    },
  },
  {
    name: "a Kafka topic that is not ours is not taken",
    check: ({ record, kafka, topic }) => {
      if (!kafka || record?.topicId.toString("hex") === kafka.id) return undefined;
      return stop(
        "NotOurs",
        `Kafka topic "${kafkaTopicOf(topic)}" exists and no Topic of this deployment made it; choose another name.`,
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
              { do: "record", state: READY },
            ],
            problem: undefined,
          },
  },
];

/** What to do for a Topic that should be. */
export function planTopic(observed: Observed): Plan {
  for (const { check } of CHECKS) {
    const plan = check(observed);
    if (plan) return plan;
  }
  const { topic, kafka, settings } = observed;
  const steps: Step[] = [];
  const partitions = partitionsOf(topic);
  let problem: Plan["problem"];
  if (kafka && kafka.partitions < partitions) steps.push({ do: "grow", partitions });
  if (kafka && kafka.partitions > partitions) {
    problem = {
      reason: "MorePartitions",
      message: `Kafka topic "${kafka.name}" has ${kafka.partitions} partitions, spec.partitions says ${partitions}; Kafka cannot remove partitions, so raise it.`,
    };
  }
  const wanted = settingsOf(topic);
  const set = Object.fromEntries(
    Object.entries(wanted).filter(([key, value]) => settings[key] !== value),
  );
  const unset = Object.keys(settings).filter((key) => !(key in wanted));
  if (Object.keys(set).length + unset.length > 0) steps.push({ do: "change-settings", set, unset });
  steps.push({ do: "record", state: READY });
  return { steps, problem };
}

export function kafkaTopicOf(topic: TopicResource): string {
  return topic.spec.kafkaTopic ?? `${topic.metadata.namespace}.${topic.metadata.name}`;
}

export function partitionsOf(topic: TopicResource): number {
  return topic.spec.partitions ?? 1;
}

export function maxEventBytesOf(topic: TopicResource): number {
  const { limits } = topic.spec;
  return limits?.maxEventBytes ? bytesOf(limits.maxEventBytes) : DEFAULT_MAX_EVENT_BYTES;
}

function settingsOf(topic: TopicResource): TopicSettings {
  const { retention, config } = topic.spec;
  return {
    ...config,
    "max.message.bytes": String(maxEventBytesOf(topic) + MESSAGE_OVERHEAD_BYTES),
    ...(retention?.time ? { "retention.ms": String(millisecondsOf(retention.time)) } : {}),
    ...(retention?.size ? { "retention.bytes": String(bytesOf(retention.size)) } : {}),
  };
}

function stop(reason: string, message: string): Plan {
  return { steps: [], problem: { reason, message } };
}
