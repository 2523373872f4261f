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
  endTxnV3,
  FindCoordinatorKeyTypes,
  findCoordinatorV4,
  initProducerIdV4,
} from "@platformatic/kafka";
import type { Broker, Cluster } from "./cluster.ts";
import { CONCURRENT_TRANSACTIONS, kafkaErrorsIn } from "./failures.ts";

export interface TransactionalIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** No identity yet: whoever holds the transactional id is fenced. */
export const ANEW: TransactionalIdentity = { producerId: -1n, producerEpoch: -1 };

/** What a frozen writer can hold back readers for. */
export const TRANSACTION_TIMEOUT_MS = 10_000;
const STEP_TIMEOUT_MS = 15_000;

/** Connections to brokers, by whoever keeps them. */
export interface Lane {
  to(broker: Broker): Promise<Connection>;
  /** It did not answer: it is not to be used again. */
  failed(connection: Connection): void;
}

export class TransactionCoordinator {
  readonly #cluster: Cluster;
  readonly #id: string;
  readonly #lane: Lane;
  #broker: Broker | undefined;

  constructor(
    cluster: Cluster,
    transactionalId: string,
    lane: Lane = { to: (broker) => cluster.control(broker), failed: () => {} },
  ) {
    this.#cluster = cluster;
    this.#id = transactionalId;
    this.#lane = lane;
  }

  /** A new epoch; an open transaction is aborted. With `held` it fails when someone else came since. */
  initialise({ producerId, producerEpoch }: TransactionalIdentity): Promise<TransactionalIdentity> {
    return this.#ask((connection) =>
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
    await this.#ask((connection) =>
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
    await this.#ask((connection) =>
      endTxnV3.api.async(connection, this.#id, producerId, producerEpoch, how === "commit"),
    );
  }

  async #ask<T>(send: (connection: Connection) => Promise<T>): Promise<T> {
    const deadline = performance.now() + STEP_TIMEOUT_MS;
    for (let attempt = 0; ; attempt++) {
      let connection: Connection | undefined;
      try {
        this.#broker ??= await this.#find();
        connection = await this.#lane.to(this.#broker);
        return await send(connection);
      } catch (error) {
        const errors = kafkaErrorsIn(error);
        if (connection && errors.length === 0) this.#lane.failed(connection);
        if (errors.some(({ retryable }) => !retryable) || performance.now() > deadline) throw error;
        // The markers of the transaction before are still being written: soon, and by the same broker.
        const soon = errors.some(({ code }) => code === CONCURRENT_TRANSACTIONS);
        if (!soon) this.#broker = undefined;
        await pause(soon ? Math.min(10, 2 * 2 ** attempt) : Math.min(500, 20 * 2 ** attempt));
      }
    }
  }

  async #find(): Promise<Broker> {
    const { TRANSACTION } = FindCoordinatorKeyTypes;
    const answer = await this.#cluster.ask((connection) =>
      findCoordinatorV4.api.async(connection, TRANSACTION, [this.#id]),
    );
    const found = answer.coordinators[0];
    if (!found) throw new Error(`no coordinator is named for ${this.#id}`);
    return { host: found.host, port: found.port };
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
