/** Whether a topic is there no more: another of its name is, or for long enough none (log.ts: "gone"). */
import type { Cluster } from "./cluster.ts";
import { UNKNOWN_TOPIC_OR_PARTITION } from "./failures.ts";
import type { TopicInfo } from "./log.ts";
import { pause } from "./pause.ts";

/** Metadata may miss a topic that was just made; after this it is gone. */
const GONE_AFTER_MS = 3000;
const LOOK_EVERY_MS = 100;

/** @returns the name of one that is gone; undefined when all are there. Rejects when no broker answers. */
export async function firstGone(
  cluster: Cluster,
  topics: readonly TopicInfo[],
): Promise<string | undefined> {
  for (let missingSinceMs: number | undefined; ; await pause(LOOK_EVERY_MS)) {
    const { gone, missing } = await look(cluster, topics);
    if (gone !== undefined) return gone;
    if (missing === undefined) return undefined;
    missingSinceMs ??= performance.now();
    if (performance.now() - missingSinceMs > GONE_AFTER_MS) return missing;
  }
}

/** @param missingForMs since who asks has missed it. */
export async function isGone(
  cluster: Cluster,
  topic: TopicInfo,
  missingForMs: number,
): Promise<boolean> {
  const { gone, missing } = await look(cluster, [topic]);
  return gone !== undefined || (missing !== undefined && missingForMs > GONE_AFTER_MS);
}

async function look(
  cluster: Cluster,
  topics: readonly TopicInfo[],
): Promise<{ readonly gone: string | undefined; readonly missing: string | undefined }> {
  const view = await cluster.view(topics.map(({ name }) => name));
  const isOther = ({ name, id }: TopicInfo): boolean => {
    const found = view.topics.get(name);
    return found?.errorCode === 0 && found.id !== id;
  };
  const isMissing = ({ name }: TopicInfo): boolean =>
    view.topics.get(name)?.errorCode === UNKNOWN_TOPIC_OR_PARTITION;
  return { gone: topics.find(isOther)?.name, missing: topics.find(isMissing)?.name };
}
