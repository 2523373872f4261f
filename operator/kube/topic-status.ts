/** What a Topic's `status` says, made of what its reconcile found; unchanged parts keep their times. */
import type { TopicStatus } from "../reconcile.ts";
import type { Condition, KubeStatus, KubeTopic } from "./topic-api.ts";

/** @returns undefined when it says so already: nothing is written then. */
export function changedStatus(
  topic: KubeTopic,
  found: TopicStatus,
  now: () => string,
): KubeStatus | undefined {
  const before = topic.status ?? {};
  const observedGeneration = topic.metadata.generation;
  const isLost = found.reason === "DataLost";
  const conditions = [
    condition("Ready", found.ready ? "True" : "False", found.reason, found.message),
    ...(isLost || conditionOf(before, "DataLost")
      ? [
          isLost
            ? condition("DataLost", "True", "DataLost", found.message)
            : condition("DataLost", "False", "NoLoss", "The events that were recorded are there."),
        ]
      : []),
  ];
  const after: KubeStatus = {
    ...{ observedGeneration, kafkaTopic: found.kafkaTopic, topicId: found.topicId },
    ...{ partitions: found.partitions, replicas: found.replicas, conditions },
  };
  return JSON.stringify(inOrder(before)) === JSON.stringify(inOrder(after)) ? undefined : after;

  function condition(
    type: string,
    status: "True" | "False",
    reason: string,
    message: string,
  ): Condition {
    const known = conditionOf(before, type);
    const lastTransitionTime = known?.status === status ? known.lastTransitionTime : now();
    return { type, status, reason, message, lastTransitionTime, observedGeneration };
  }
}

function conditionOf(status: KubeStatus | undefined, type: string): Condition | undefined {
  return status?.conditions?.find((one) => one.type === type);
}

/** An API server gives fields in an order of its own. */
function inOrder({ conditions = [], ...rest }: KubeStatus): unknown {
  const sorted = (value: object): [string, unknown][] =>
    Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return [sorted(rest), conditions.map(sorted)];
}
