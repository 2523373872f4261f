/**
 * Transactions that have ended, and partitions of theirs that were never told.
 *
 * Of a partition without a leader Kafka 4 takes it that it was deleted, and leaves its marker out (seen on 4.3.1; in
 * TransactionMarkerChannelManager "likely deleted already"): while a broker comes back that was killed and has the only
 * replica, or after all in-sync replicas ended at once. The coordinator counts the transaction as ended; in the
 * partition it is open for ever. Who reads committed events waits before it, and the producer's next marker there decides
 * what becomes of it, whatever it was meant for. `kafka-transactions.sh find-hanging` finds such ones (KIP-664).
 *
 * M1 Who opens a transactional id asks how its last transaction ended, and looks where it may be open still. There the
 *    new writer writes the marker that is missing, before anything else: by a transaction without records.
 * M2 A writer that has lost its coordinator looks at what it wrote last before it begins the next transaction; it
 *    begins none where that is open still, and whoever opens the id anew mends it (M1).
 */
import { describeProducersV0 } from "@platformatic/kafka";
import type { Broker, Cluster } from "./cluster.ts";
import { isFence, kafkaErrorsIn, UNKNOWN_TOPIC_OR_PARTITION } from "./failures.ts";
import type { TopicInfo, TransactionTargets } from "./log.ts";
import { byTopic, type Written } from "./transaction-begin.ts";
import {
  ANEW,
  type TransactionalIdentity,
  type TransactionCoordinator,
  type TransactionState,
} from "./transaction-coordinator.ts";

/** Markers that are to be written: where, and which. */
interface Missing {
  readonly at: readonly Written[];
  readonly how: "commit" | "abort";
}

/** M1. @param targets without them nothing is looked for. Rejects when Kafka cannot be asked, or refuses. */
export async function takeId(
  cluster: Cluster,
  coordinator: TransactionCoordinator,
  targets: TransactionTargets | undefined,
): Promise<TransactionalIdentity> {
  // Before: afterwards nobody knows how its last transaction ended.
  const missing = targets && (await missingMarkers(cluster, await coordinator.state(), targets));
  const identity = await coordinator.initialise(ANEW);
  if (!missing || missing.at.length === 0) return identity;
  try {
    await coordinator.addPartitions(identity, byTopic(missing.at));
    await coordinator.end(identity, missing.how);
  } catch (error) {
    // That somebody newer came is said to the first write.
    if (!kafkaErrorsIn(error).some(({ code }) => isFence(code))) throw error;
  }
  return identity;
}

async function missingMarkers(
  cluster: Cluster,
  { kind, producerId }: TransactionState,
  { always, others }: TransactionTargets,
): Promise<Missing> {
  // Of one that is not known any more it is what was acknowledged that must stay.
  const how = kind === "aborted" ? "abort" : "commit";
  // What is open yet is ended, everywhere, when the id is taken.
  if (kind === "none" || kind === "open") return { at: [], how };
  const first = await openIn(cluster, producerId, [always]);
  if (first.length === 0) return { at: [], how };
  return { at: [...first, ...(await openIn(cluster, producerId, others.flatMap(places)))], how };
}

/** Those in which the producer has a transaction open. Rejects when one has no leader that can be asked. */
export async function openIn(
  cluster: Cluster,
  producerId: bigint,
  at: readonly Written[],
): Promise<Written[]> {
  const led = await Promise.all(
    at.map(async (place) => ({ place, broker: await leaderOf(cluster, place) })),
  );
  const byBroker = Map.groupBy(
    led.filter(({ broker }) => broker !== undefined),
    ({ broker }) => `${broker?.host}:${broker?.port}`,
  );
  const open = await Promise.all(
    Array.from(byBroker.values(), async (group) => {
      const connection = await cluster.control(group[0]?.broker as Broker);
      const asked = byTopic(group.map(({ place }) => place));
      const { topics } = await describeProducersV0.api.async(
        connection,
        asked.map(({ name, partitions }) => ({ name, partitionIndexes: partitions })),
      );
      return group.flatMap(({ place }) => {
        const found = topics
          .find(({ name }) => name === place.topic.name)
          ?.partitions.find(({ partitionIndex }) => partitionIndex === place.partition);
        const isOpen = found?.activeProducers.some(
          (producer) => producer.producerId === producerId && producer.currentTxnStartOffset >= 0n,
        );
        return isOpen ? [place] : [];
      });
    }),
  );
  return open.flat();
}

/** Undefined when the topic is gone. */
async function leaderOf(
  cluster: Cluster,
  { topic, partition }: Written,
): Promise<Broker | undefined> {
  const { name } = topic;
  const leader = await cluster.leader(name, partition, true);
  if (leader) return leader.broker;
  const found = (await cluster.view([name])).topics.get(name);
  if (found?.errorCode === UNKNOWN_TOPIC_OR_PARTITION) return undefined;
  throw new Error(`nobody leads ${name}[${partition}]`);
}

function places(topic: TopicInfo): Written[] {
  return Array.from({ length: topic.partitions }, (_, partition) => ({ topic, partition }));
}
