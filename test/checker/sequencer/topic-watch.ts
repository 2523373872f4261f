/** What is in the log of each Topic, as kafkajs follows it, and what subscribers are given of it. */
import { type Consumer, Kafka, logLevel } from "kafkajs";
import { ThroughlineClient } from "../../../client/client.ts";
import { follow } from "../follow.ts";
import { contentOf } from "../history.ts";
import type { Evidence, Seen, Watched } from "./judge/evidence.ts";

type Seeing = Watched & { readonly events: Seen[] };

export class LogWatch {
  readonly watched: Seeing[] = [];
  readonly #kafka: Kafka;
  readonly #consumers: Consumer[] = [];

  constructor(brokers: readonly string[]) {
    this.#kafka = new Kafka({
      ...{ brokers: [...brokers], logLevel: logLevel.NOTHING, clientId: "log-watch" },
      retry: { retries: 1000, maxRetryTime: 2000 },
    });
  }

  async open(topic: string, kafkaTopic: string): Promise<void> {
    const events: Seen[] = [];
    this.watched.push({ by: "log", topic, events });
    let last = -1;
    const of = { topic: kafkaTopic, groupId: `log-watch-${kafkaTopic}` };
    const consumer = await follow(this.#kafka, of, (_partition, messages) => {
      const atMs = Date.now();
      for (const { offset, key, value, headers = {} } of messages) {
        // A consumer that joins anew is told again what it was told.
        if (Number(offset) <= last) continue;
        last = Number(offset);
        const int64 = (name: string): bigint =>
          (headers[name] as Buffer | undefined)?.readBigInt64BE() ?? -1n;
        events.push({
          ...{ sequence: Number(int64("tl-sequence")), commitId: int64("tl-commit-id"), atMs },
          content: contentOf(
            String(value ?? ""),
            String(key ?? ""),
            String(headers["ce_type"] ?? ""),
          ),
        });
      }
    });
    this.#consumers.push(consumer);
  }

  async close(): Promise<void> {
    for (const consumer of this.#consumers) await consumer.disconnect();
  }
}

/** Clients of the library, one for each Topic: what their app is given, in that order. */
export class Subscribers {
  readonly watched: Seeing[] = [];
  readonly ends: Evidence["ends"][number][] = [];
  readonly #client: ThroughlineClient;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>[] = [];

  constructor(addresses: readonly string[]) {
    this.#client = new ThroughlineClient(addresses);
  }

  open(topic: string): void {
    const watched = { by: "subscriber", topic, events: [] };
    this.watched.push(watched);
    this.#running.push(this.#run(watched));
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#running);
    this.#client.close();
  }

  async #run({ by, topic, events }: Seeing): Promise<void> {
    const { signal } = this.#stopping;
    const start = { $case: "earliest", value: {} } as const;
    try {
      for await (const batch of this.#client.subscribe({ topic, start, signal })) {
        const atMs = Date.now();
        for (const { sequence, commitId, key, payload, type } of batch.events) {
          const content = contentOf(String(payload ?? ""), String(key ?? ""), type);
          events.push({ sequence: Number(sequence), commitId, content, atMs });
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      this.ends.push({ by: `${by}, ${topic}`, atMs: Date.now(), said: String(error) });
    }
  }
}
