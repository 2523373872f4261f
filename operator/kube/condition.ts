/** One condition of a status; the time is of its last change. */
import type { Condition, KubeResource } from "./resource-api.ts";

export function conditionOf(
  { metadata, status }: KubeResource,
  said: Pick<Condition, "type" | "status" | "reason" | "message">,
  now: () => string,
): Condition {
  const before = status?.conditions?.find(({ type }) => type === said.type);
  const lastTransitionTime = before?.status === said.status ? before.lastTransitionTime : now();
  return { ...said, lastTransitionTime, observedGeneration: metadata.generation };
}

/** What Kafka, a database or a network says has a full stop or not; another sentence follows. */
export function sentence(words: string): string {
  return /[.!?]$/.test(words) ? words : `${words}.`;
}
