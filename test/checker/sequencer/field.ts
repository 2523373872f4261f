/**
 * The system under fire: three brokers and a PostgreSQL, two sequencers of one Outbox as processes with a proxy on
 * both legs, a server whose subscribers are the delivered order, and the processes of the apps that write.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openKafkaLog } from "../../../kafka/kafka-log.ts";
import type { Log } from "../../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../../local/embedded-kafka.ts";
import { CatalogWriter } from "../../../operator/catalog-writer.ts";
import { Reconciler } from "../../../operator/reconcile.ts";
import type { TopicResource } from "../../../operator/validate.ts";
import { slotNameOf } from "../../../sequencer/term.ts";
import { FaultProxy } from "../../faults/fault-proxy.ts";
import { ROOT } from "../../source-files.ts";
import { StoryServer } from "../../story/story-server.ts";
import { Trap } from "../faults/trap.ts";
import { DATABASE, Database } from "./database.ts";
import { Seat, within } from "./seat.ts";
import { WORD_SLOT } from "./word-watch.ts";
import type { WriterOrder } from "./writer-process.ts";

const WHOSE = { deploymentId: "check", namespace: "shop", outbox: "shop-outbox" };
const BUSY = ["orders", "refunds"] as const;
export const SELDOM = "seldom";
export const TOPICS = [...BUSY, SELDOM];
const NODES = 3;
const SEATS = 2;
const WRITERS = 2;
const CONNECTIONS = 4;

export class Field {
  readonly kafka: EmbeddedKafka;
  readonly brokers: readonly FaultProxy[];
  readonly traps: { readonly database: Trap; readonly kafka: Trap };
  readonly database: Database;
  readonly seats: Seat[] = [];
  /** The replication slot of the Outbox. */
  readonly slot = slotNameOf({ ...WHOSE, instance: "" });
  readonly #log: Log;
  readonly #catalog: CatalogWriter;
  readonly #broken: string | undefined;
  readonly #writers: ChildProcess[] = [];
  server: StoryServer | undefined;

  private constructor(
    kafka: EmbeddedKafka,
    brokers: readonly FaultProxy[],
    traps: Field["traps"],
    database: Database,
    of: { readonly log: Log; readonly catalog: CatalogWriter; readonly broken: string | undefined },
  ) {
    this.kafka = kafka;
    this.brokers = brokers;
    this.traps = traps;
    this.database = database;
    this.#log = of.log;
    this.#catalog = of.catalog;
    this.#broken = of.broken;
    // One that is frozen does not hear that we are gone.
    process.once("exit", () => {
      for (const seat of this.seats) seat.killNow();
    });
  }

  static async open(
    folder: string,
    broken: string | undefined,
    say: (line: string) => void,
  ): Promise<Field> {
    const traps = { database: new Trap(), kafka: new Trap() };
    const brokers = await Promise.all(
      Array.from({ length: NODES }, () => FaultProxy.listen(traps.kafka.options)),
    );
    const [kafka, database] = await Promise.all([
      startKafka({
        ...{ directory: join(folder, "kafka"), nodes: NODES, secured: "PLAINTEXT" },
        ...{ advertisedPorts: brokers.map(({ port }) => port), onProgress: say },
      }),
      Database.open(folder, say),
    ]);
    for (const [i, address] of kafka.securedBrokers.entries())
      (brokers[i] as FaultProxy).target = Number(address.split(":")[1]);
    const log = openKafkaLog({ brokers: kafka.brokers, clientId: "field" });
    const catalog = await CatalogWriter.open(log, WHOSE.deploymentId, Date.now);
    return new Field(kafka, brokers, traps, database, { log, catalog, broken });
  }

  /** Schema, the database's own word, Topics, sequencers, and a server that knows them. */
  async start(): Promise<void> {
    const sql = await this.database.connect();
    await sql.query(readFileSync(join(ROOT, "sequencer/schema.sql"), "utf8"));
    await sql.query("select throughline.grant_sequencer('sequencer')");
    await sql.query(
      "select pg_create_logical_replication_slot($1, 'test_decoding', failover => true)",
      [WORD_SLOT],
    );
    await sql.end();
    for (const topic of TOPICS) await this.#apply(topic);
    for (let i = 1; i <= SEATS; i++) {
      const seat = await Seat.open(`sequencer-${i}`, this.traps.database.options, (of) => ({
        identity: { ...WHOSE, instance: of.name },
        database: {
          ...{ host: "127.0.0.1", port: of.leg.port, database: DATABASE, user: "sequencer" },
          ...{ password: undefined, tls: undefined },
        },
        ...{ brokers: this.brokers.map(({ address }) => address), broken: this.#broken },
      }));
      this.database.lead(seat.leg);
      this.seats.push(seat);
      seat.start();
    }
    const command = ["--disable-warning=ExperimentalWarning", join(ROOT, "sidecar/main.ts")];
    const { deploymentId, namespace } = WHOSE;
    this.server = new StoryServer(
      [
        ...["--kafka", this.kafka.brokers.join(","), "--deployment-id", deploymentId],
        ...["--namespace", namespace, "--server-name", "server", "--log-level", "info"],
        ...["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"],
      ],
      { folder: ROOT, command, environment: {} },
    );
    await this.server.ready();
    for (const topic of TOPICS) await this.server.knows(topic);
  }

  startWriters(seed: number): void {
    for (let i = 1; i <= WRITERS; i++) {
      const order: WriterOrder = {
        ...{ name: `writer-${i}`, url: `postgres://postgres@${this.database.apps.address}/shop` },
        ...{ seed: seed + i, connections: CONNECTIONS, busy: BUSY, seldom: [SELDOM] },
      };
      const program = join(import.meta.dirname, "writer-process.ts");
      const execArgv = ["--disable-warning=ExperimentalWarning"];
      this.#writers.push(fork(program, [JSON.stringify(order)], { execArgv }));
    }
  }

  /** Their transactions are over then. */
  async stopWriters(): Promise<void> {
    await Promise.all(
      this.#writers.splice(0).map(async (writer) => {
        const gone = once(writer, "exit");
        writer.send("stop");
        await gone;
      }),
    );
  }

  kafkaTopic(topic: string): string {
    return `${WHOSE.namespace}.${topic}`;
  }

  /** The sequencer at work; when there is none, any. */
  active(pick: number): Seat {
    const running = this.seats.find(({ standing }) => standing.kind === "running");
    return running ?? (this.seats[pick % this.seats.length] as Seat);
  }

  /** @returns whether one is at work within that time. */
  isAtWork(ms: number): Promise<boolean> {
    return within(ms, () => this.seats.some(({ standing }) => standing.kind === "running"));
  }

  /** Flags of the sequencer's program that say whose it is, straight to the database. */
  get flags(): string[] {
    const { deploymentId, namespace, outbox } = WHOSE;
    return [
      ...["--database", `postgres://sequencer@127.0.0.1:${this.database.port}/${DATABASE}`],
      ...["--deployment-id", deploymentId, "--namespace", namespace, "--outbox", outbox],
    ];
  }

  async stopSequencers(): Promise<void> {
    for (const seat of this.seats) {
      seat.killNow();
      await seat.ended();
    }
  }

  async close(): Promise<void> {
    await this.server?.kill();
    for (const writer of this.#writers) writer.kill("SIGKILL");
    await this.#catalog.close();
    await this.#log.close();
    await Promise.all([this.kafka.stop("SIGKILL"), this.database.close()]);
    for (const proxy of [...this.brokers, ...this.seats.map(({ leg }) => leg)]) await proxy.close();
  }

  async #apply(name: string): Promise<void> {
    const metadata = { name, namespace: WHOSE.namespace };
    const spec = { ordering: "Commit", outbox: WHOSE.outbox, replicas: NODES } as const;
    const reconciler = new Reconciler(this.#log, this.#catalog);
    const owner = { uid: name, generation: 1, clusterUid: "" };
    for (;;) {
      const status = await reconciler.apply({ metadata, spec } as TopicResource, owner);
      if (status.ready) return;
    }
  }
}
