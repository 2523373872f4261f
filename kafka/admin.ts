/**
 * Admin through the client's request encoders; Kafka's refusals come back with its own sentence.
 *
 * Any broker takes a step and the controller answers it, before the broker's own metadata shows it: a
 * step that makes, grows or deletes a topic ends only when the next look will see it.
 *
 * Looks at topics, and topics to be made, travel together where many ask at once, in batches so small that who
 * comes later waits little.
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
import { AskedInBatches } from "./asked-in-batches.ts";
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
import { TopicNames } from "./topic-names.ts";

const TIMEOUT_MS = 15_000;
const LOOK_AGAIN_MS = 5;
/** Topics of one look. */
const LOOK_BATCH = 50;
/** Topics made by one request. A broker under load takes up to 10 ms for each before it shows them. */
const MAKE_BATCH = 8;
/** DescribeConfigs: a value set on the topic itself. */
const DYNAMIC_TOPIC_CONFIG = 1;

/** By custom the first word of a topic's name says whose it is (our operator's: the namespace). */
const ownerOf = (name: string): string => name.split(".", 1)[0] ?? "";
const LOOKS = { most: LOOK_BATCH, keyOf: String, groupOf: ownerOf };

type NewTopic = Parameters<LogAdmin["createTopic"]>[0];

interface Result {
  readonly errorCode: number;
  readonly errorMessage?: string | null | undefined;
}

export class KafkaAdmin implements LogAdmin {
  readonly #cluster: Cluster;
  readonly #names: TopicNames;
  readonly #looks = new AskedInBatches<string, TopicView | undefined>(LOOKS, (names) =>
    this.#look(names),
  );
  readonly #creations = new AskedInBatches<NewTopic, AdminOutcome<TopicInfo>>(
    { most: MAKE_BATCH, keyOf: ({ name }) => name, groupOf: ({ name }) => ownerOf(name) },
    (topics) => this.#create(topics),
  );
  readonly #settings = new AskedInBatches<string, AdminOutcome<TopicSettings>>(LOOKS, (names) =>
    this.#describe(names),
  );

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#names = new TopicNames(cluster);
  }

  async describeTopics(
    names: readonly string[],
  ): Promise<AdminOutcome<ReadonlyMap<string, TopicInfo>>> {
    try {
      const views = await Promise.all(names.map((name) => this.#looks.ask(name)));
      const found = new Map<string, TopicInfo>();
      for (const [i, name] of names.entries()) {
        const topic = views[i];
        if (!topic || topic.errorCode === UNKNOWN_TOPIC_OR_PARTITION) continue;
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

  async listTopics(prefix?: string): Promise<AdminOutcome<readonly string[]>> {
    try {
      if (prefix !== undefined)
        return { kind: "done", value: await this.#names.beginningWith(prefix) };
      const view = await this.#cluster.view(null);
      return { kind: "done", value: [...view.topics.keys()] };
    } catch (error) {
      return failureOfError(error);
    }
  }

  createTopic(topic: NewTopic): Promise<AdminOutcome<TopicInfo>> {
    return this.#creations.ask(topic);
  }

  async #create(
    topics: readonly NewTopic[],
  ): Promise<(topic: NewTopic) => AdminOutcome<TopicInfo>> {
    const request = topics.map(({ name, partitions, replicas, settings }) => ({
      ...{ name, numPartitions: partitions, replicationFactor: replicas, assignments: [] },
      configs: Object.entries(settings).map(([key, value]) => ({ name: key, value })),
    }));
    const answer = await this.#ask<ReturnType<typeof createTopicsV7.parseResponse>>((connection) =>
      createTopicsV7.api.async(connection, request, TIMEOUT_MS, false),
    );
    if ("kind" in answer) return () => answer;
    const results = new Map(answer.topics.map((result) => [result.name, result]));
    const made = answer.topics.filter(({ errorCode }) => errorCode === 0);
    const ids = new Map(made.map(({ name, topicId }) => [name, topicId.replaceAll("-", "")]));
    const unseen = await this.#unseen([...ids.keys()], (name, topic) => {
      if (topic === undefined || topic.id !== ids.get(name)) return false;
      return topic.partitions.every(({ leaderId }) => leaderId >= 0);
    });
    return ({ name }) => {
      const result = results.get(name);
      const id = ids.get(name);
      if (!result || id === undefined) return refusal(result);
      if (unseen.includes(name)) return notSeen(name);
      const { numPartitions, replicationFactor } = result;
      const value = { name, id, partitions: numPartitions, replicas: replicationFactor };
      return { kind: "done", value };
    };
  }

  async createPartitions(name: string, partitions: number): Promise<AdminOutcome<void>> {
    const request = [{ name, count: partitions, assignments: null }];
    const answer = await this.#ask<ReturnType<typeof createPartitionsV3.parseResponse>>((c) =>
      createPartitionsV3.api.async(c, request, TIMEOUT_MS, false),
    );
    if ("kind" in answer) return answer;
    const outcome = done(answer.results[0]);
    if (outcome.kind !== "done") return outcome;
    const grown = (_: string, topic: TopicView | undefined): boolean =>
      topic?.partitions.length === partitions;
    return (await this.#unseen([name], grown)).length > 0 ? notSeen(name) : outcome;
  }

  settings(name: string): Promise<AdminOutcome<TopicSettings>> {
    return this.#settings.ask(name);
  }

  async #describe(
    names: readonly string[],
  ): Promise<(name: string) => AdminOutcome<TopicSettings>> {
    const resourceType = ConfigResourceTypes.TOPIC;
    const request = names.map((resourceName) => ({ resourceType, resourceName }));
    const answer = await this.#ask<ReturnType<typeof describeConfigsV4.parseResponse>>(
      (c) => describeConfigsV4.api.async(c, request, false, false),
      "look-ups",
    );
    if ("kind" in answer) return () => answer;
    const results = new Map(answer.results.map((result) => [result.resourceName, result]));
    return (name) => {
      const result = results.get(name);
      if (result?.errorCode !== 0) return refusal(result);
      const own = result.configs.filter((config) => config.configSource === DYNAMIC_TOPIC_CONFIG);
      return {
        kind: "done",
        value: Object.fromEntries(own.map(({ name: key, value }) => [key, value ?? ""])),
      };
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
    if (outcome.kind !== "done" || !name) return outcome;
    const left = await this.#unseen([name], (_, topic) => topic?.id !== id);
    return left.length > 0 ? notSeen(name) : outcome;
  }

  async #look(names: readonly string[]): Promise<(name: string) => TopicView | undefined> {
    const { topics } = await this.#cluster.view(names);
    return (name) => topics.get(name);
  }

  /** Waits until a step that is done is seen, for a while. @returns the names of which it is not. */
  async #unseen(
    names: readonly string[],
    seen: (name: string, topic: TopicView | undefined) => boolean,
  ): Promise<readonly string[]> {
    const deadline = performance.now() + TIMEOUT_MS;
    let left = names;
    while (left.length > 0 && performance.now() < deadline) {
      const view = await this.#cluster.view(left).catch(() => undefined);
      left = left.filter((name) => {
        const topic = view?.topics.get(name);
        return !view || !seen(name, topic?.errorCode === 0 ? topic : undefined);
      });
      if (left.length > 0) await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
    return left;
  }

  /**
   * The response also when it holds errors: the client throws those, and each result is looked at. Who looks
   * does not wait until a step is done.
   */
  async #ask<T extends object>(
    send: (connection: Connection) => Promise<T>,
    purpose: "look-ups" | "steps" = "steps",
  ): Promise<T | ReturnType<typeof failureOfError>> {
    try {
      return await send(await this.#cluster.control(undefined, purpose));
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

/** Kafka did it; who goes on now would be told otherwise. */
function notSeen(name: string): LogFailure {
  const reason = `Kafka: a step for topic ${name} is done, and no broker shows it after ${TIMEOUT_MS / 1000} s`;
  return { kind: "unavailable", reason };
}

/** What Kafka would judge alike again is a refusal in its own words. */
function refusal(result: Result | undefined): AdminRefusal | LogFailure {
  const code = result?.errorCode ?? -1;
  const failure = failureOf(code, result?.errorMessage ?? null);
  const { name, words, retryable } = kafkaError(code, result?.errorMessage ?? null);
  const lasting = !retryable || NO_SUCH_TOPIC.includes(code);
  if (failure.kind === "unauthorised" || !lasting) return failure;
  return { kind: "refused", error: name, reason: words };
}
