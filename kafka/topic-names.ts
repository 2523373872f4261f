/**
 * Names of the topics that begin with a prefix, asked for in their order from there on (KIP-966, Kafka 3.8), so
 * that it costs what there are of them, not what the cluster has. Older brokers are asked for all topics.
 */
import { apiVersionsV4, type Connection, describeTopicPartitionsV0 } from "@platformatic/kafka";
import type { Cluster } from "./cluster.ts";
import { responseOf } from "./failures.ts";

const DESCRIBE_TOPIC_PARTITIONS = 75;
/** Partitions of one answer. */
const PAGE = 100;

type Page = ReturnType<typeof describeTopicPartitionsV0.parseResponse>;

export class TopicNames {
  readonly #cluster: Cluster;
  /** Whether the broker at its other end speaks it. */
  readonly #spoken = new WeakMap<Connection, boolean>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Rejects when no broker answers. */
  async beginningWith(prefix: string): Promise<string[]> {
    const names = new Set<string>();
    let from: Page["nextCursor"] = { topicName: prefix, partitionIndex: 0 };
    while (from?.topicName.startsWith(prefix)) {
      const page = await this.#page(from);
      if (page === undefined) {
        const { topics } = await this.#cluster.view(null);
        return [...topics.keys()].filter((name) => name.startsWith(prefix));
      }
      for (const { name } of page.topics) if (name?.startsWith(prefix)) names.add(name);
      from = page.nextCursor;
    }
    return [...names];
  }

  /** Undefined: the broker does not speak it. */
  async #page(from: NonNullable<Page["nextCursor"]>): Promise<Page | undefined> {
    try {
      return await this.#cluster.ask(async (connection) => {
        if (!(await this.#speaks(connection))) return undefined;
        return await describeTopicPartitionsV0.api.async(connection, [], PAGE, from);
      });
    } catch (error) {
      // A partition without a leader is an error to the library; its topic is there.
      const page = responseOf<Page>(error);
      if (page?.topics) return page;
      throw error;
    }
  }

  async #speaks(connection: Connection): Promise<boolean> {
    const known = this.#spoken.get(connection);
    if (known !== undefined) return known;
    const { apiKeys } = await apiVersionsV4.api.async(connection, "throughline", "1");
    const speaks = apiKeys.some(({ apiKey }) => apiKey === DESCRIBE_TOPIC_PARTITIONS);
    this.#spoken.set(connection, speaks);
    return speaks;
  }
}
