/**
 * The coordinator of one transactional id or group: found, asked, and found anew when it has moved. Only
 * what may be asked twice without harm goes this way: each question is tried again until it is answered or
 * its time is over, and rejects with what Kafka or the network said last.
 */
import { type Connection, FindCoordinatorKeyTypes, findCoordinatorV4 } from "@platformatic/kafka";
import type { Broker, Cluster } from "./cluster.ts";
import { CONCURRENT_TRANSACTIONS, type KafkaError, kafkaErrorsIn } from "./failures.ts";
import { pause } from "./pause.ts";

/** Connections to brokers, by whoever keeps them. */
export interface Lane {
  to(broker: Broker): Promise<Connection>;
  /** It did not answer: it is not to be used again. */
  failed(connection: Connection): void;
}

export interface CoordinatorOf {
  readonly kind: keyof typeof FindCoordinatorKeyTypes;
  readonly id: string;
  readonly lane: Lane;
  /** No new attempt after this time. */
  readonly withinMs: number;
  /** Whether the same question may be answered otherwise soon; by default as Kafka's protocol says. */
  readonly mayPass?: (error: KafkaError) => boolean;
}

/** Why there is no point in asking once more. */
export class NotAgain extends Error {}

export class Coordinator {
  readonly #cluster: Cluster;
  readonly #of: CoordinatorOf;
  #broker: Broker | undefined;

  constructor(cluster: Cluster, of: CoordinatorOf) {
    this.#cluster = cluster;
    this.#of = of;
  }

  /** Rejects at once with a NotAgain of `send`. */
  async ask<T>(
    send: (connection: Connection) => Promise<T>,
    mayPass = this.#of.mayPass ?? isRetryable,
  ): Promise<T> {
    const { lane, withinMs } = this.#of;
    const deadline = performance.now() + withinMs;
    for (let attempt = 0; ; attempt++) {
      let connection: Connection | undefined;
      try {
        this.#broker ??= await this.#find();
        connection = await lane.to(this.#broker);
        return await send(connection);
      } catch (error) {
        if (error instanceof NotAgain) throw error;
        const errors = kafkaErrorsIn(error);
        if (connection && errors.length === 0) lane.failed(connection);
        if (errors.some((e) => !mayPass(e)) || performance.now() > deadline) throw error;
        // The markers of the transaction before are still being written: soon, and by the same broker.
        const soon = errors.some(({ code }) => code === CONCURRENT_TRANSACTIONS);
        if (!soon) this.#broker = undefined;
        await pause(soon ? Math.min(10, 1 + attempt) : Math.min(500, 20 * 2 ** attempt));
      }
    }
  }

  async #find(): Promise<Broker> {
    const { kind, id } = this.#of;
    const answer = await this.#cluster.ask((connection) =>
      findCoordinatorV4.api.async(connection, FindCoordinatorKeyTypes[kind], [id]),
    );
    const found = answer.coordinators[0];
    if (!found) throw new Error(`no coordinator is named for ${id}`);
    return { host: found.host, port: found.port };
  }
}

function isRetryable({ retryable }: KafkaError): boolean {
  return retryable;
}
