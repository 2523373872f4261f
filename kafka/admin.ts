/**
 * Admin through the client's request encoders; Kafka's refusals come back with its own sentence.
 *
 * Any broker takes a step and the controller answers it, before the broker's own metadata shows it: a
 * step that makes, grows or deletes a topic ends only when the next look will see it.
 */
import {
  ConfigResourceTypes,
  type Connection,
  createPartitionsV3,
  createTopicsV7,
  deleteTopicsV6,
  describeConfigsV4,
  IncrementalAlterConfigOperationTypes,
  incrementalAlterConfigsV1,
} from "@platformatic/kafka";
import { type Cluster, dashed, type TopicView } from "./cluster.ts";
import {
  failureOf,
  failureOfError,
  kafkaError,
  responseOf,
  UNKNOWN_TOPIC_ID,
  UNKNOWN_TOPIC_OR_PARTITION,
} from "./failures.ts";
import type {
  AdminOutcome,
  AdminRefusal,
  LogAdmin,
  LogFailure,
  TopicId,
  TopicInfo,
  TopicSettings,
} from "./log.ts";

const TIMEOUT_MS = 15_000;
const VISIBLE_WITHIN_MS = 5000;
const LOOK_AGAIN_MS = 20;
/** DescribeConfigs: a value set on the topic itself. */
const DYNAMIC_TOPIC_CONFIG = 1;

interface Result {
  readonly errorCode: number;
  readonly errorMessage?: string | null | undefined;
}

export class KafkaAdmin implements LogAdmin {
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  async describeTopics(
    names: readonly string[],
  ): Promise<AdminOutcome<ReadonlyMap<string, TopicInfo>>> {
    try {
      const view = await this.#cluster.view(names);
      const found = new Map<string, TopicInfo>();
      for (const [name, topic] of view.topics) {
        if (topic.errorCode === UNKNOWN_TOPIC_OR_PARTITION) continue;
        if (topic.errorCode !== 0) return refusal({ errorCode: topic.errorCode });
        const { id, partitions } = topic;
        const replicas = partitions[0]?.replicas ?? 0;
        found.set(name, { name, id, partitions: partitions.length, replicas });
      }
      return { kind: "done", value: found };
    } catch (error) {
      return failureOfError(error);
    }
  }

  async listTopics(): Promise<AdminOutcome<readonly string[]>> {
    try {
      const view = await this.#cluster.view(null);
      return { kind: "done", value: [...view.topics.keys()] };
    } catch (error) {
      return failureOfError(error);
    }
  }

  async createTopic(
    topic: Parameters<LogAdmin["createTopic"]>[0],
  ): Promise<AdminOutcome<TopicInfo>> {
    const request = {
      name: topic.name,
      numPartitions: topic.partitions,
      replicationFactor: topic.replicas,
      assignments: [],
      configs: Object.entries(topic.settings).map(([name, value]) => ({ name, value })),
    };
    const answer = await this.#ask<ReturnType<typeof createTopicsV7.parseResponse>>((connection) =>
      createTopicsV7.api.async(connection, [request], TIMEOUT_MS, false),
    );
    if ("kind" in answer) return answer;
    const made = answer.topics[0];
    if (made?.errorCode !== 0) return refusal(made);
    const { name, topicId, numPartitions, replicationFactor } = made;
    const id = topicId.replaceAll("-", "");
    await this.#visible(name, (topic) => {
      return topic?.id === id && topic.partitions.every(({ leaderId }) => leaderId >= 0);
    });
    return {
      kind: "done",
      value: { name, id, partitions: numPartitions, replicas: replicationFactor },
    };
  }

  async createPartitions(name: string, partitions: number): Promise<AdminOutcome<void>> {
    const request = [{ name, count: partitions, assignments: null }];
    const answer = await this.#ask<ReturnType<typeof createPartitionsV3.parseResponse>>((c) =>
      createPartitionsV3.api.async(c, request, TIMEOUT_MS, false),
    );
    if ("kind" in answer) return answer;
    const outcome = done(answer.results[0]);
    if (outcome.kind === "done") {
      await this.#visible(name, (topic) => topic?.partitions.length === partitions);
    }
    return outcome;
  }

  async settings(name: string): Promise<AdminOutcome<TopicSettings>> {
    const request = [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: name }];
    const answer = await this.#ask<ReturnType<typeof describeConfigsV4.parseResponse>>((c) =>
      describeConfigsV4.api.async(c, request, false, false),
    );
    if ("kind" in answer) return answer;
    const result = answer.results[0];
    if (result?.errorCode !== 0) return refusal(result);
    const own = result.configs.filter((config) => config.configSource === DYNAMIC_TOPIC_CONFIG);
    return {
      kind: "done",
      value: Object.fromEntries(own.map(({ name: key, value }) => [key, value ?? ""])),
    };
  }

  async changeSettings(
    name: string,
    set: TopicSettings,
    unset: readonly string[],
  ): Promise<AdminOutcome<void>> {
    const { SET, DELETE } = IncrementalAlterConfigOperationTypes;
    const configs = [
      ...Object.entries(set).map(([key, value]) => ({ name: key, configOperation: SET, value })),
      ...unset.map((key) => ({ name: key, configOperation: DELETE })),
    ];
    const request = [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: name, configs }];
    const answer = await this.#ask<ReturnType<typeof incrementalAlterConfigsV1.parseResponse>>(
      (connection) => incrementalAlterConfigsV1.api.async(connection, request, false),
    );
    return "kind" in answer ? answer : done(answer.responses[0]);
  }

  async deleteTopic(id: TopicId): Promise<AdminOutcome<void>> {
    const answer = await this.#ask<ReturnType<typeof deleteTopicsV6.parseResponse>>((connection) =>
      deleteTopicsV6.api.async(connection, [{ name: null, topicId: dashed(id) }], TIMEOUT_MS),
    );
    if ("kind" in answer) return answer;
    const outcome = done(answer.responses[0]);
    const name = answer.responses[0]?.name;
    if (outcome.kind === "done" && name) await this.#visible(name, (topic) => topic?.id !== id);
    return outcome;
  }

  /** The step is done in any case; this only waits for it to be seen, for a while. */
  async #visible(name: string, seen: (topic: TopicView | undefined) => boolean): Promise<void> {
    const deadline = performance.now() + VISIBLE_WITHIN_MS;
    while (performance.now() < deadline) {
      const view = await this.#cluster.view([name]).catch(() => undefined);
      const topic = view?.topics.get(name);
      if (view && seen(topic?.errorCode === 0 ? topic : undefined)) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  /** The response also when it holds errors: the client throws those, and each result is looked at. */
  async #ask<T extends object>(
    send: (connection: Connection) => Promise<T>,
  ): Promise<T | ReturnType<typeof failureOfError>> {
    try {
      return await send(await this.#cluster.control());
    } catch (error) {
      return responseOf<T>(error) ?? failureOfError(error);
    }
  }
}

function done(result: Result | undefined): AdminOutcome<void> {
  return result?.errorCode === 0 ? { kind: "done", value: undefined } : refusal(result);
}

/** Retryable to a client that waits for a new topic; an admin step has its answer. */
const NO_SUCH_TOPIC: readonly number[] = [UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID];

/** What Kafka would judge alike again is a refusal in its own words. */
function refusal(result: Result | undefined): AdminRefusal | LogFailure {
  const code = result?.errorCode ?? -1;
  const failure = failureOf(code, result?.errorMessage ?? null);
  const { name, words, retryable } = kafkaError(code, result?.errorMessage ?? null);
  const lasting = !retryable || NO_SUCH_TOPIC.includes(code);
  if (failure.kind === "unauthorised" || !lasting) return failure;
  return { kind: "refused", error: name, reason: words };
}
