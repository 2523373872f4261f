/** What a valid Topic means to Kafka: names, counts and settings, with the defaults of the schema. */
import type { TopicSettings } from "../kafka/log.ts";
import { bytesOf, millisecondsOf } from "./quantities.ts";
import type { TopicResource } from "./validate.ts";

const DEFAULT_MAX_EVENT_BYTES = 1 << 20;
/** Room for key, headers and batch beside the payload. */
const MESSAGE_OVERHEAD_BYTES = 64 * 1024;

/** `<namespace>/<name>`. */
export function nameOf(topic: TopicResource): string {
  return `${topic.metadata.namespace}/${topic.metadata.name}`;
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

/** All that is set on the Kafka topic itself. */
export function settingsOf(topic: TopicResource): TopicSettings {
  const { retention, config } = topic.spec;
  return {
    ...config,
    "max.message.bytes": String(maxEventBytesOf(topic) + MESSAGE_OVERHEAD_BYTES),
    ...(retention?.time ? { "retention.ms": String(millisecondsOf(retention.time)) } : {}),
    ...(retention?.size ? { "retention.bytes": String(bytesOf(retention.size)) } : {}),
  };
}
