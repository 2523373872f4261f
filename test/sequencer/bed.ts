/**
 * A bed for the sequencer: a real PostgreSQL and a real Kafka, Topics in a catalog as the operator writes
 * it, and the database's own word on the order of commits: a second slot, read by `test_decoding`.
 */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log } from "../../kafka/log.ts";
import { startKafka } from "../../local/embedded-kafka.ts";
import { type EmbeddedPostgres, startPostgres } from "../../local/embedded-postgres.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler, type TopicStatus } from "../../operator/reconcile.ts";
import type { TopicResource } from "../../operator/validate.ts";
import type { DatabaseAddress } from "../../sequencer/postgres.ts";
import type { Identity } from "../../sequencer/term.ts";
import type { KafkaPart } from "../kafka-part.ts";
import { ROOT } from "../source-files.ts";
import { infoOf } from "./witness.ts";

export const SLOW_MS = 240_000;
export const DEPLOYMENT = "test";
export const NAMESPACE = "shop";

export interface Bed {
  readonly brokers: readonly string[];
  readonly log: Log;
  /** Of the server, as superuser. */
  readonly url: string;
  readonly postgres: EmbeddedPostgres;
  /**
   * A database with the schema in it, and Topics of an Outbox of their own.
   * @param encoding of the database.
   */
  shop(name: string, topics: readonly string[], encoding?: string): Promise<Shop>;
  /** The Topic's Kafka topic is deleted by somebody, and the operator sees it: its condition is DataLost. */
  loseData(shop: Shop, topic: string): Promise<void>;
  /** The database ends and comes back on a new timeline, as a standby that is promoted. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

export interface Shop {
  readonly outbox: string;
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  readonly sql: pg.Client;
  connect(): Promise<pg.Client>;
  /** Kafka topic of a Topic. */
  kafkaTopic(topic: string): string;
  /** Events that were committed since the bed's slot was made, in the order of their commits. */
  committed(): Promise<{ readonly id: string; readonly topic: string }[]>;
}

/**
 * @param fullSpeed for measurements: what is slower to start, and safe on disk.
 * @param part of a Kafka that test files share; without it there is one of its own.
 */
export async function openBed(fullSpeed = false, part?: KafkaPart): Promise<Bed> {
  const folder = mkdtempSync(join(tmpdir(), "throughline-postgres-"));
  const [kafka, postgres] = await Promise.all([
    part ? partOf(part) : ownKafka(join(folder, "kafka"), fullSpeed),
    startPostgres({
      directory: folder,
      settings: {
        ...{ max_replication_slots: "40", max_wal_senders: "40" },
        ...(!fullSpeed && { fsync: "off" }),
      },
    }),
  ]);
  const { brokers, log } = kafka;
  const [deploymentId, namespace] = part ? [part.name, part.name] : [DEPLOYMENT, NAMESPACE];
  const catalog = await CatalogWriter.open(log, deploymentId, Date.now, "test");
  const allowed = { mayName: () => true, mayAdopt: () => false, toAdopt: "" };
  const reconciler = new Reconciler(log, catalog, { allowed });
  const clients: pg.Client[] = [];
  const connect = async (url: string): Promise<pg.Client> => {
    const client = new pg.Client(url);
    client.on("error", () => {});
    await client.connect();
    clients.push(client);
    return client;
  };
  const admin = await connect(postgres.url);
  await admin.query("create role sequencer login replication");
  const apply = (topic: string, outbox: string): Promise<TopicStatus> => {
    const metadata = { name: topic, namespace };
    const resource = { metadata, spec: { ordering: "Commit", outbox } } as TopicResource;
    return reconciler.apply(resource, { uid: topic, generation: 1, clusterUid: "test" });
  };
  return {
    ...{ brokers, log, url: postgres.url, postgres },
    shop: async (name, topics, encoding = "UTF8") => {
      for (const topic of topics) {
        const status = await apply(topic, name);
        if (!status.ready) throw new Error(status.message);
      }
      await admin.query(`create database ${name} template template0 encoding '${encoding}'`);
      const url = postgres.url.replace(/\/postgres$/, `/${name}`);
      const sql = await connect(url);
      await sql.query(readFileSync(join(ROOT, "sequencer/schema.sql"), "utf8"));
      await sql.query("select throughline.grant_sequencer('sequencer')");
      const slot = `truth_${name}`;
      await sql.query("select pg_create_logical_replication_slot($1, 'test_decoding')", [slot]);
      return {
        ...{ outbox: name, sql, connect: () => connect(url) },
        identity: { deploymentId, namespace, outbox: name, instance: "test" },
        database: {
          ...{ host: "127.0.0.1", port: Number(new URL(url).port), database: name },
          ...{ user: "sequencer", password: undefined, tls: undefined },
        },
        kafkaTopic: (topic) => `${namespace}.${topic}`,
        committed: async () => {
          const { rows } = await sql.query(
            "select data from pg_logical_slot_get_changes($1, null, null)",
            [slot],
          );
          return rows.flatMap(({ data }) => {
            const row =
              /^table throughline\.outbox: INSERT: id\[bigint\]:(\d+) topic\[text\]:'([^']*)'/.exec(
                data,
              );
            return row ? [{ id: row[1] as string, topic: row[2] as string }] : [];
          });
        },
      };
    },
    loseData: async (shop, topic) => {
      await log.admin.deleteTopic((await infoOf(log, shop.kafkaTopic(topic))).id);
      const { reason } = await apply(topic, shop.outbox);
      if (reason !== "DataLost") throw new Error(`${topic}: ${reason}`);
    },
    promote: async () => {
      await postgres.kill();
      const data = join(folder, "data");
      // Recovery finds no more than it has, and begins a timeline.
      appendFileSync(join(data, "postgresql.auto.conf"), "restore_command = 'false'\n");
      writeFileSync(join(data, "recovery.signal"), "");
      await postgres.restart();
    },
    stop: async () => {
      for (const client of clients) await client.end().catch(() => {});
      await catalog.close();
      await log.close();
      await Promise.all([kafka.stop(), postgres.stop()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface KafkaOfBed {
  readonly brokers: readonly string[];
  readonly log: Log;
  stop(): Promise<void>;
}

async function ownKafka(directory: string, fullSpeed: boolean): Promise<KafkaOfBed> {
  const { brokers, stop } = await startKafka({ directory, fullSpeed });
  return { brokers, log: openKafkaLog({ brokers, clientId: "bed" }), stop };
}

async function partOf(part: KafkaPart): Promise<KafkaOfBed> {
  return { brokers: part.brokers, log: part.openLog(), stop: () => part.close() };
}
