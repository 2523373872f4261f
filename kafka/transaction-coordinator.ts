/**
 * What a transactional id's coordinator is asked: identity, partitions of the transaction, its end.
 * Every step may be asked twice without harm, so each is tried again until it is answered or its time
 * is over; a step rejects with what Kafka or the network said.
 *
 * The versions used belong together: from Produce 12, AddPartitionsToTxn 4 and EndTxn 5 on, another
 * transaction protocol begins (KIP-890).
 */
import {
  addPartitionsToTxnV3,
  type Connection,
  describeTransactionsV0,
  endTxnV3,
  initProducerIdV4,
} from "@platformatic/kafka";
import type { Cluster } from "./cluster.ts";
import { Coordinator, type Lane, NotAgain } from "./coordinator.ts";
import {
  CONCURRENT_TRANSACTIONS,
  hasError,
  PRODUCER_FENCED,
  TRANSACTIONAL_ID_NOT_FOUND,
} from "./failures.ts";
import { pause } from "./pause.ts";

export interface TransactionalIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** No identity yet: whoever holds the transactional id is fenced. */
export const ANEW: TransactionalIdentity = { producerId: -1n, producerEpoch: -1 };

/** The last transaction of an id. */
export interface TransactionState {
  /**
   * `none`: the id is not known. `taken`: there was none since the id was taken; what became of the one before is not
   * known any more.
   */
  readonly kind: "none" | "open" | "committed" | "aborted" | "taken";
  readonly producerId: bigint;
}

/** What a frozen writer can hold back readers for. */
export const TRANSACTION_TIMEOUT_MS = 10_000;
const STEP_TIMEOUT_MS = 15_000;
/** Markers of a transaction take a few milliseconds. */
const STATE_EVERY_MS = 10;
const STATES: Readonly<Record<string, TransactionState["kind"]>> = {
  ...{ Ongoing: "open", CompleteCommit: "committed", CompleteAbort: "aborted", Empty: "taken" },
};

export class TransactionCoordinator {
  readonly #id: string;
  readonly #coordinator: Coordinator;
  /** Over which it was asked last to take the id, or to begin. */
  #connection: Connection | undefined;

  constructor(cluster: Cluster, transactionalId: string, lane: Lane) {
    this.#id = transactionalId;
    const kind = "TRANSACTION";
    const of = { kind, id: transactionalId, lane, withinMs: STEP_TIMEOUT_MS } as const;
    this.#coordinator = new Coordinator(cluster, of);
  }

  /** What became of the last transaction of the id; waits while it is being ended. Rejects when that takes long. */
  async state(): Promise<TransactionState> {
    const deadline = performance.now() + STEP_TIMEOUT_MS;
    for (;;) {
      const { transactionState, producerId } = await this.#coordinator
        .ask((connection) => describeTransactionsV0.api.async(connection, [this.#id]))
        .then(({ transactionStates: [state] }) => state ?? UNKNOWN, unknownId);
      const isEnding = transactionState.startsWith("Prepare");
      if (!isEnding) return { kind: STATES[transactionState] ?? "none", producerId };
      if (performance.now() > deadline)
        throw new Error(`the transaction before is still in ${transactionState}`);
      await pause(STATE_EVERY_MS);
    }
  }

  /**
   * A new epoch; an open transaction is aborted. With `held` it fails when someone else came since.
   * @param waits for what is aborted or being ended to be so; without, it fails with CONCURRENT_TRANSACTIONS.
   */
  initialise(held: TransactionalIdentity, waits = true): Promise<TransactionalIdentity> {
    const { producerId, producerEpoch } = held;
    return this.#coordinator.ask(
      (connection) => {
        this.#connection = connection;
        return initProducerIdV4.api.async(
          connection,
          ...([this.#id, TRANSACTION_TIMEOUT_MS, producerId, producerEpoch] as const),
        );
      },
      // Two that take the id at once, or one while Kafka itself ends a transaction: who holds nothing can be fenced
      // by nobody, and comes next.
      ({ code, retryable }) => {
        if (code === CONCURRENT_TRANSACTIONS) return waits;
        return retryable || (held === ANEW && code === PRODUCER_FENCED);
      },
    );
  }

  /**
   * What the transaction will write to; the first call begins it.
   * @param mayBegin asked when another connection leads to the coordinator than the last time: where it rejects,
   * nothing is begun.
   */
  async addPartitions(
    { producerId, producerEpoch }: TransactionalIdentity,
    topics: readonly { readonly name: string; readonly partitions: number[] }[],
    mayBegin: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    await this.#coordinator.ask(async (connection) => {
      if (connection !== this.#connection) {
        await mayBegin().catch((error: Error) => {
          throw new NotAgain(error.message, { cause: error });
        });
        this.#connection = connection;
      }
      return addPartitionsToTxnV3.api.async(connection, [
        {
          transactionalId: this.#id,
          producerId,
          producerEpoch,
          verifyOnly: false,
          topics: [...topics],
        },
      ]);
    });
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

const UNKNOWN = { transactionState: "", producerId: -1n };

/** The id was never used, or Kafka has forgotten it. */
function unknownId(error: unknown): typeof UNKNOWN {
  if (hasError(error, TRANSACTIONAL_ID_NOT_FOUND)) return UNKNOWN;
  throw error;
}
