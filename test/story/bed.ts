/**
 * What every story stands on: a real Kafka (one for all stories that do it no harm), an operator's hand (Topics by the reconciler), servers as
 * processes, subscribers that write down what they got, and the judge, which reads the log with kafkajs.
 *
 * Events are numbered: event n of a topic has the value "n", a key of 37 and the type "even" or "odd".
 */
import { join } from "node:path";
import { expect } from "@jest/globals";
import type { SubscribeOptions } from "../../client/client.ts";
import type { Log, NewRecord, TopicInfo } from "../../kafka/log.ts";
import { judge, type Seen } from "../../local/demo-audit.ts";
import {
  type EmbeddedKafka,
  type EmbeddedKafkaOptions,
  startKafka,
} from "../../local/embedded-kafka.ts";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { idOf, type Recorded } from "../../operator/plan.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { nameOf } from "../../operator/topic-spec.ts";
import type { TopicResource } from "../../operator/validate.ts";
import type { FaultProxy } from "../faults/fault-proxy.ts";
import { folderOfPart, KafkaPart } from "../kafka-part.ts";
import { type Launch, shippedOnce } from "../shipped.ts";
import { readTopic } from "./read-topic.ts";
import { StoryServer } from "./story-server.ts";
import { Subscriber } from "./subscriber.ts";
import { Waits } from "./waits.ts";

/** For a hook or test that starts processes. */
export const SLOW_MS = 180_000;

export interface LoneBedOptions extends Omit<EmbeddedKafkaOptions, "directory"> {
  /** What servers and the operator connect to instead of Kafka's own address. Whoever made it closes it. */
  readonly through?: FaultProxy;
}

export class Bed {
  /** Its name is the deployment's and the namespace's. */
  readonly part: KafkaPart;
  readonly log: Log;
  /** Servers run as the image ships them. */
  readonly #launch: Launch;
  #catalog: CatalogWriter;
  #reconciler: Reconciler;
  #generation = 0;
  /** By Topic: what its status says, to an operator whose catalog was lost. */
  readonly #recorded = new Map<string, Recorded>();
  readonly #closing: (() => Promise<unknown>)[] = [];

  protected constructor(part: KafkaPart, log: Log, catalog: CatalogWriter) {
    this.#launch = shippedOnce(part.folder);
    this.part = part;
    this.log = log;
    this.#catalog = catalog;
    this.#reconciler = new Reconciler(log, catalog);
  }

  static async open(): Promise<Bed> {
    const part = await KafkaPart.open();
    const log = part.openLog();
    return new Bed(part, log, await CatalogWriter.open(log, part.name, Date.now));
  }

  get folder(): string {
    return this.part.folder;
  }

  /** Ends with the bed, in reverse order. */
  onClose(end: () => Promise<unknown>): void {
    this.#closing.push(end);
  }

  async close(): Promise<void> {
    for (const end of this.#closing.splice(0).reverse()) await end();
    this.#catalog.close();
    await this.log.close();
    await this.part.close();
  }

  /** Applies the Topic of this name in the bed's namespace. */
  async topic(
    name: string,
    spec: TopicResource["spec"] = {},
    annotations: Record<string, string> = {},
  ): Promise<TopicInfo> {
    const resource = { metadata: { name, namespace: this.part.name, annotations }, spec };
    const recorded = this.#recorded.get(nameOf(resource));
    const owner = { uid: name, generation: ++this.#generation, clusterUid: "", recorded };
    const status = await this.#reconciler.apply(resource, owner);
    if (!status.ready) throw new Error(`${status.reason}: ${status.message}`);
    const { kafkaTopic, topicId, partitions } = status;
    return { name: kafkaTopic, id: topicId, partitions, replicas: 1 };
  }

  /** Somebody deletes the catalog, and the next operator makes it anew: it knows what the Topics' statuses say. */
  async loseCatalog(): Promise<void> {
    for (const [name, record] of this.#catalog.records)
      this.#recorded.set(name, { topicId: idOf(record), adopted: record.adopted });
    await this.#catalog.delete();
    this.#catalog.close();
    this.#catalog = await CatalogWriter.open(this.log, this.part.name, Date.now);
    this.#reconciler = new Reconciler(this.log, this.#catalog);
  }

  async removeTopic(name: string, policy: "Retain" | "Delete"): Promise<void> {
    await this.#reconciler.delete(`${this.part.name}/${name}`, policy);
  }

  /** Appends events `from` to `from + count - 1`. @throws when one is not acknowledged. */
  async append(topic: TopicInfo, from: number, count: number): Promise<void> {
    const outcomes = await Promise.all(
      Array.from({ length: count }, (_, i) => this.log.append(topic, null, numbered(from + i))),
    );
    for (const outcome of outcomes) {
      if (outcome.kind !== "appended") throw new Error(JSON.stringify(outcome));
    }
  }

  /** A session store of its own, real. */
  async store(): Promise<EmbeddedStore> {
    const store = await startStore({ directory: join(this.folder, "store") });
    this.onClose(() => store.stop());
    return store;
  }

  /** A server that is ready and serves these topics. */
  async server(topics: readonly string[], ...flags: string[]): Promise<StoryServer> {
    const server = this.spawn(...flags);
    await server.ready();
    for (const topic of topics) await server.knows(topic);
    return server;
  }

  /** A server process, from its first moment. */
  spawn(...flags: string[]): StoryServer {
    const server = new StoryServer(
      [
        ...["--kafka", this.part.brokers.join(","), "--deployment-id", this.part.name],
        ...["--namespace", this.part.name],
        ...["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"],
        ...flags,
      ],
      this.#launch,
    );
    this.onClose(() => server.kill());
    return server;
  }

  subscriber(addresses: readonly string[], options: SubscribeOptions): Subscriber {
    const subscriber = new Subscriber(addresses, options);
    this.onClose(() => subscriber.stop());
    return subscriber;
  }

  /** The log as kafkajs reads it. */
  read(topic: TopicInfo): Promise<Seen[]> {
    return readTopic(this.part.brokers, topic.name);
  }

  /**
   * P1, P2, P3: the subscriber has, or soon will have, every event of the log that it admits, once and
   * in order. The log must not grow any more.
   */
  async expectWhole(
    topic: TopicInfo,
    subscribers: Subscriber | readonly Subscriber[],
    admits: (event: Seen) => boolean = () => true,
  ): Promise<Seen[]> {
    const log = (await this.read(topic)).filter(admits);
    for (const subscriber of [subscribers].flat()) {
      await subscriber.until(() => subscriber.seen.length >= log.length);
      const { received, ...wrong } = judge(log, subscriber.seen);
      expect(wrong).toEqual({ missing: 0, repeated: 0, outOfOrder: 0, different: 0 });
      expect(received).toBe(log.length);
    }
    return log;
  }
}

/** On a Kafka of its own, for stories that do it harm. */
export class LoneBed extends Bed {
  readonly kafka: EmbeddedKafka;

  private constructor(kafka: EmbeddedKafka, ...bed: [KafkaPart, Log, CatalogWriter]) {
    super(...bed);
    this.kafka = kafka;
  }

  static override async open({ through, ...options }: LoneBedOptions = {}): Promise<LoneBed> {
    const directory = folderOfPart();
    const settings = { ...options.settings, ...through?.advertised() };
    const kafka = await startKafka({ ...options, settings, directory });
    if (through) through.target = Number(kafka.brokers[0]?.split(":")[1]);
    const brokers = through ? [through.address] : kafka.brokers;
    const part = new KafkaPart(directory, brokers, kafka.java, () => kafka.stop("SIGKILL"));
    const log = part.openLog();
    const catalog = await CatalogWriter.open(log, part.name, Date.now);
    return new LoneBed(kafka, part, log, catalog);
  }
}

export function numbered(n: number, padding = 0): NewRecord {
  const type = n % 2 === 0 ? "even" : "odd";
  return {
    key: Buffer.from(`key-${n % 37}`),
    value: Buffer.from(padding === 0 ? String(n) : `${n} ${"x".repeat(padding)}`),
    headers: [["ce_type", Buffer.from(type)]],
    timeMs: Date.now(),
  };
}

/** Appends numbered events, a few at a time, until it is stopped. */
export class Load {
  count: number;
  readonly #timer: NodeJS.Timeout;
  #appending: Promise<void> | undefined;
  readonly #waits = new Waits();

  /** @param append rejects when events were not acknowledged: the load goes on with later ones. */
  constructor(append: (from: number, count: number) => Promise<unknown>, from = 0, batch = 25) {
    this.count = from;
    // A pace that leaves two cores time for everybody else: at most one batch is under way.
    this.#timer = setInterval(() => {
      this.#appending ??= append(this.count, batch)
        .catch(() => {})
        .then(() => {
          this.count += batch;
          this.#appending = undefined;
          this.#waits.changed();
        });
    }, 40);
  }

  /** Resolves when that many more were acknowledged. */
  more(count: number): Promise<void> {
    const goal = this.count + count;
    return this.#waits.until(() => this.count >= goal);
  }

  async stop(): Promise<number> {
    clearInterval(this.#timer);
    await this.#appending;
    return this.count;
  }
}
