/**
 * The system under fire: three brokers, a session store and servers, each a process, with a proxy on every
 * leg; an operator's hand; and the processes of the clients.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { FaultProxy } from "../faults/fault-proxy.ts";
import type { Launch } from "../shipped.ts";
import { StoryServer } from "../story/story-server.ts";
import { type Answered, type Order, PROCESSES, TOPICS, type Told } from "./clients/roster.ts";
import { Trap } from "./faults/trap.ts";
import { nowMs } from "./history.ts";
import { MEMBER_LAPSE_MS } from "./judge/members.ts";
import type { Crash } from "./judge/world.ts";

export const DEPLOYMENT = "check";
export const NAMESPACE = "shop";
const NODES = 3;
const SERVERS = 3;
/** Small tails, so that seconds of absence need a catch-up. */
const FLAGS = [
  ...["--tail-partition-bytes", "64Ki", "--fetch-bytes", "64Ki", "--drain-ms", "4000"],
  ...["--shared-stall-ms", "200", "--alone-stall-ms", "1000"],
  // A member's first renewal, after 450 ms, is given what it waits for, whoever else is frozen.
  // Who is cut off from the store for longer than a move takes has lost partitions, and has not lapsed.
  ...["--member-lapse-ms", `${MEMBER_LAPSE_MS}`],
  ...["--member-return-ms", "1000", "--member-revoke-ms", "400"],
  ...["--mirror-ms", "1000"],
];

/** One server and what stands before it. */
export interface Seat {
  readonly name: string;
  readonly clients: FaultProxy;
  readonly store: FaultProxy;
  server: StoryServer;
  /** host:port of its own. */
  listen: string;
  /** It is being ended, or ended already. */
  ending: boolean;
  /** The last restart. */
  restarted: Promise<void>;
}

export class Field {
  readonly folder: string;
  readonly kafka: EmbeddedKafka;
  readonly brokers: readonly FaultProxy[];
  readonly store: EmbeddedStore;
  readonly log: Log;
  readonly seats: Seat[] = [];
  /** Of the legs that clients and servers dial. */
  readonly traps = { client: new Trap(), store: new Trap() };
  readonly topics = new Map<string, TopicInfo>();
  readonly children: (ChildProcess | undefined)[] = [];
  readonly crashes: Crash[] = [];
  readonly #paused = new Set<string>();
  readonly #catalog: CatalogWriter;
  readonly #reconciler: Reconciler;
  readonly #launch: Launch;
  readonly #say: (line: string) => void;
  #generation = 0;

  private constructor(
    folder: string,
    launch: Launch,
    kafka: EmbeddedKafka,
    brokers: readonly FaultProxy[],
    store: EmbeddedStore,
    log: Log,
    catalog: CatalogWriter,
    say: (line: string) => void,
  ) {
    this.#say = say;
    this.folder = folder;
    this.#launch = launch;
    this.kafka = kafka;
    this.brokers = brokers;
    this.store = store;
    this.log = log;
    this.#catalog = catalog;
    this.#reconciler = new Reconciler(log, catalog);
  }

  static async open(folder: string, launch: Launch, say: (line: string) => void): Promise<Field> {
    mkdirSync(join(folder, "histories"), { recursive: true });
    const brokers = await Promise.all(Array.from({ length: NODES }, () => FaultProxy.listen()));
    const kafka = await startKafka({
      ...{ directory: join(folder, "kafka"), nodes: NODES, secured: "PLAINTEXT" },
      ...{ advertisedPorts: brokers.map(({ port }) => port), onProgress: say },
    });
    for (const [i, address] of kafka.securedBrokers.entries()) {
      (brokers[i] as FaultProxy).target = Number(address.split(":")[1]);
    }
    const store = await startStore({ directory: join(folder, "store"), onProgress: say });
    const log = openKafkaLog({ brokers: kafka.brokers, clientId: "checker" });
    const catalog = await CatalogWriter.open(log, DEPLOYMENT, Date.now);
    return new Field(folder, launch, kafka, brokers, store, log, catalog, say);
  }

  async startServers(): Promise<void> {
    for (let i = 0; i < SERVERS; i++) {
      const clients = await FaultProxy.listen(this.traps.client.options);
      const store = await FaultProxy.listen({
        target: this.store.port,
        ...this.traps.store.options,
      });
      const name = `server-${i + 1}`;
      const server = this.#spawn(name, store, "127.0.0.1:0");
      await server.ready();
      const { address: listen } = server;
      clients.target = Number(listen.split(":")[1]);
      const seat = {
        name,
        clients,
        store,
        server,
        listen,
        ending: false,
        restarted: Promise.resolve(),
      };
      this.seats.push(seat);
      this.#watch(seat);
      for (const { name: topic } of TOPICS) await server.knows(topic);
    }
  }

  /** One of them. */
  seat(pick: number): Seat {
    return this.seats[pick % this.seats.length] as Seat;
  }

  /** Starts the server of a seat again, at the same port. One restart at a time. */
  restart(seat: Seat): Promise<void> {
    seat.restarted = seat.restarted.then(() => this.#restart(seat));
    return seat.restarted;
  }

  /** Ends the server of a seat, which must not be on its way up. */
  async end(seat: Seat, signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    await seat.restarted;
    seat.ending = true;
    seat.server.signal(signal);
    await seat.server.ended;
  }

  async #restart(seat: Seat): Promise<void> {
    seat.ending = true;
    await seat.server.kill();
    seat.server = this.#spawn(seat.name, seat.store, seat.listen);
    await seat.server.ready();
    seat.ending = false;
    this.#watch(seat);
  }

  /** One that ends by itself is started again, and it is not forgotten. */
  #watch(seat: Seat): void {
    const { server, name } = seat;
    void server.ended.then(async (code) => {
      if (seat.ending || seat.server !== server) return;
      const said = [`exit code ${code}`, server.stderr, ...server.lines.slice(-5)];
      this.crashes.push({ server: name, atMs: nowMs(), said });
      this.#say(`${name} ended by itself: exit code ${code}`);
      await this.restart(seat);
    });
  }

  #spawn(name: string, store: FaultProxy, listen: string): StoryServer {
    return new StoryServer(
      [
        ...["--kafka", this.brokers.map(({ address }) => address).join(",")],
        ...["--deployment-id", DEPLOYMENT, "--namespace", NAMESPACE, "--server-name", name],
        ...["--session-store", `redis://${store.address}`, "--log-level", "warn"],
        ...["--listen", listen, "--health-listen", "127.0.0.1:0", "--log-level", "info"],
        ...FLAGS,
      ],
      this.#launch,
    );
  }

  /** Applies a Topic, until Kafka has it. */
  async apply(name: string, partitions: number, acceptLossOf?: string): Promise<TopicInfo> {
    const annotations: Record<string, string> = acceptLossOf
      ? { "throughline.dev/accept-loss": acceptLossOf }
      : {};
    const resource = {
      metadata: { name, namespace: NAMESPACE, annotations },
      spec: { partitions, replicas: NODES },
    };
    for (;;) {
      const owner = { uid: name, generation: ++this.#generation, clusterUid: "" };
      const status = await this.#reconciler.apply(resource, owner);
      if (!status.ready || status.topicId === acceptLossOf) continue;
      const { kafkaTopic, topicId: id, replicas } = status;
      const info = { name: kafkaTopic, id, partitions: status.partitions, replicas };
      this.topics.set(name, info);
      return info;
    }
  }

  startProcess(index: number): void {
    const order: Order = {
      folder: join(this.folder, "histories"),
      addresses: this.seats.map(({ clients }) => clients.address),
      clients: PROCESSES[index] ?? [],
      paused: [...this.#paused],
    };
    this.children[index] = fork(
      join(import.meta.dirname, "clients/process.ts"),
      [JSON.stringify(order)],
      { execArgv: ["--disable-warning=ExperimentalWarning"] },
    );
  }

  async killProcess(index: number): Promise<void> {
    const child = this.children[index];
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  /** Resolves when every process has done it. One that is killed meanwhile has no more to do. */
  async tell(message: Told): Promise<void> {
    if (message.tell === "pause") this.#paused.add(message.topic);
    if (message.tell === "resume") this.#paused.delete(message.topic);
    await Promise.all(this.children.map((child) => child && answered(child, message)));
  }

  /** Resident memory of each server that runs. */
  rss(): { readonly server: string; readonly rssBytes: number }[] {
    return this.seats.flatMap(({ name, server }) => {
      try {
        const status = readFileSync(`/proc/${server.child.pid}/status`, "utf8");
        const kib = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
        return kib > 0 ? [{ server: name, rssBytes: kib * 1024 }] : [];
      } catch {
        return [];
      }
    });
  }

  async close(): Promise<void> {
    for (const index of this.children.keys()) await this.killProcess(index);
    for (const seat of this.seats) {
      seat.ending = true;
      await seat.server.kill();
    }
    await this.#catalog.close();
    await this.log.close();
    await this.store.stop();
    await this.kafka.stop();
    for (const proxy of [...this.brokers, ...this.seats.flatMap((s) => [s.clients, s.store])]) {
      await proxy.close();
    }
  }
}

function answered(child: ChildProcess, message: Told): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      child.off("message", hear);
      child.off("exit", end);
      resolve();
    };
    const hear = (answer: Answered): void => {
      if (answer.done === message.tell) end();
    };
    child.on("message", hear);
    child.once("exit", end);
    if (child.connected) child.send(message);
    else end();
  });
}
