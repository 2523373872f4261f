/**
 * Debezium as a yardstick: its PostgreSQL connector with the outbox event router in Kafka Connect, standalone, from
 * Maven's artifacts (debezium-jars.json). It reads the same table by the same publication, from a slot of its own.
 *
 * Beside its defaults: 1 GiB of heap, a look into its queue each 10 ms instead of 500, queues and batches eight times
 * as large, record batches of Kafka of up to 512 KiB (it writes with acks=all and one request at a time, as Connect
 * does), payloads as they are instead of as JSON.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TopicInfo } from "../../../kafka/log.ts";
import { environment } from "../../../local/config.ts";
import { freePorts } from "../../../local/free-ports.ts";
import { ensureJars } from "../../../local/jars.ts";
import { ensureJava } from "../../../local/java.ts";
import type { Bed, Shop } from "../../sequencer/bed.ts";
import lock from "./debezium-jars.json" with { type: "json" };
import { Program } from "./programs.ts";
import { dropSlot, makeSlot } from "./slots.ts";

const SETTINGS = {
  "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
  "tasks.max": "1",
  "plugin.name": "pgoutput",
  "publication.name": "throughline",
  "publication.autocreate.mode": "disabled",
  "table.include.list": "throughline.outbox",
  // From where the slot was made.
  "snapshot.mode": "no_data",
  "tombstones.on.delete": "false",
  "poll.interval.ms": "10",
  "max.batch.size": "16384",
  "max.queue.size": "65536",
  transforms: "outbox",
  "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
  "transforms.outbox.table.field.event.key": "key",
  "transforms.outbox.route.by.field": "topic",
  "key.converter": "org.apache.kafka.connect.storage.StringConverter",
  "value.converter": "io.debezium.converters.BinaryDataConverter",
  "producer.override.batch.size": String(512 << 10),
  "producer.override.linger.ms": "5",
};

export interface Debezium {
  readonly kafkaTopic: TopicInfo;
  /** Starts it; it sends what its slot has. */
  start(): Promise<Program>;
  /** Its slot is given up. */
  forget(): Promise<void>;
}

/** Its slot begins here. @param folder for its files. */
export async function debezium(
  bed: Bed,
  shop: Shop,
  topic: string,
  folder: string,
): Promise<Debezium> {
  const { outbox, database } = shop;
  const slot = `debezium_${outbox}`;
  await makeSlot(shop, slot);
  const of = { name: `debezium.${topic}`, partitions: 1, replicas: 1, settings: {} };
  const made = await bed.log.admin.createTopic(of);
  if (made.kind !== "done") throw new Error(made.reason);
  return {
    kafkaTopic: made.value,
    start: async () => {
      const { worker, plugins } = await jars();
      const java = ensureJava(console.log);
      const [port] = await freePorts(1);
      mkdirSync(folder, { recursive: true });
      const files = [
        file(folder, "worker.properties", {
          "bootstrap.servers": bed.brokers.join(","),
          "key.converter": SETTINGS["key.converter"],
          "value.converter": SETTINGS["key.converter"],
          "offset.storage.file.filename": join(folder, "offsets"),
          "plugin.path": plugins,
          listeners: `http://127.0.0.1:${port}`,
        }),
        file(folder, "connector.properties", {
          ...{ ...SETTINGS, name: outbox, "slot.name": slot, "topic.prefix": outbox },
          "database.hostname": database.host,
          "database.port": String(database.port),
          "database.dbname": database.database,
          "database.user": database.user,
          "database.password": "none",
          "transforms.outbox.route.topic.replacement": made.value.name,
        }),
      ];
      return new Program(
        java,
        [
          ...["-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"],
          ...["-Dorg.slf4j.simpleLogger.logFile=System.out", "-cp", join(worker, "*")],
          ...["org.apache.kafka.connect.cli.ConnectStandalone", ...files],
        ],
        { cwd: folder },
      );
    },
    forget: () => dropSlot(shop, slot),
  };
}

/** @returns the folder of the worker's jars, and the one that has a folder for each plugin. */
async function jars(): Promise<{ readonly worker: string; readonly plugins: string }> {
  const { cache, mavenRepository } = environment;
  const need = {
    for: "the benchmark beside Debezium",
    mirror: "MAVEN_REPOSITORY",
    instead: "leave it out with --without-debezium",
  };
  const root = join(cache, `debezium-${lock.debezium}`);
  const [worker, plugins] = [join(root, "worker"), join(root, "plugins")];
  const folders = { worker, connector: join(plugins, "debezium") };
  for (const part of ["worker", "connector"] as const) {
    const what = `Debezium ${lock.debezium} (${part})`;
    const wanted = { what, folder: folders[part], files: lock[part], need };
    await ensureJars(wanted, mavenRepository, console.log);
  }
  return { worker, plugins };
}

function file(folder: string, name: string, settings: Readonly<Record<string, string>>): string {
  const path = join(folder, name);
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}
