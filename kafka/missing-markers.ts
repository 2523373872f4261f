/**
 * Taking a transactional id, also where its last transaction has ended and partitions of it were never told.
 *
 * Of a partition without a leader Kafka 4 takes it that it was deleted, and leaves its marker out (seen on 4.3.1; in
 * TransactionMarkerChannelManager "likely deleted already"): while a broker comes back that was killed and has the only
 * replica, or after all in-sync replicas ended at once. The coordinator counts the transaction as ended; in the
 * partition it is open for ever. Who reads committed events waits before it, and the producer's next marker there decides
 * what becomes of it, whatever it was meant for. `kafka-transactions.sh find-hanging` finds such ones (KIP-664).
 *
 * M1 Who takes an id asks how its last transaction ended, and looks whether it is open still where all of its
 *    transactions write; if so, wherever they may have written. There the new writer writes the marker that is missing,
 *    before anything else: by a transaction without records.
 * M2 A writer that has lost its coordinator looks at what it wrote last before it begins the next transaction; it
 *    begins none where that is open still, and whoever takes the id anew mends it (M1).
 *
 * What is left: markers that were left out elsewhere, but not where all transactions write; and a new writer that ends,
 * or meets another one, between the two requests of M1, whose transaction is then aborted.
 */
import { CONCURRENT_TRANSACTIONS, FENCES, failureOfError, hasError } from "./failures.ts";
import type { TopicInfo, TransactionTargets } from "./log.ts";
import type { OpenTransactions, Place } from "./open-transactions.ts";
import { byTopic } from "./transaction-begin.ts";
import {
  ANEW,
  TRANSACTION_TIMEOUT_MS,
  type TransactionalIdentity,
  type TransactionCoordinator,
  type TransactionState,
} from "./transaction-coordinator.ts";

/** Afterwards Kafka may have ended what was begun here. */
const MEND_WITHIN_MS = TRANSACTION_TIMEOUT_MS - 1000;

const TAKE_WITHIN_MS = 15_000;

/** M1. @param targets without them nothing is looked for. Rejects when Kafka cannot be asked, or refuses. */
export async function takeId(
  coordinator: TransactionCoordinator,
  open: OpenTransactions,
  targets: TransactionTargets | undefined,
): Promise<TransactionalIdentity> {
  if (!targets) return coordinator.initialise(ANEW);
  for (const deadline = performance.now() + TAKE_WITHIN_MS; ; ) {
    // Before: afterwards nobody knows how its last transaction ended.
    const state = await coordinator.state();
    const places = await leftOpen(open, state, targets);
    const identity = await coordinator.initialise(ANEW, false).catch((error: unknown) => {
      if (!hasError(error, CONCURRENT_TRANSACTIONS) || performance.now() > deadline) throw error;
      return undefined;
    });
    // One was open, and is being aborted: it is the last one now.
    if (identity === undefined) continue;
    if (places.length > 0)
      await mend(coordinator, identity, places, state.kind === "aborted" ? "abort" : "commit");
    return identity;
  }
}

async function leftOpen(
  open: OpenTransactions,
  { kind, producerId }: TransactionState,
  { always, others }: TransactionTargets,
): Promise<Place[]> {
  if (kind === "none" || kind === "open") return [];
  const first = await open.of(producerId, [always]);
  if (first.length === 0) return [];
  return [...first, ...(await open.of(producerId, others.flatMap(placesOf)))];
}

async function mend(
  coordinator: TransactionCoordinator,
  identity: TransactionalIdentity,
  places: readonly Place[],
  how: "commit" | "abort",
): Promise<void> {
  const sinceMs = performance.now();
  try {
    await coordinator.addPartitions(identity, byTopic(places));
    await coordinator.end(identity, how);
  } catch (error) {
    // That somebody newer came is said to the first write.
    if (hasError(error, ...FENCES) && performance.now() - sinceMs < MEND_WITHIN_MS) return;
    const failure = failureOfError(error);
    throw failure.kind === "unauthorised" ? error : new Error(failure.reason);
  }
}

function placesOf(topic: TopicInfo): Place[] {
  return Array.from({ length: topic.partitions }, (_, partition) => ({ topic, partition }));
}
