/** What the saved token of a session says of a Topic, and how far that is behind its end. Pure. */
import type { Position, TopicInfo } from "../../kafka/log.ts";
import type { Catalog } from "../catalog.ts";
import { topicInfo } from "../topics.ts";
import type { SessionKey } from "./session-store.ts";
import { readStored } from "./sessions.ts";

export interface SavedToken {
  readonly key: SessionKey;
  /** What the token counts in. */
  readonly topicId: string;
  /** Empty for a session that was never saved. */
  readonly savedToken: Buffer;
}

export interface SavedPositions {
  readonly info: TopicInfo;
  readonly positions: readonly Position[];
}

/** Undefined when there is none of the Topic as it is now: it was recreated, say, or is not served. */
export function savedPositions(
  catalog: Pick<Catalog, "get">,
  { key, topicId, savedToken }: SavedToken,
): SavedPositions | undefined {
  const topic = catalog.get(key.topic);
  if (topic?.state !== "Ready" || topic.topicId !== topicId) return undefined;
  const info = topicInfo(topic);
  const identity = { deploymentId: key.deploymentId, topic: key.topic, topicId };
  const positions = readStored(savedToken, identity, info.partitions);
  return positions && { info, positions };
}

/** Events (and holes) between the positions and the ends, by partition; undefined when an end is not known. */
export function lagBehind(
  positions: readonly Position[],
  ends: readonly (number | undefined)[],
): number | undefined {
  let lag = 0;
  for (const [partition, { offset }] of positions.entries()) {
    const end = ends[partition];
    if (end === undefined || end < 0) return undefined;
    lag += Math.max(0, end - offset);
  }
  return lag;
}
