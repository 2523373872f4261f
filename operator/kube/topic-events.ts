/**
 * What a person is told as an Event (pure): by what has changed in a Topic's status, so that it is told once,
 * not on every attempt, and not again by the next operator. That a new Topic was made as declared is in its status.
 *
 * What befalls all Topics at once, Kafka being away, is said in status and log only.
 */
import { kafkaTopicOf } from "../topic-spec.ts";
import type { Condition, ToldEvent } from "./resource-api.ts";
import type { KubeStatus, KubeTopic } from "./topic-api.ts";

const UNTOLD = ["KafkaUnavailable", "CatalogUnavailable", "Paused"];

export function eventsOf(topic: KubeTopic, after: KubeStatus): ToldEvent[] {
  const before = topic.status ?? {};
  return [...readiness(before, after), ...growth(topic, before, after)];
}

function readiness(before: KubeStatus, after: KubeStatus): ToldEvent[] {
  const [was, is] = [readyOf(before), readyOf(after)];
  if (!is) return [];
  const isAdopted = after.adopted === true && before.topicId !== after.topicId;
  const how = isAdopted ? "It was there before and is adopted. " : "";
  if (is.status === "True") {
    const isBack = was !== undefined && was.status !== "True" && !UNTOLD.includes(was.reason);
    const isUnfed = is.reason === "OutboxMissing" && (!before.topicId || was?.reason === "Ready");
    if (!isAdopted && !isBack && !isUnfed) return [];
    const what = `Kafka topic "${after.kafkaTopic}" (id ${after.topicId}). `;
    const type = is.reason === "OutboxMissing" ? "Warning" : "Normal";
    return [{ type, reason: is.reason, note: `${what}${how}${is.message}` }];
  }
  const isNews =
    was?.reason !== is.reason ||
    (was.message !== is.message && was.observedGeneration !== is.observedGeneration);
  return isNews && !UNTOLD.includes(is.reason)
    ? [{ type: "Warning", reason: is.reason, note: `${how}${is.message}` }]
    : [];
}

function growth(topic: KubeTopic, before: KubeStatus, after: KubeStatus): ToldEvent[] {
  const [had = 0, has = 0] = [before.partitions, after.partitions];
  // Another Kafka topic has not grown.
  if (had === 0 || has <= had || before.topicId !== after.topicId) return [];
  const note = `Kafka topic "${kafkaTopicOf(topic)}" has ${has} partitions now, it had ${had}: keys move to other partitions, so the order of events with one key holds from here on, not across this point.`;
  return [{ type: "Warning", reason: "PartitionsGrew", note }];
}

function readyOf(status: KubeStatus): Condition | undefined {
  return status.conditions?.find(({ type }) => type === "Ready");
}
