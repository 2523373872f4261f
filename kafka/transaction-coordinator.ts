/**
 * What a transactional id's coordinator is asked: identity, partitions of the transaction, its end.
 * Every step may be asked twice without harm, so each is tried again until it is answered or its time
 * is over; a step rejects with what Kafka or the network said.
 *
 * The versions used belong together: from Produce 12, AddPartitionsToTxn 4 and EndTxn 5 on, another
 * transaction protocol begins (KIP-890).
 */
import { addPartitionsToTxnV3, endTxnV3, initProducerIdV4 } from "@platformatic/kafka";
import type { Cluster } from "./cluster.ts";
import { Coordinator, type Lane } from "./coordinator.ts";

export interface TransactionalIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** No identity yet: whoever holds the transactional id is fenced. */
export const ANEW: TransactionalIdentity = { producerId: -1n, producerEpoch: -1 };

/** What a frozen writer can hold back readers for. */
export const TRANSACTION_TIMEOUT_MS = 10_000;
const STEP_TIMEOUT_MS = 15_000;

export class TransactionCoordinator {
  readonly #id: string;
  readonly #coordinator: Coordinator;

  constructor(cluster: Cluster, transactionalId: string, lane: Lane) {
    this.#id = transactionalId;
    const kind = "TRANSACTION";
    const of = { kind, id: transactionalId, lane, withinMs: STEP_TIMEOUT_MS } as const;
    this.#coordinator = new Coordinator(cluster, of);
  }

  /** A new epoch; an open transaction is aborted. With `held` it fails when someone else came since. */
  initialise({ producerId, producerEpoch }: TransactionalIdentity): Promise<TransactionalIdentity> {
    return this.#coordinator.ask((connection) =>
      initProducerIdV4.api.async(
        connection,
        this.#id,
        TRANSACTION_TIMEOUT_MS,
        producerId,
        producerEpoch,
      ),
    );
  }

  /** What the transaction will write to; the first call begins it. */
  async addPartitions(
    { producerId, producerEpoch }: TransactionalIdentity,
    topics: readonly { readonly name: string; readonly partitions: number[] }[],
  ): Promise<void> {
    await this.#coordinator.ask((connection) =>
      addPartitionsToTxnV3.api.async(connection, [
        {
          transactionalId: this.#id,
          producerId,
          producerEpoch,
          verifyOnly: false,
          topics: [...topics],
        },
      ]),
    );
  }

  /** Answered once the decision is durable; the markers in the partitions follow. */
  async end(
    { producerId, producerEpoch }: TransactionalIdentity,
    how: "commit" | "abort",
  ): Promise<void> {
    await this.#coordinator.ask((connection) =>
      endTxnV3.api.async(connection, this.#id, producerId, producerEpoch, how === "commit"),
    );
  }
}
