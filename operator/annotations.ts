/** The annotations of a Topic: what a person says beside its spec. */
import type { TopicResource } from "./validate.ts";

const PREFIX = "throughline.dev/";
/** "true" stops all changes to a Topic's Kafka topic; deleting a paused Topic keeps it. */
export const PAUSE = `${PREFIX}pause`;
/** Names the id of a Kafka topic whose data is lost and need not come back. */
export const ACCEPT_LOSS = `${PREFIX}accept-loss`;
/** Names the id of an adopted Kafka topic that is to go with its Topic; the second step after the policy. */
export const DELETE_ADOPTED = `${PREFIX}delete-adopted`;
/** "true" lets a Topic go whose Kafka topic cannot be deleted now; the Kafka topic stays. */
export const ABANDON = `${PREFIX}abandon-kafka-topic`;

const SWITCHES = [PAUSE, ABANDON];
const ALL = [...SWITCHES, ACCEPT_LOSS, DELETE_ADOPTED];

export function annotationOf(topic: TopicResource, name: string): string | undefined {
  return topic.metadata.annotations?.[name];
}

export function isOn(topic: TopicResource, name: typeof PAUSE | typeof ABANDON): boolean {
  return annotationOf(topic, name) === "true";
}

/**
 * What of our own name nobody here understands, as a sentence with what to do. A Topic with such an annotation is
 * left alone: who misspelt the pause meant it.
 */
export function misunderstood(topic: TopicResource): string | undefined {
  for (const [name, value] of Object.entries(topic.metadata.annotations ?? {})) {
    if (!name.startsWith(PREFIX)) continue;
    if (!ALL.includes(name))
      return `The annotation ${name} is not known; remove it, or use ${ALL.join(", ")}.`;
    if (SWITCHES.includes(name) && value !== "true" && value !== "false")
      return `The annotation ${name} is "${value}"; set it to "true" or "false", in quotes.`;
  }
  return undefined;
}
