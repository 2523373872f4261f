/**
 * Names to Topics: who may use which, and what the log says of them (GetTopic, ListTopics).
 *
 * A request names `<namespace>/<name>`, or `<name>` in the caller's own namespace. Rights are checked
 * here, at every open; a token grants none.
 */
import type { Log, OffsetOutcome, TopicInfo } from "../kafka/log.ts";
import type {
  GetTopicResponse,
  Ordering,
  PartitionPositions,
  Topic,
  TopicState,
} from "../proto/gen/throughline/v1/throughline.ts";
import type { Catalog, CatalogTopic } from "./catalog.ts";
import { Failure } from "./failure.ts";

export type Right = "publish" | "subscribe";

const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

const ORDERINGS: Record<CatalogTopic["ordering"], Ordering> = { Key: 1, Total: 2, Commit: 3 };
const STATES: Record<CatalogTopic["state"], TopicState> = { Ready: 1, DataLost: 2, Retained: 3 };
const WHY_NOT_READY: Record<Exclude<CatalogTopic["state"], "Ready">, string> = {
  DataLost: "has lost its data in Kafka (condition DataLost)",
  Retained: "was deleted; its data is retained in Kafka, but not served",
};

/** The Topic that is asked for, if the caller may use it and it can be used. @throws Failure */
export function resolveTopic(
  catalog: Catalog,
  callerNamespace: string,
  requested: string,
  right: Right,
): CatalogTopic {
  const topic = findTopic(catalog, callerNamespace, requested);
  if (!mayUse(topic, callerNamespace, right)) {
    throw new Failure(
      "NOT_PERMITTED",
      `Namespace "${callerNamespace}" may not ${right} to topic "${topic.name}".`,
    );
  }
  if (topic.state !== "Ready") {
    throw new Failure("TOPIC_NOT_READY", `Topic "${topic.name}" ${WHY_NOT_READY[topic.state]}.`);
  }
  return topic;
}

function mayUse(topic: CatalogTopic, callerNamespace: string, right: Right): boolean {
  if (topic.namespace === callerNamespace) return true;
  const others = right === "publish" ? topic.publishNamespaces : topic.subscribeNamespaces;
  return others.includes(callerNamespace);
}

/** The Topic as the port to the log wants it. */
export function topicInfo(topic: CatalogTopic): TopicInfo {
  // Replicas matter to the operator alone.
  return { name: topic.kafkaTopic, id: topic.topicId, partitions: topic.partitions, replicas: 0 };
}

export function listTopics(catalog: Catalog, callerNamespace: string): Topic[] {
  return catalog
    .list()
    .filter(
      (topic) =>
        mayUse(topic, callerNamespace, "publish") || mayUse(topic, callerNamespace, "subscribe"),
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(toTopic);
}

/** A Topic that is not Ready is shown without positions: its state says why. @throws Failure */
export async function getTopic(
  catalog: Catalog,
  log: Log,
  callerNamespace: string,
  requested: string,
): Promise<GetTopicResponse> {
  const topic = findTopic(catalog, callerNamespace, requested);
  if (!mayUse(topic, callerNamespace, "publish") && !mayUse(topic, callerNamespace, "subscribe")) {
    throw new Failure(
      "NOT_PERMITTED",
      `Namespace "${callerNamespace}" may not use topic "${topic.name}".`,
    );
  }
  if (topic.state !== "Ready") return { topic: toTopic(topic), positions: [] };
  const info = topicInfo(topic);
  const positions = await Promise.all(
    Array.from({ length: topic.partitions }, async (_, partition): Promise<PartitionPositions> => {
      const [earliest, latest] = await Promise.all([
        log.offset(info, partition, "earliest"),
        log.offset(info, partition, "latest"),
      ]);
      return {
        partition,
        earliestOffset: BigInt(offsetOf(earliest, topic)),
        latestOffset: BigInt(offsetOf(latest, topic)),
      };
    }),
  );
  return { topic: toTopic(topic), positions };
}

function findTopic(catalog: Catalog, callerNamespace: string, requested: string): CatalogTopic {
  const slash = requested.indexOf("/");
  const namespace = slash < 0 ? callerNamespace : requested.slice(0, slash);
  const name = requested.slice(slash + 1);
  if (!NAMESPACE.test(namespace) || !NAME.test(name)) {
    throw new Failure(
      "INVALID_REQUEST",
      requested === ""
        ? 'topic: is required, as "<namespace>/<name>" or "<name>".'
        : `topic: ${JSON.stringify(requested.slice(0, 300))} is not "<namespace>/<name>" or "<name>".`,
    );
  }
  const topic = catalog.get(`${namespace}/${name}`);
  if (!topic) throw new Failure("TOPIC_NOT_FOUND", `There is no topic "${namespace}/${name}".`);
  return topic;
}

function offsetOf(outcome: OffsetOutcome, topic: CatalogTopic): number {
  switch (outcome.kind) {
    case "offset":
      return outcome.offset;
    case "gone":
      throw new Failure(
        "TOPIC_NOT_FOUND",
        `The Kafka topic of "${topic.name}" was deleted or recreated.`,
      );
    case "unauthorised":
      throw new Failure("KAFKA_REFUSED", outcome.reason);
    case "corrupt":
      throw new Failure("LOG_CORRUPT", outcome.reason);
    default:
      throw new Failure("KAFKA_UNAVAILABLE", outcome.reason);
  }
}

function toTopic(topic: CatalogTopic): Topic {
  return {
    name: topic.name,
    kafkaTopic: topic.kafkaTopic,
    partitions: topic.partitions,
    ordering: ORDERINGS[topic.ordering],
    state: STATES[topic.state],
    maxEventBytes: topic.maxEventBytes,
  };
}
