/** Where a producer has a transaction open, as the partitions' leaders know it (DescribeProducers, KIP-664). */
import { describeProducersV0 } from "@platformatic/kafka";
import { AskedTogether } from "./asked-together.ts";
import { type Cluster, inTime } from "./cluster.ts";
import { kafkaErrorsIn, UNKNOWN_TOPIC_OR_PARTITION } from "./failures.ts";
import type { TopicInfo } from "./log.ts";
import { pause } from "./pause.ts";

/** A partition. */
export interface Place {
  readonly topic: Pick<TopicInfo, "name">;
  readonly partition: number;
}

/** Where a broker was just lost its partitions are led by another soon. */
const WITHIN_MS = 5000;

export class OpenTransactions {
  readonly #cluster: Cluster;
  /** A leader tells all producers of a partition at once. */
  readonly #looks = new AskedTogether<ReadonlySet<bigint>>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Those of the places where it has one. Rejects when a leader does not answer, also after a while. */
  async of<P extends Place>(producerId: bigint, places: readonly P[]): Promise<P[]> {
    const found = await Promise.all(places.map((place) => this.#producersIn(place)));
    return places.filter((_, i) => found[i]?.has(producerId));
  }

  async #producersIn(place: Place): Promise<ReadonlySet<bigint>> {
    const key = `${place.topic.name}/${place.partition}`;
    const deadline = performance.now() + WITHIN_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#looks.ask(key, () => inTime(this.#look(place), WITHIN_MS));
      } catch (error) {
        const isFinal = kafkaErrorsIn(error).some(({ retryable }) => !retryable);
        if (isFinal || performance.now() > deadline) throw error;
        await pause(Math.min(500, 20 * 2 ** attempt));
      }
    }
  }

  /** None where the topic is gone. */
  async #look({ topic: { name }, partition }: Place): Promise<ReadonlySet<bigint>> {
    const leader = await this.#cluster.leader(name, partition, true);
    if (!leader) {
      const found = (await this.#cluster.view([name])).topics.get(name);
      if (found?.errorCode === UNKNOWN_TOPIC_OR_PARTITION) return new Set();
      throw new Error(`nobody leads ${name}[${partition}]`);
    }
    const connection = await this.#cluster.control(leader.broker);
    const asked = [{ name, partitionIndexes: [partition] }];
    const { topics } = await describeProducersV0.api.async(connection, asked);
    const producers = topics[0]?.partitions[0]?.activeProducers ?? [];
    const open = producers.filter(({ currentTxnStartOffset }) => currentTxnStartOffset >= 0n);
    return new Set(open.map(({ producerId }) => producerId));
  }
}
