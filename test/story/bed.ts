/**
 * What every story stands on: a real Kafka, an operator's hand (Topics by the reconciler), servers as
 * processes, subscribers that write down what they got, and the judge, which reads the log with kafkajs.
 *
 * Events are numbered: event n of a topic has the value "n", a key of 37 and the type "even" or "odd".
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type ChannelCredentials, credentials, type ServiceError } from "@grpc/grpc-js";
import { expect } from "@jest/globals";
import { type Notice, type SubscribeOptions, ThroughlineClient } from "../../client/client.ts";
import { ThroughlineError, toThroughlineError } from "../../client/errors.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, NewRecord, TopicInfo } from "../../kafka/log.ts";
import { judge, readTopic, type Seen } from "../../local/demo-audit.ts";
import {
  type EmbeddedKafka,
  type EmbeddedKafkaOptions,
  startKafka,
} from "../../local/embedded-kafka.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicResource } from "../../operator/validate.ts";
import {
  type SubscribeOpen,
  type SubscribeRequest,
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";

/** For a hook or test that starts processes. */
export const SLOW_MS = 180_000;
export const EARLIEST = { $case: "earliest", value: {} } as const;
const MAIN = join(import.meta.dirname, "../../sidecar/main.ts");
const DEPLOYMENT = "story";
const NAMESPACE = "shop";

/** Wakes whoever waits for something to hold, after each change. */
export class Waits {
  readonly #looks = new Set<() => void>();

  changed(): void {
    for (const look of [...this.#looks]) look();
  }

  /** Resolves when it holds; rejects with what `broken` says. */
  until(holds: () => boolean, broken: () => Error | undefined = () => undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const failure = broken();
        if (!failure && !holds()) return;
        this.#looks.delete(look);
        if (failure) reject(failure);
        else resolve();
      };
      this.#looks.add(look);
      look();
    });
  }
}

export interface BedOptions extends Omit<EmbeddedKafkaOptions, "directory"> {
  /** What servers and the operator connect to instead of Kafka's own address: a proxy before it. */
  readonly through?: string;
}

export class Bed {
  readonly kafka: EmbeddedKafka;
  readonly log: Log;
  /** For servers. */
  readonly brokers: readonly string[];
  readonly folder: string;
  #catalog: CatalogWriter;
  #reconciler: Reconciler;
  #generation = 0;
  readonly #closing: (() => Promise<unknown>)[] = [];

  private constructor(
    folder: string,
    kafka: EmbeddedKafka,
    brokers: readonly string[],
    log: Log,
    catalog: CatalogWriter,
  ) {
    this.folder = folder;
    this.kafka = kafka;
    this.brokers = brokers;
    this.log = log;
    this.#catalog = catalog;
    this.#reconciler = new Reconciler(log, catalog);
  }

  static async open(options: BedOptions = {}, started?: (kafka: EmbeddedKafka) => void) {
    const folder = mkdtempSync(join(tmpdir(), "throughline-story-"));
    const kafka = await startKafka({ ...options, directory: folder });
    started?.(kafka);
    const brokers = options.through ? [options.through] : kafka.brokers;
    const log = openKafkaLog({ brokers, clientId: "story" });
    return new Bed(
      folder,
      kafka,
      brokers,
      log,
      await CatalogWriter.open(log, DEPLOYMENT, Date.now),
    );
  }

  /** Ends with the bed, in reverse order. */
  onClose(end: () => Promise<unknown>): void {
    this.#closing.push(end);
  }

  async close(): Promise<void> {
    for (const end of this.#closing.splice(0).reverse()) await end();
    await this.#catalog.close();
    await this.log.close();
    await this.kafka.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Applies the Topic `shop/<name>`. */
  async topic(
    name: string,
    spec: TopicResource["spec"] = {},
    annotations: Record<string, string> = {},
  ): Promise<TopicInfo> {
    const resource = { metadata: { name, namespace: NAMESPACE, annotations }, spec };
    const owner = { uid: name, generation: ++this.#generation, clusterUid: "" };
    const status = await this.#reconciler.apply(resource, owner);
    if (!status.ready) throw new Error(`${status.reason}: ${status.message}`);
    const { kafkaTopic, topicId, partitions } = status;
    return { name: kafkaTopic, id: topicId, partitions, replicas: 1 };
  }

  async removeTopic(name: string, policy: "Retain" | "Delete"): Promise<void> {
    await this.#reconciler.delete(`${NAMESPACE}/${name}`, policy);
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

  /** A server that is ready and serves these topics. */
  async server(topics: readonly string[], ...flags: string[]): Promise<StoryServer> {
    const server = this.spawn(...flags);
    await server.ready();
    for (const topic of topics) await server.knows(topic);
    return server;
  }

  /** A server process, from its first moment. */
  spawn(...flags: string[]): StoryServer {
    const server = new StoryServer([
      ...["--kafka", this.brokers.join(","), "--deployment-id", DEPLOYMENT],
      ...["--namespace", NAMESPACE, "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"],
      ...flags,
    ]);
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
    return readTopic(this.brokers, topic.name);
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

export function numbered(n: number, padding = 0): NewRecord {
  const type = n % 2 === 0 ? "even" : "odd";
  return {
    key: Buffer.from(`key-${n % 37}`),
    value: Buffer.from(padding === 0 ? String(n) : `${n} ${"x".repeat(padding)}`),
    headers: [["ce_type", Buffer.from(type)]],
    timeMs: Date.now(),
  };
}

interface Line {
  readonly msg?: string;
  readonly listen?: string;
  readonly health?: string;
}

/** A server as a process: `sidecar/main.ts`, as it would be started anywhere. */
export class StoryServer {
  readonly child: ChildProcess;
  readonly lines: Line[] = [];
  /** The exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>;
  address = "";
  health = "";
  readonly #waits = new Waits();
  #over = false;
  #stderr = "";

  constructor(args: readonly string[]) {
    const node = ["--disable-warning=ExperimentalWarning", MAIN, ...args];
    this.child = spawn(process.execPath, node, { stdio: ["ignore", "pipe", "pipe"] });
    const endWithUs = (): void => void this.child.kill("SIGKILL");
    process.once("exit", endWithUs);
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on("line", (text) => {
      const line = (text.startsWith("{") ? JSON.parse(text) : { msg: text }) as Line;
      this.lines.push(line);
      if (line.msg === "serving") {
        this.address = line.listen ?? "";
        this.health = `http://${line.health}`;
      }
      this.#waits.changed();
    });
    this.ended = once(this.child, "close").then(([code]) => {
      process.removeListener("exit", endWithUs);
      this.#over = true;
      this.#waits.changed();
      return code as number | null;
    });
  }

  said(msg: string, times = 1): Promise<void> {
    const count = (): number => this.lines.filter((line) => line.msg?.includes(msg)).length;
    return this.#waits.until(
      () => count() >= times,
      () =>
        this.#over && count() < times
          ? new Error(`the server ended without "${msg}": ${this.#stderr}`)
          : undefined,
    );
  }

  async ready(): Promise<void> {
    await this.said("serving");
    await this.said("the catalog was read");
    while (!(await this.isReady()).ready);
  }

  async isReady(): Promise<{ ready: boolean; why: string }> {
    const answer = await fetch(`${this.health}/readyz`);
    return { ready: answer.status === 200, why: (await answer.text()).trim() };
  }

  /** Resolves when the server has read of this topic in its catalog. */
  async knows(topic: string): Promise<void> {
    const stub = new ThroughlineServiceClient(this.address, credentials.createInsecure());
    try {
      for (let known = false; !known; ) {
        known = await new Promise<boolean>((resolve, reject) => {
          stub.listTopics({}, (error, { topics } = { topics: [] }) => {
            if (error) reject(error);
            else resolve(topics.some(({ name }) => name === `${NAMESPACE}/${topic}`));
          });
        });
      }
    } finally {
      stub.close();
    }
  }

  /** A counter or gauge of /metrics. */
  async metric(name: string): Promise<number> {
    const page = await (await fetch(`${this.health}/metrics`)).text();
    const found = new RegExp(`^throughline_${name}(?:\\{[^}]*\\})? (\\S+)`, "m").exec(page);
    return Number(found?.[1] ?? Number.NaN);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async kill(): Promise<void> {
    if (this.#over) return;
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** A client of the library that writes down everything. */
export class Subscriber {
  readonly seen: Seen[] = [];
  readonly notices: { readonly notice: Notice; readonly address: string }[] = [];
  readonly breaks: { readonly error: ThroughlineError; readonly address: string }[] = [];
  token: Buffer = Buffer.alloc(0);
  failure: ThroughlineError | undefined;
  readonly #waits = new Waits();
  readonly #client: ThroughlineClient;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(addresses: readonly string[], options: SubscribeOptions) {
    this.#client = new ThroughlineClient(addresses);
    this.#running = this.#run(options);
  }

  /** Rejects when the stream ends for good before. */
  until(holds: () => boolean): Promise<void> {
    return this.#waits.until(holds, () => (holds() ? undefined : this.failure));
  }

  has(count: number): Promise<void> {
    return this.until(() => this.seen.length >= count);
  }

  /** Waits for a notice of this kind. */
  async told<Kind extends Notice["$case"]>(kind: Kind, times = 1) {
    const found = () => this.notices.filter(({ notice }) => notice.$case === kind);
    await this.until(() => found().length >= times);
    return found()[times - 1]?.notice as Extract<Notice, { $case: Kind }>;
  }

  /** Waits for the end of the stream for good. */
  async fails(): Promise<ThroughlineError> {
    await this.#waits.until(() => this.failure !== undefined);
    return this.failure as ThroughlineError;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#client.close();
  }

  async #run(options: SubscribeOptions): Promise<void> {
    try {
      const batches = this.#client.subscribe({
        ...options,
        signal: this.#abort.signal,
        onNotice: (notice, address) => {
          this.notices.push({ notice, address });
          options.onNotice?.(notice, address);
          this.#waits.changed();
        },
        onBreak: (error, address) => {
          this.breaks.push({ error, address });
          this.#waits.changed();
        },
      });
      for await (const { partition, events, token } of batches) {
        for (const { offset, payload } of events) {
          this.seen.push({ partition, offset: Number(offset), value: payload?.toString() ?? "" });
        }
        this.token = token;
        this.#waits.changed();
      }
    } catch (error) {
      if (!(error instanceof ThroughlineError)) throw error;
      this.failure = error;
      this.#waits.changed();
    }
  }
}

export interface RawStream {
  readonly down: NonNullable<SubscribeResponse["kind"]>[];
  readonly call: ReturnType<ThroughlineServiceClient["subscribe"]>;
  failure(): ThroughlineError | undefined;
  send(kind: NonNullable<SubscribeRequest["kind"]>): void;
  until(holds: () => boolean): Promise<void>;
  fails(): Promise<ThroughlineError>;
  close(): void;
}

/** One Subscribe call without the library: what it hears, message by message. */
export function rawStream(
  address: string,
  open: Partial<SubscribeOpen>,
  channel: { credentials?: ChannelCredentials; options?: object } = {},
): RawStream {
  const stub = new ThroughlineServiceClient(
    address,
    channel.credentials ?? credentials.createInsecure(),
    channel.options ?? {},
  );
  const call = stub.subscribe();
  const waits = new Waits();
  const down: RawStream["down"] = [];
  let failure: ThroughlineError | undefined;
  call.on("data", ({ kind }: SubscribeResponse) => {
    if (kind) down.push(kind);
    waits.changed();
  });
  call.on("error", (error: ServiceError) => {
    failure = toThroughlineError(error);
    waits.changed();
  });
  const send = (kind: NonNullable<SubscribeRequest["kind"]>): void => void call.write({ kind });
  send({ $case: "open", value: openOf(open) });
  return {
    down,
    call,
    send,
    failure: () => failure,
    until: (holds) => waits.until(holds, () => (holds() ? undefined : failure)),
    fails: async () => {
      await waits.until(() => failure !== undefined);
      return failure as ThroughlineError;
    },
    close: () => {
      call.cancel();
      stub.close();
    },
  };
}

export function openOf(open: Partial<SubscribeOpen>): SubscribeOpen {
  return {
    ...{ topic: "", start: { at: EARLIEST }, filter: undefined, session: undefined },
    ...{ recovery: 0, maxFrameBytes: 0, heartbeatMs: 200 },
    credit: { events: 1_000_000n, bytes: 0n },
    ...open,
  };
}

/** Appends numbered events, a few at a time, until it is stopped. */
export class Load {
  count: number;
  #stopped = false;
  readonly #running: Promise<void>;
  readonly #waits = new Waits();

  /** @param append rejects when events were not acknowledged: the load goes on with later ones. */
  constructor(append: (from: number, count: number) => Promise<void>, from = 0, batch = 25) {
    this.count = from;
    this.#running = this.#run(append, batch);
  }

  /** Resolves when that many more were acknowledged. */
  more(count: number): Promise<void> {
    const goal = this.count + count;
    return this.#waits.until(() => this.count >= goal);
  }

  async stop(): Promise<number> {
    this.#stopped = true;
    await this.#running;
    return this.count;
  }

  async #run(append: (from: number, count: number) => Promise<void>, batch: number): Promise<void> {
    while (!this.#stopped) {
      await append(this.count, batch).catch(() => {});
      this.count += batch;
      this.#waits.changed();
      // A pace, not a wait: two cores serve everything here.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
