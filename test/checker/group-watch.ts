/** Reads from time to time, by kafkajs, what Kafka shows of sessions as group offsets. */
import { type Admin, Kafka, logLevel } from "kafkajs";
import { pause } from "./clients/pace.ts";
import { MIRRORED } from "./clients/roster.ts";
import { DEPLOYMENT, type Field, NAMESPACE } from "./field.ts";
import { nowMs } from "./history.ts";
import type { Shown } from "./judge/world.ts";

const EVERY_MS = 1000;

export class GroupWatch {
  readonly shown: Shown[] = [];
  readonly #field: Field;
  readonly #admin: Admin;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(field: Field) {
    this.#field = field;
    this.#admin = new Kafka({
      ...{ brokers: [...field.kafka.brokers], logLevel: logLevel.NOTHING, clientId: "groups" },
      retry: { retries: 2, maxRetryTime: 500 },
    }).admin();
  }

  async open(): Promise<void> {
    await this.#admin.connect();
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#admin.disconnect();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await Promise.all(
        // A broker that is down answers nothing: there is no sample then.
        MIRRORED.map(({ topic, session }) => this.#look(topic, session).catch(() => {})),
      );
      await pause(EVERY_MS, signal);
    }
  }

  async #look(topic: string, session: string): Promise<void> {
    const kafkaTopic = this.#field.topics.get(topic)?.name;
    if (kafkaTopic === undefined) return;
    const groupId = ["_throughline", DEPLOYMENT, NAMESPACE, topic, session].join(".");
    const [found] = await this.#admin.fetchOffsets({ groupId, topics: [kafkaTopic] });
    const next: number[] = [];
    for (const { partition, offset } of found?.partitions ?? []) next[partition] = Number(offset);
    this.shown.push({ atMs: nowMs(), topic, session, next: Array.from(next, (at) => at ?? -1) });
  }
}
