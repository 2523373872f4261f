/** What a Topic's `status` says, made of what its reconcile found; unchanged parts keep their times. */
import type { TopicStatus, Why } from "../reconcile.ts";
import { conditionOf } from "./condition.ts";
import type { Condition } from "./resource-api.ts";
import type { KubeStatus, KubeTopic } from "./topic-api.ts";

export interface Found extends Why {
  /** Unknown: nobody looked. */
  readonly ready: Condition["status"];
  /** Undefined: as it was when somebody looked last. */
  readonly kafka?: Pick<
    TopicStatus,
    "kafkaTopic" | "topicId" | "adopted" | "partitions" | "replicas"
  >;
}

/** @returns undefined when it says so already: nothing is written then. */
export function changedStatus(
  topic: KubeTopic,
  found: Found,
  now: () => string,
): KubeStatus | undefined {
  const { conditions: known = [], observedGeneration: _, ...figures } = topic.status ?? {};
  const observedGeneration = topic.metadata.generation;
  const own = [
    condition("Ready", found.ready, found.reason, found.message),
    ...dataLost(found, known).map((lost) => condition(...lost)),
  ];
  // Others' conditions stay.
  const others = known.filter(({ type }) => !own.some((one) => one.type === type));
  const { adopted, ...kafka } = found.kafka ?? {};
  const after: KubeStatus = {
    ...{ observedGeneration, ...figures, ...kafka },
    // Said only where it is or was so: an older CRD does not know it, and would make each status a new one.
    ...((adopted || figures.adopted) && { adopted: adopted ?? figures.adopted }),
    conditions: [...own, ...others],
  };
  const same = JSON.stringify(inOrder(topic.status ?? {})) === JSON.stringify(inOrder(after));
  return same ? undefined : after;

  function condition(
    type: string,
    status: Condition["status"],
    reason: string,
    message: string,
  ): Condition {
    return conditionOf(topic, { type, status, reason, message }, now);
  }
}

/** Said only where it is or was so. Who did not look knows nothing new of it. */
function dataLost(
  found: Found,
  known: readonly Condition[],
): [string, Condition["status"], string, string][] {
  if (found.reason === "DataLost") return [["DataLost", "True", "DataLost", found.message]];
  if (!found.kafka || !known.some(({ type }) => type === "DataLost")) return [];
  // While Kafka is away nothing was found either way.
  if (found.reason === "KafkaUnavailable") return [];
  return [["DataLost", "False", "NoLoss", "The events that were recorded are there."]];
}

/** An API server gives fields in an order of its own. */
function inOrder({ conditions = [], ...rest }: KubeStatus): unknown {
  const sorted = (value: object): [string, unknown][] =>
    Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [sorted(rest), conditions.map(sorted)];
}
