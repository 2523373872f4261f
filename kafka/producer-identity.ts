/**
 * Producer id, epoch and sequence of one partition's batches, by which the broker drops what it has
 * already. Each partition has an identity of its own: giving one up after an unknown outcome disturbs
 * no other partition.
 */
import { initProducerIdV4 } from "@platformatic/kafka";
import type { Cluster } from "./cluster.ts";

/** Long before sequences wrap at 2^31, a new identity starts at 0. */
const MAX_SEQUENCE = 2 ** 30;
/** Of no meaning without a transactional id; the broker wants a positive number. */
const TRANSACTION_TIMEOUT_MS = 60_000;

/** There is none to be had any more: what waits for one fails at once. */
export class NoIdentity extends Error {}

export class ProducerIdentity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
  readonly #untilMs: number;
  #next = 0;

  /** @param untilMs by `performance.now()`: it is used no longer. */
  constructor(
    producerId: bigint,
    producerEpoch: number,
    untilMs: number = Number.POSITIVE_INFINITY,
  ) {
    this.producerId = producerId;
    this.producerEpoch = producerEpoch;
    this.#untilMs = untilMs;
  }

  get exhausted(): boolean {
    return this.#next > MAX_SEQUENCE || performance.now() >= this.#untilMs;
  }

  /** The first sequence of a batch of `count`; called when the batch is made, once. */
  take(count: number): number {
    const first = this.#next;
    this.#next += count;
    return first;
  }
}

/** Rejects when no broker gives one. */
export async function newIdentity(cluster: Cluster): Promise<ProducerIdentity> {
  const given = await cluster.ask((connection) =>
    initProducerIdV4.api.async(connection, null, TRANSACTION_TIMEOUT_MS, -1n, -1),
  );
  return new ProducerIdentity(given.producerId, given.producerEpoch);
}
