/** Two servers in this process on one log and one session store, and clients with plain stubs. */
import { type ClientDuplexStream, credentials, type ServiceError } from "@grpc/grpc-js";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { makeLogger } from "../../process/logger.ts";
import {
  ErrorInfo,
  type SessionOpen,
  type SubscribeOpen,
  type SubscribeRequest,
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import type { Config } from "../../sidecar/config.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import { DEFAULT_LIMITS, type Limits } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";
import { MemoryStore, type MemoryStoreOptions } from "../../sidecar/sessions/memory-store.ts";

const CONFIG: Config = {
  listen: "127.0.0.1:0",
  healthListen: undefined,
  shape: "gateway",
  tls: undefined,
  kafka: { brokers: [], tls: undefined, sasl: undefined },
  sessionStore: undefined,
  deploymentId: "test",
  clusterUid: undefined,
  namespace: "shop",
  serverName: "",
  logLevel: "silent",
  limits: DEFAULT_LIMITS,
};

const OPEN: SubscribeOpen = {
  topic: "orders",
  credit: { events: 1000n, bytes: 0n },
  ...{ start: undefined, filter: undefined, recovery: 0, session: undefined },
  ...{ maxFrameBytes: 0, heartbeatMs: 100 },
};
const SESSION: SessionOpen = {
  name: "worker",
  ...{ mode: 0, instance: "one", attempt: 1n, strict: false, acks: 0 },
  ...{ knownToken: Buffer.alloc(0), knownSeeks: 0n },
};

type Kind = NonNullable<SubscribeResponse["kind"]>;
type Of<K extends Kind["$case"]> = Extract<Kind, { $case: K }>["value"];

/** One Subscribe call. */
export class Stream {
  readonly received: Kind[] = [];
  /** Payloads, in order; those of frames that may be redelivered end with "?". */
  readonly events: string[] = [];
  ended: ErrorInfo | "ended" | undefined;
  onBatch: (batch: Of<"batch">) => void = () => {};
  readonly #call: ClientDuplexStream<SubscribeRequest, SubscribeResponse>;
  #changed: () => void = () => {};
  #read = 0;

  constructor(stub: ThroughlineServiceClient, open: Partial<SubscribeOpen>) {
    this.#call = stub.subscribe();
    this.#call.on("data", ({ kind }: SubscribeResponse) => {
      if (!kind) return;
      this.received.push(kind);
      if (kind.$case === "batch") {
        const mark = kind.value.maybeRedelivered ? "?" : "";
        for (const { payload } of kind.value.events) this.events.push(`${payload}${mark}`);
        this.onBatch(kind.value);
      }
      this.#changed();
    });
    this.#call.on("end", () => {
      this.ended ??= "ended";
      this.#changed();
    });
    this.#call.on("error", ({ metadata }: ServiceError) => {
      const [info] = metadata.get(ERROR_TRAILER);
      this.ended = ErrorInfo.decode((info as Buffer | undefined) ?? Buffer.alloc(0));
      this.#changed();
    });
    this.send({ $case: "open", value: { ...OPEN, ...open } });
  }

  send(kind: NonNullable<SubscribeRequest["kind"]>): void {
    this.#call.write({ kind });
  }

  ack(offset: number, partition = 0): void {
    const positions = [{ partition, offset: BigInt(offset) }];
    this.send({ $case: "ack", value: { positions, token: Buffer.alloc(0) } });
  }

  ackToken(token: Buffer): void {
    this.send({ $case: "ack", value: { positions: [], token } });
  }

  credit(events: number): void {
    this.send({ $case: "credit", value: { events: BigInt(events), bytes: 0n } });
  }

  /** The next message of this kind that was not taken yet; what comes before it is skipped. */
  async next<K extends Kind["$case"]>(kind: K): Promise<Of<K>> {
    await this.until(
      () => this.received.slice(this.#read).some(({ $case }) => $case === kind),
      `no ${kind}`,
    );
    const at = this.received.findIndex(({ $case }, i) => i >= this.#read && $case === kind);
    this.#read = at + 1;
    return this.received[at]?.value as Of<K>;
  }

  /** The server says that the store has this position of partition 0. */
  async saved(offset: number, offsetIn: (token: Buffer) => number): Promise<void> {
    for (;;) {
      const { savedToken } = await this.next("heartbeat");
      if (savedToken.length > 0 && offsetIn(savedToken) === offset) return;
    }
  }

  async got(events: number): Promise<void> {
    await this.until(() => this.events.length >= events, `not ${events} events`);
  }

  async failure(): Promise<ErrorInfo> {
    await this.until(() => this.ended !== undefined, "no end", true);
    if (this.ended === "ended" || this.ended === undefined) throw new Error("ended without error");
    return this.ended;
  }

  /** Leaves in order. */
  async leave(): Promise<void> {
    this.send({ $case: "leave", value: {} });
    await this.until(() => this.ended !== undefined, "no end", true);
    if (this.ended !== "ended") throw new Error(JSON.stringify(this.ended));
  }

  /** As a client that breaks off. */
  async cancel(): Promise<void> {
    this.#call.cancel();
    await this.until(() => this.ended !== undefined, "no end", true);
  }

  async until(done: () => boolean, what: string, end = false): Promise<void> {
    while (!done()) {
      if (this.ended !== undefined && !end) {
        throw new Error(`${what}: the stream ended (${JSON.stringify(this.ended)})`);
      }
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

export class SessionBed {
  readonly log = new MemoryLog();
  readonly servers: RunningServer[] = [];
  readonly stubs: ThroughlineServiceClient[] = [];
  readonly store: MemoryStore;
  topic!: TopicInfo;
  /** What a look-up in the log waits for. */
  lookUps: Promise<void> = Promise.resolve();
  #catalog!: CatalogWriter;
  #published = 0;
  readonly #config: Pick<Config, "shape" | "limits">;

  constructor(
    options: Partial<MemoryStoreOptions> = {},
    limits: Partial<Limits> = {},
    shape: Config["shape"] = "gateway",
  ) {
    this.#config = { shape, limits: { ...DEFAULT_LIMITS, ...limits } };
    this.store = new MemoryStore({ now: Date.now, ...options });
  }

  async start(partitions = 1): Promise<this> {
    this.#catalog = await CatalogWriter.open(this.log, "test", () => 1);
    await this.apply(partitions);
    for (const serverName of ["A", "B"]) {
      const config = { ...CONFIG, ...this.#config, serverName };
      const logger = makeLogger("silent", serverName);
      const server = await startServer(config, this.#shared(), logger, this.store);
      const stub = new ThroughlineServiceClient(server.address, credentials.createInsecure());
      this.servers.push(server);
      this.stubs.push(stub);
      for (let known = false; !known; ) {
        known = await new Promise<boolean>((resolve) => {
          stub.listTopics({}, (_error, answer) => resolve((answer?.topics.length ?? 0) > 0));
        });
      }
    }
    return this;
  }

  /** Somebody deletes the Kafka topic and makes it anew. The catalog hears nothing of it. */
  recreate(): void {
    this.log.recreate("shop.orders");
  }

  /** The operator looks; with an id that was lost its owner has accepted that. */
  async apply(partitions: number, lost = ""): Promise<void> {
    const annotations = { "throughline.dev/accept-loss": lost };
    const metadata = { name: "orders", namespace: "shop", annotations };
    const resource = { metadata, spec: { partitions } };
    const owner = { uid: "u", generation: 1, clusterUid: "" };
    await new Reconciler(this.log, this.#catalog).apply(resource, owner);
    const found = await this.log.admin.describeTopics(["shop.orders"]);
    this.topic = (found.kind === "done" && found.value.get("shop.orders")) as TopicInfo;
  }

  /** Publishes events "0", "1", … one after the other. */
  async publish(count: number, partition = 0): Promise<void> {
    for (let i = 0; i < count; i++) {
      const value = Buffer.from(String(this.#published++));
      const record = { key: null, value, headers: [], timeMs: 1 };
      const done = await this.log.append(this.topic, partition, record);
      if (done.kind !== "appended") throw new Error(done.kind);
    }
  }

  stream(
    server: "A" | "B",
    session: Partial<SessionOpen> | undefined,
    open: Partial<SubscribeOpen> = {},
  ): Stream {
    const stub = this.stubs[server === "A" ? 0 : 1] as ThroughlineServiceClient;
    return new Stream(stub, { ...open, session: session && { ...SESSION, ...session } });
  }

  async stop(): Promise<void> {
    for (const stub of this.stubs) stub.close();
    for (const server of this.servers) await server.close();
    await this.log.close();
  }

  /** The same log for two servers: the first that stops does not close it. */
  #shared(): MemoryLog {
    return new Proxy(this.log, {
      get: (target, name) => {
        if (name === "close") return async () => {};
        if (name === "offset") {
          return async (...of: Parameters<MemoryLog["offset"]>) => {
            await this.lookUps;
            return target.offset(...of);
          };
        }
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }
}
