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
import { startPostgres } from "../../local/embedded-postgres.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicResource } from "../../operator/validate.ts";
import type { DatabaseAddress } from "../../sequencer/postgres.ts";
import { ROOT } from "../source-files.ts";

export const SLOW_MS = 240_000;
export const DEPLOYMENT = "test";
export const NAMESPACE = "shop";

export interface Bed {
  readonly brokers: readonly string[];
  readonly log: Log;
  /** Of the server, as superuser. */
  readonly url: string;
  /** A database with the schema in it, and Topics of an Outbox of their own. */
  shop(name: string, topics: readonly string[]): Promise<Shop>;
  /** The database ends and comes back on a new timeline, as a standby that is promoted. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

export interface Shop {
  readonly outbox: string;
  readonly database: DatabaseAddress;
  readonly sql: pg.Client;
  connect(): Promise<pg.Client>;
  /** Kafka topic of a Topic. */
  kafkaTopic(topic: string): string;
  /** Events that were committed since the bed's slot was made, in the order of their commits. */
  committed(): Promise<{ readonly id: string; readonly topic: string }[]>;
}

/** @param fullSpeed for measurements: what is slower to start, and safe on disk. */
export async function openBed(fullSpeed = false): Promise<Bed> {
  const directory = mkdtempSync(join(tmpdir(), "throughline-sequencer-"));
  const folder = mkdtempSync(join(tmpdir(), "throughline-postgres-"));
  const [kafka, postgres] = await Promise.all([
    startKafka({ directory, fullSpeed }),
    startPostgres({
      directory: folder,
      settings: {
        ...{ max_replication_slots: "40", max_wal_senders: "40" },
        ...(!fullSpeed && { fsync: "off" }),
      },
    }),
  ]);
  const { brokers } = kafka;
  const log = openKafkaLog({ brokers, clientId: "bed" });
  const of = { clusterUid: "test", alone: true };
  const catalog = await CatalogWriter.open(log, DEPLOYMENT, Date.now, of);
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
  return {
    ...{ brokers, log, url: postgres.url },
    shop: async (name, topics) => {
      for (const topic of topics) {
        const metadata = { name: topic, namespace: NAMESPACE };
        const spec = { ordering: "Commit", outbox: name } as const;
        const resource = { metadata, spec } as TopicResource;
        const owner = { uid: topic, generation: 1, clusterUid: "test" };
        const status = await reconciler.apply(resource, owner);
        if (!status.ready) throw new Error(status.message);
      }
      await admin.query(`create database ${name}`);
      const url = postgres.url.replace(/\/postgres$/, `/${name}`);
      const sql = await connect(url);
      await sql.query(readFileSync(join(ROOT, "sequencer/schema.sql"), "utf8"));
      await sql.query("select throughline.grant_sequencer('sequencer')");
      const slot = `truth_${name}`;
      await sql.query("select pg_create_logical_replication_slot($1, 'test_decoding')", [slot]);
      return {
        ...{ outbox: name, sql, connect: () => connect(url) },
        database: {
          ...{ host: "127.0.0.1", port: Number(new URL(url).port), database: name },
          ...{ user: "sequencer", password: undefined, tls: undefined },
        },
        kafkaTopic: (topic) => `${NAMESPACE}.${topic}`,
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
      for (const one of [directory, folder]) rmSync(one, { recursive: true, force: true });
    },
  };
}
