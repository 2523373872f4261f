/**
 * The cluster as this process sees it: which broker leads what, and a connection to it. Kafka serves one
 * request per connection at a time, so each purpose takes connections of its own: look-ups share the control
 * connections here, and so do the steps of admin, which take long; readers, writers and the appender open theirs.
 */
import { isIP } from "node:net";
import type { ConnectionOptions as TlsOptions } from "node:tls";
import { Connection, metadataV12, type SASLOptions } from "@platformatic/kafka";
import { responseOf } from "./failures.ts";
import { ReceiveBuffers } from "./receive-buffers.ts";

export interface KafkaOptions {
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly tls?: TlsOptions;
  readonly sasl?: SASLOptions;
}

export interface Leader {
  readonly broker: Broker;
  readonly epoch: number;
}

export interface Broker {
  readonly host: string;
  readonly port: number;
}

export interface TopicView {
  readonly id: string;
  readonly errorCode: number;
  readonly partitions: readonly { leaderId: number; leaderEpoch: number; replicas: number }[];
}

type MetadataResponse = ReturnType<typeof metadataV12.parseResponse>;

interface View {
  readonly brokers: ReadonlyMap<number, Broker>;
  readonly topics: ReadonlyMap<string, TopicView>;
}

/** What a control connection is for. */
type Purpose = "look-ups" | "steps";

export const CONNECT_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;
/** Of a look-up: a broker that takes longer is asked no more for now. */
const LOOK_UP_TIMEOUT_MS = 5000;

export class Cluster {
  readonly options: KafkaOptions;
  /** Shared by every reader. */
  readonly receiveBuffers = new ReceiveBuffers();
  readonly #control = new Map<string, Promise<Connection>>();
  readonly #pending = new Map<string, Promise<View>>();
  readonly #leaders = new Map<string, Leader>();
  readonly #keys = new WeakMap<Connection, { readonly broker: string; readonly control: string }>();
  /** Brokers that could not be reached, or did not answer, when they were asked last. */
  readonly #silent = new Set<string>();
  #brokers: Broker[];
  #closed = false;

  constructor(options: KafkaOptions) {
    this.options = options;
    this.#brokers = options.brokers.map(parseBroker);
  }

  /** A new connection; the caller closes it. Rejects when it cannot be had. */
  async connect(broker: Broker, requestTimeoutMs = REQUEST_TIMEOUT_MS): Promise<Connection> {
    const { clientId, tls, sasl } = this.options;
    const connection = new Connection(clientId, {
      connectTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: requestTimeoutMs,
      ...(tls && { tls, tlsServerName: !isIP(broker.host) }),
      ...(sasl ? { sasl } : {}),
    });
    // Failures reach the caller by its request; an unheard "error" event would end the process.
    connection.on("error", () => {});
    await connection.connect(broker.host, broker.port);
    return connection;
  }

  /** The shared connection for look-ups, or for steps of admin: to this broker, or to any. */
  async control(broker?: Broker, purpose: Purpose = "look-ups"): Promise<Connection> {
    if (broker) return this.#controlTo(broker, purpose);
    let last: unknown = new Error("no broker is known");
    // Who was silent the last time comes last.
    const silent = (candidate: Broker): number => Number(this.#silent.has(keyOf(candidate)));
    for (const candidate of this.#brokers.toSorted((a, b) => silent(a) - silent(b))) {
      try {
        return await this.#controlTo(candidate, purpose);
      } catch (error) {
        this.#silent.add(keyOf(candidate));
        last = error;
      }
    }
    throw last;
  }

  /**
   * Asks any broker what may be asked twice: one that does not answer soon may be frozen, and then
   * another one is asked. Rejects with what the last one said.
   */
  async ask<T>(send: (connection: Connection) => Promise<T>): Promise<T> {
    let last: unknown;
    for (let attempt = 0; attempt < 2; attempt++) {
      const connection = await this.control();
      try {
        const answer = await inTime(send(connection), LOOK_UP_TIMEOUT_MS);
        this.#silent.delete(this.#keys.get(connection)?.broker ?? "");
        return answer;
      } catch (error) {
        if (responseOf(error)) throw error;
        last = error;
        this.#drop(connection);
      }
    }
    throw last;
  }

  /** Metadata of these topics (null: all), asked afresh; callers at the same time share one request. */
  view(names: readonly string[] | null): Promise<View> {
    const key = names === null ? "*" : names.join(" ");
    const pending = this.#pending.get(key);
    if (pending) return pending;
    const asked = this.#ask(names).finally(() => this.#pending.delete(key));
    this.#pending.set(key, asked);
    return asked;
  }

  /** Who leads the partition; undefined when nobody does now. Rejects when no broker answers. */
  async leader(topic: string, partition: number, fresh: boolean): Promise<Leader | undefined> {
    const key = `${topic}/${partition}`;
    if (!fresh) {
      const known = this.#leaders.get(key);
      if (known) return known;
    }
    const view = await this.view([topic]);
    const found = view.topics.get(topic)?.partitions[partition];
    const broker = found && view.brokers.get(found.leaderId);
    if (!found || !broker) {
      this.#leaders.delete(key);
      return undefined;
    }
    const leader = { broker, epoch: found.leaderEpoch };
    this.#leaders.set(key, leader);
    return leader;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const open = [...this.#control.values()];
    this.#control.clear();
    for (const pending of open) {
      await pending.then(closeConnection, () => {});
    }
  }

  async #ask(names: readonly string[] | null): Promise<View> {
    try {
      return this.#take(
        await this.ask((connection) =>
          metadataV12.api.async(connection, names && [...names], false, false),
        ),
      );
    } catch (error) {
      // The library throws for an answer with any error in it; each topic's is judged where it is read.
      const response = responseOf<MetadataResponse>(error);
      if (response) return this.#take(response);
      throw error;
    }
  }

  #take(response: MetadataResponse): View {
    const brokers = new Map(
      response.brokers.map((b) => [b.nodeId, { host: b.host, port: b.port }]),
    );
    if (brokers.size > 0)
      this.#brokers = [...brokers.values(), ...this.options.brokers.map(parseBroker)];
    const topics = new Map<string, TopicView>();
    for (const topic of response.topics) {
      if (topic.name === null || topic.name === undefined) continue;
      const partitions: TopicView["partitions"][number][] = [];
      for (const { partitionIndex, leaderId, leaderEpoch, replicaNodes } of topic.partitions) {
        partitions[partitionIndex] = { leaderId, leaderEpoch, replicas: replicaNodes.length };
      }
      topics.set(topic.name, {
        id: topic.topicId.replaceAll("-", ""),
        errorCode: topic.errorCode,
        partitions,
      });
    }
    return { brokers, topics };
  }

  #controlTo(broker: Broker, purpose: Purpose): Promise<Connection> {
    const key = `${purpose} ${keyOf(broker)}`;
    const known = this.#control.get(key);
    if (known) return known;
    if (this.#closed) return Promise.reject(new Error("the log is closed"));
    const made = this.connect(broker).then(
      (connection) => {
        this.#keys.set(connection, { broker: keyOf(broker), control: key });
        connection.on("close", () => this.#forget(key, made));
        return connection;
      },
      (error: unknown) => {
        this.#forget(key, made);
        throw error;
      },
    );
    this.#control.set(key, made);
    return made;
  }

  #forget(key: string, connection: Promise<Connection>): void {
    if (this.#control.get(key) === connection) this.#control.delete(key);
  }

  #drop(connection: Connection): void {
    const keys = this.#keys.get(connection);
    if (keys !== undefined) {
      this.#silent.add(keys.broker);
      this.#control.delete(keys.control);
    }
    closeConnection(connection);
  }
}

function keyOf({ host, port }: Broker): string {
  return `${host}:${port}`;
}

/** Rejects when it takes longer; what was asked is not called back. */
export function inTime<T>(answer: Promise<T>, withinMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error("the broker does not answer in time")),
      withinMs,
    );
    answer.then(resolve, reject).finally(() => clearTimeout(late));
  });
}

export function closeConnection(connection: Connection): void {
  connection.close().catch(() => {});
}

function parseBroker(address: string): Broker {
  const colon = address.lastIndexOf(":");
  const port = Number(address.slice(colon + 1));
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ""), port };
}

/** 32 hex digits as the client library writes a topic id. */
export function dashed(id: string): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
