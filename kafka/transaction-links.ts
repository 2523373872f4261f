/**
 * The connections that transactional writers share: a few to each broker, since Kafka serves one request
 * per connection at a time, and one per writer would be thousands. A writer keeps to its lane, so that its
 * requests arrive in order; a connection that failed is given up for all of its lane.
 */
import type { Connection } from "@platformatic/kafka";
import { type Broker, type Cluster, closeConnection } from "./cluster.ts";
import type { Lane } from "./transaction-coordinator.ts";

const LANES = 4;
const REQUEST_TIMEOUT_MS = 5000;

export class TransactionLinks {
  readonly #cluster: Cluster;
  readonly #open = new Map<string, Promise<Connection>>();
  #next = 0;
  #closed = false;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** A lane for one writer: connects to a broker when it is first asked for. */
  lane(): Lane {
    const lane = this.#next++ % LANES;
    return {
      to: ({ host, port }) => this.#to(`${lane}/${host}:${port}`, { host, port }),
      failed: closeConnection,
    };
  }

  close(): void {
    this.#closed = true;
    for (const opening of this.#open.values()) opening.then(closeConnection, () => {});
    this.#open.clear();
  }

  #to(key: string, broker: Broker): Promise<Connection> {
    const known = this.#open.get(key);
    if (known) return known;
    if (this.#closed) return Promise.reject(new Error("the log is closed"));
    const opening = this.#cluster.connect(broker, REQUEST_TIMEOUT_MS);
    this.#open.set(key, opening);
    const forget = (): void => {
      if (this.#open.get(key) === opening) this.#open.delete(key);
    };
    opening.then((connection) => connection.on("close", forget), forget);
    return opening;
  }
}
