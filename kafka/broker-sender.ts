/**
 * Produce requests to one broker, over one connection, one request open at a time: Kafka serves a
 * connection's requests one after the other, so what becomes ready meanwhile travels together in the
 * next one. Does not retry: says what became of each part.
 */
import type { Connection } from "@platformatic/kafka";
import { type Broker, type Cluster, closeConnection } from "./cluster.ts";
import { failureOfError } from "./failures.ts";
import type { LogFailure } from "./log.ts";
import { type Produce, type ProducedPart, type ProducePart, produceOver } from "./produce.ts";

export type Sent =
  | { readonly kind: "answered"; readonly part: ProducedPart }
  /** Nothing left this process. */
  | { readonly kind: "unsent"; readonly failure: LogFailure }
  /** It left, and no answer came. */
  | { readonly kind: "unanswered"; readonly failure: LogFailure };

interface Ready {
  readonly part: ProducePart;
  readonly done: (sent: Sent) => void;
}

const MAX_REQUEST_BYTES = 1 << 20;
/** The broker answers before the connection gives the request up. */
const ANSWER_EARLIER_MS = 2000;

export class BrokerSender {
  readonly #cluster: Cluster;
  readonly #broker: Broker;
  readonly #requestTimeoutMs: number;
  #ready: Ready[] = [];
  #running = false;
  #closed = false;
  #link: { readonly connection: Connection; readonly produce: Produce } | undefined;

  constructor(cluster: Cluster, broker: Broker, requestTimeoutMs: number) {
    this.#cluster = cluster;
    this.#broker = broker;
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  send(part: ProducePart): Promise<Sent> {
    return new Promise((done) => {
      this.#ready.push({ part, done });
      if (!this.#running) void this.#run();
    });
  }

  /** An open request ends unanswered. */
  close(): void {
    this.#closed = true;
    this.#drop();
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#ready.length > 0) await this.#sendSome();
    this.#running = false;
  }

  async #sendSome(): Promise<void> {
    let link: { readonly connection: Connection; readonly produce: Produce };
    try {
      link = this.#link ?? (await this.#connect());
    } catch (error) {
      for (const { done } of this.#ready.splice(0)) {
        done({ kind: "unsent", failure: failureOfError(error) });
      }
      return;
    }
    const some = this.#take();
    try {
      const timeoutMs = this.#requestTimeoutMs - ANSWER_EARLIER_MS;
      const parts = await link.produce(
        some.map(({ part }) => part),
        timeoutMs,
        null,
      );
      for (const { part, done } of some) done(answerTo(part, parts));
    } catch (error) {
      this.#drop();
      for (const { done } of some) done({ kind: "unanswered", failure: failureOfError(error) });
    }
  }

  async #connect(): Promise<{ connection: Connection; produce: Produce }> {
    if (this.#closed) throw new Error("the log is closed");
    const connection = await this.#cluster.connect(this.#broker, this.#requestTimeoutMs);
    try {
      const link = { connection, produce: await produceOver(connection) };
      if (this.#closed) throw new Error("the log is closed");
      connection.on("close", () => {
        if (this.#link === link) this.#link = undefined;
      });
      this.#link = link;
      return link;
    } catch (error) {
      closeConnection(connection);
      throw error;
    }
  }

  #take(): Ready[] {
    let bytes = 0;
    let count = 0;
    for (const { part } of this.#ready) {
      bytes += part.batch.length;
      if (count > 0 && bytes > MAX_REQUEST_BYTES) break;
      count++;
    }
    return this.#ready.splice(0, count);
  }

  #drop(): void {
    const link = this.#link;
    this.#link = undefined;
    if (link) closeConnection(link.connection);
  }
}

function answerTo(part: ProducePart, parts: readonly ProducedPart[]): Sent {
  const { topic, partition } = part;
  const found = parts.find(
    (p) => p.partition === partition && (p.topic === topic.id || p.topic === topic.name),
  );
  if (found) return { kind: "answered", part: found };
  const reason = `Kafka: the answer does not name ${topic.name}[${partition}]`;
  return { kind: "unanswered", failure: { kind: "unavailable", reason } };
}
