/** Positions by name or time, read committed: "latest" is the last stable offset. */
import { listOffsetsV9 } from "@platformatic/kafka";
import type { Cluster } from "./cluster.ts";
import { failureOf, failureOfError, responseOf, UNKNOWN_TOPIC_OR_PARTITION } from "./failures.ts";
import type { OffsetOutcome, OffsetSpec, TopicInfo } from "./log.ts";

type ListOffsetsResponse = ReturnType<typeof listOffsetsV9.parseResponse>;

const READ_COMMITTED = 1;
const ATTEMPTS = 6;

export async function listOffset(
  cluster: Cluster,
  topic: TopicInfo,
  partition: number,
  spec: OffsetSpec,
): Promise<OffsetOutcome> {
  let last: OffsetOutcome = { kind: "unavailable", reason: "Kafka: the partition has no leader" };
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    // A leader that was just named answers for the partition a moment later.
    if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, 10 * 2 ** attempt));
    try {
      const asked = await ask(cluster, topic, partition, spec, attempt > 0);
      if (asked === "missing") {
        last = { kind: "gone" };
        continue;
      }
      if (asked.kind === "offset" && asked.offset === -1) {
        // A time past the last event: what comes next is at the end.
        return await listOffset(cluster, topic, partition, "latest");
      }
      if (asked.kind !== "unavailable") return asked;
      last = asked;
    } catch (error) {
      last = failureOfError(error);
      if (last.kind === "unauthorised") return last;
    }
  }
  return last;
}

/** "missing": gone, or so new that the broker which was asked has not heard of it. */
async function ask(
  cluster: Cluster,
  topic: TopicInfo,
  partition: number,
  spec: OffsetSpec,
  fresh: boolean,
): Promise<OffsetOutcome | "missing"> {
  // ListOffsets names the topic: only metadata tells a newer one of the same name apart.
  const named = (await cluster.view([topic.name])).topics.get(topic.name);
  if (named && named.errorCode === 0 && named.id !== topic.id) return { kind: "gone" };
  if (named?.errorCode === UNKNOWN_TOPIC_OR_PARTITION) return "missing";
  const leader = await cluster.leader(topic.name, partition, fresh);
  if (!leader) return { kind: "unavailable", reason: "Kafka: the partition has no leader" };
  const connection = await cluster.control(leader.broker);
  const timestamp = spec === "earliest" ? -2n : spec === "latest" ? -1n : BigInt(spec.timeMs);
  const request = [
    {
      name: topic.name,
      partitions: [{ partitionIndex: partition, currentLeaderEpoch: -1, timestamp }],
    },
  ];
  let response: ListOffsetsResponse | undefined;
  try {
    response = await listOffsetsV9.api.async(connection, -1, READ_COMMITTED, request);
  } catch (error) {
    response = responseOf<ListOffsetsResponse>(error);
    if (!response) throw error;
  }
  const found = response.topics[0]?.partitions[0];
  if (!found) return { kind: "unavailable", reason: "Kafka: the answer names no partition" };
  if (found.errorCode !== 0) return failureOf(found.errorCode);
  return { kind: "offset", offset: Number(found.offset), epoch: found.leaderEpoch };
}
