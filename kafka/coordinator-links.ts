/**
 * The connections that many writers, or many groups, share to their coordinators: a few to each broker,
 * since Kafka serves one request per connection at a time, and one for each of them would be thousands.
 * Who has a lane keeps to it, so that its requests arrive in order; a connection that failed is given up
 * for all of its lane.
 */
import type { Connection } from "@platformatic/kafka";
import { type Broker, type Cluster, closeConnection } from "./cluster.ts";
import type { Lane } from "./coordinator.ts";

const LANES = 4;
const REQUEST_TIMEOUT_MS = 5000;

export class CoordinatorLinks {
  readonly #cluster: Cluster;
  readonly #open = new Map<string, Promise<Connection>>();
  #next = 0;
  #closed = false;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** A lane: connects to a broker when it is first asked for. */
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
