/**
 * Throughline on one machine: Kafka and the session store (embedded, or running ones), the operator over
 * Topic files, and servers as processes of their own. `npm start` and the demo stand on it.
 */
import { mkdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { openKafkaLog } from "../kafka/kafka-log.ts";
import type { Log } from "../kafka/log.ts";
import { CatalogWriter } from "../operator/catalog-writer.ts";
import { Reconciler, type TopicStatus } from "../operator/reconcile.ts";
import { nameOf } from "../operator/topic-spec.ts";
import type { TopicResource } from "../operator/validate.ts";
import { claimDirectory } from "./data-directory.ts";
import { endLeftOver, startKafka } from "./embedded-kafka.ts";
import { startStore } from "./embedded-store.ts";
import {
  type OutboxOptions,
  openOutboxDatabase,
  postgresFolder,
  startSequencers,
} from "./outbox.ts";
import { restarting } from "./restarts.ts";
import type { SequencerProcess } from "./sequencer-process.ts";
import { ServerProcess } from "./server-process.ts";
import { TopicFiles } from "./topic-files.ts";

const STATE_FILE = "topics.json";

export interface LocalOptions {
  readonly directory: string;
  /** Forget what earlier runs left in the directory. */
  readonly fresh: boolean;
  /** How long an earlier process in the directory may take to end. */
  readonly waitMs: number;
  readonly topicsDirectory: string;
  readonly servers: readonly { readonly name: string; readonly port: number }[];
  readonly namespace: string;
  readonly deploymentId: string;
  readonly clusterUid: string;
  readonly kafkaBrokers: readonly string[] | undefined;
  /** A running Redis or Valkey; undefined starts one. */
  readonly redisUrl: string | undefined;
  /** Feeds the Topics that name it. */
  readonly outbox?: OutboxOptions | undefined;
  /** Topics, events, catalog and the Outbox's database of this deployment go at the start and at the end. */
  readonly temporary?: boolean;
  readonly serverFlags?: readonly string[];
  readonly onLine: (line: string) => void;
  /** Gives up the start. */
  readonly signal?: AbortSignal;
}

export type LocalServer = ServerProcess;
export type LocalSequencer = SequencerProcess;

export interface LocalTopic extends TopicStatus {
  /** What feeds it, and nothing else; undefined: whoever publishes. */
  readonly outbox: string | undefined;
}

export interface LocalThroughline {
  readonly brokers: readonly string[];
  /** Of the session store. */
  readonly storeUrl: string;
  readonly servers: readonly LocalServer[];
  /** Of the Outbox's database. */
  readonly postgresUrl: string | undefined;
  readonly sequencers: readonly LocalSequencer[];
  /** Topics by `<namespace>/<name>`, as the operator last saw them. */
  readonly topics: ReadonlyMap<string, LocalTopic>;
  stop(): Promise<void>;
}

/** @throws with the next step; what was started is stopped again. */
export async function startThroughline(options: LocalOptions): Promise<LocalThroughline> {
  const { directory, topicsDirectory, deploymentId, clusterUid, onLine, signal } = options;
  const stops: (() => unknown)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of stops.splice(0).reverse()) await end();
  };
  let database: ReturnType<typeof openOutboxDatabase> | undefined;
  try {
    for (const { port } of options.servers) await assertFree(port);
    stops.push(
      await claimDirectory(directory, options.waitMs, (holder) =>
        onLine(`Waiting for ${holder} to leave ${directory}`),
      ),
    );
    // First, or its broker would go on without its files.
    await endLeftOver(join(directory, "kafka"));
    mkdirSync(directory, { recursive: true });
    // Not the whole directory: it may hold what is not ours.
    const places = ["kafka", "store", STATE_FILE].map((name) => join(directory, name));
    for (const place of options.fresh ? [...places, postgresFolder(directory)] : []) {
      rmSync(place, { recursive: true, force: true });
    }
    signal?.throwIfAborted();
    const { outbox } = options;
    // Beside all that follows, which takes longer.
    database = outbox && openOutboxDatabase(outbox, options, stops);
    database?.catch(() => {});
    const brokers = options.kafkaBrokers ?? (await embedded(options, stops));
    signal?.throwIfAborted();
    const log = openKafkaLog({ brokers, clientId: "throughline-operator" });
    stops.push(() => log.close());
    await assertReachable(log, options.kafkaBrokers);
    const storeUrl = options.redisUrl ?? (await embeddedStore(options, stops));
    signal?.throwIfAborted();
    const catalog = await CatalogWriter.open(log, deploymentId, Date.now, clusterUid);
    stops.push(() => catalog.close());
    // On one machine who writes the files is the operator's owner: every name is allowed.
    const allowed = { mayName: () => true, mayAdopt: () => false, toAdopt: "" };
    const reconciler = new Reconciler(log, catalog, {
      allowed,
      outboxMissing: (topic) => outboxMissing(topic, options),
    });
    if (options.temporary) {
      await deleteAll(catalog, reconciler);
      await deleteMemories(log, deploymentId);
      stops.push(async () => {
        await deleteAll(catalog, reconciler);
        await deleteMemories(log, deploymentId);
        await catalog.delete();
      });
    }
    const topics = new Map<string, LocalTopic>();
    const files = new TopicFiles({
      directory: topicsDirectory,
      stateFile: join(directory, STATE_FILE),
      clusterUid,
      reconciler,
      ...telling(topics, onLine),
    });
    stops.push(() => files.close());
    await files.start();
    const servers = await Promise.all(
      options.servers.map(async (server) => {
        const { namespace } = options;
        const flags = ["--session-store", storeUrl, ...(options.serverFlags ?? [])];
        const running = new ServerProcess({
          ...{ ...server, brokers, deploymentId, namespace, flags, onLine },
        });
        stops.push(() => running.stop());
        await running.restart();
        return running;
      }),
    );
    signal?.throwIfAborted();
    const of = await database;
    signal?.throwIfAborted();
    const sequencers =
      outbox && of ? await startSequencers(outbox, of, brokers, stops, onLine) : [];
    const postgresUrl = of?.databaseUrl;
    return { brokers, storeUrl, servers, postgresUrl, sequencers, topics, stop };
  } catch (error) {
    await database?.catch(() => {});
    await stop();
    throw error;
  }
}

async function embedded(options: LocalOptions, stops: (() => unknown)[]): Promise<string[]> {
  const { directory, onLine } = options;
  const kafka = await startKafka({
    directory: join(directory, "kafka"),
    onProgress: onLine,
    ownGroup: true,
    onUnexpectedEnd: (_node, how) => void revive(how),
  });
  const revive = restarting("Kafka", () => kafka.startNode(1), onLine);
  stops.push(() => kafka.stop());
  return kafka.brokers;
}

async function embeddedStore(options: LocalOptions, stops: (() => unknown)[]): Promise<string> {
  const { directory, onLine } = options;
  const store = await startStore({
    directory: join(directory, "store"),
    onProgress: onLine,
    ownGroup: true,
    onUnexpectedEnd: (how) => void revive(how),
  });
  const revive = restarting("The session store", () => store.restart("kept"), onLine);
  stops.push(() => store.stop());
  return store.url;
}

/** Before anything is started: Kafka takes seconds, and this is known at once. */
function assertFree(port: number): Promise<void> {
  if (port === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "is in use" : `cannot be used (${error.code})`;
      reject(
        new Error(
          `Port ${port} of 127.0.0.1 ${why}: stop the process that listens there, or choose others with --port.`,
        ),
      );
    });
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve()));
  });
}

async function assertReachable(log: Log, given: readonly string[] | undefined): Promise<void> {
  const found = await log.admin.listTopics();
  if (found.kind === "done") return;
  throw new Error(
    given
      ? `${found.reason}. KAFKA_BROKERS names ${given.join(",")}: start that Kafka, correct the name, or unset it for the embedded one.`
      : `The embedded Kafka does not answer: ${found.reason}`,
  );
}

async function deleteAll(catalog: CatalogWriter, reconciler: Reconciler): Promise<void> {
  for (const name of [...catalog.records.keys()]) {
    const why = await reconciler.delete(name, "Delete");
    if (why) throw new Error(why.message);
  }
}

/** What servers keep of named publishers, and sequencers of their progress. */
async function deleteMemories(log: Log, deploymentId: string): Promise<void> {
  const names = ["publishers", "progress"].map((of) => `_throughline.${deploymentId}.${of}`);
  const found = await log.admin.describeTopics(names);
  for (const { id } of found.kind === "done" ? found.value.values() : [])
    await log.admin.deleteTopic(id);
}

function outboxMissing(
  { metadata, spec }: TopicResource,
  { namespace, outbox }: LocalOptions,
): string | undefined {
  const isHere = metadata.namespace === namespace && spec.outbox === outbox?.name;
  if (spec.outbox === undefined || isHere) return undefined;
  return `Nothing feeds it; npm start -- --namespace ${metadata.namespace} --outbox ${spec.outbox} would.`;
}

function telling(topics: Map<string, LocalTopic>, onLine: (line: string) => void) {
  const told = new Map<string, string>();
  return {
    onStatus: (topic: TopicResource, status: TopicStatus, changed: boolean): void => {
      const name = nameOf(topic);
      topics.set(name, { ...status, outbox: topic.spec.outbox });
      const { ready, reason, message, partitions, kafkaTopic } = status;
      const count = `${partitions} partition${partitions === 1 ? "" : "s"}`;
      const line = ready
        ? `Topic ${name} is Ready: Kafka topic ${kafkaTopic}, ${count}${reason === "Ready" ? "" : `. ${message}`}`
        : `Topic ${name}: ${reason}: ${message}`;
      if (changed || told.get(name) !== line) onLine(line);
      told.set(name, line);
    },
    onDeleted: (name: string, policy: "Retain" | "Delete"): void => {
      topics.delete(name);
      told.delete(name);
      const kept = policy === "Retain" ? "its Kafka topic and events stay" : "and its Kafka topic";
      onLine(`Topic ${name} is deleted${policy === "Retain" ? "; " : ", "}${kept} (${policy})`);
    },
    onError: onLine,
  };
}
