/**
 * Kafka's classes as a JVM maps them, read and verified once and kept beside the jars: a broker of a test
 * starts for half the CPU, and the tests start some fifty. Only speed hangs on it.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openKafkaLog } from "../kafka/kafka-log.ts";
import type { Log } from "../kafka/log.ts";
import { environment } from "../local/config.ts";
import { startKafka } from "../local/embedded-kafka.ts";
import { ensureJava } from "../local/java.ts";
import { ensureKafkaJars } from "../local/kafka-jars.ts";

/** The variable that every `java` takes flags from. */
const FLAGS = "JDK_JAVA_OPTIONS";

/** @returns what processes that start Kafka need in their environment; nothing when there is no archive. */
export async function kafkaClasses(): Promise<Record<string, string>> {
  try {
    const java = ensureJava(console.log);
    const jars = await ensureKafkaJars(environment.cache, environment.mavenRepository, console.log);
    const archive = join(jars, "classes.jsa");
    if (!isUsable(java, jars, archive)) await record(archive);
    // One that is refused all the same (of another garbage collector, say) is no word worth.
    const quiet = "-Xlog:disable -Xlog:all=error:stderr";
    return { [FLAGS]: `-XX:SharedArchiveFile=${archive} ${quiet}` };
  } catch (error) {
    console.log(`Kafka starts without an archive of its classes: ${error}`);
    return {};
  }
}

/** Not when Java or a jar is another than it was made of. */
function isUsable(java: string, jars: string, archive: string): boolean {
  if (!existsSync(archive)) return false;
  const flags = ["-Xshare:on", "-XX:+UseSerialGC", `-XX:SharedArchiveFile=${archive}`];
  const args = [...flags, "-cp", join(jars, "*"), "-version"];
  return spawnSync(java, args, { stdio: "ignore" }).status === 0;
}

/** The JVM writes the classes that it loaded when it ends: those of the start, and of what most tests do. */
async function record(archive: string): Promise<void> {
  console.log("Recording Kafka's classes, once");
  const directory = mkdtempSync(join(tmpdir(), "throughline-classes-"));
  const part = `${archive}.${process.pid}.part`;
  process.env[FLAGS] = `-XX:ArchiveClassesAtExit=${part}`;
  try {
    let over = (): void => {};
    const written = new Promise<void>((resolve) => {
      over = resolve;
    });
    const kafka = await startKafka({ directory, onUnexpectedEnd: () => over() });
    const log = openKafkaLog({ brokers: kafka.brokers, clientId: "classes" });
    await use(log);
    await log.close();
    // However long it writes: stop() has a limit.
    process.kill(kafka.pid(1), "SIGTERM");
    await written;
    await kafka.stop();
    renameSync(part, archive);
  } finally {
    delete process.env[FLAGS];
    rmSync(directory, { recursive: true, force: true });
    rmSync(part, { force: true });
  }
}

async function use(log: Log): Promise<void> {
  const value = { key: null, value: Buffer.from("x"), headers: [], timeMs: Date.now() };
  const settings = { "cleanup.policy": "compact" };
  const made = await log.admin.createTopic({ name: "t", partitions: 1, replicas: 1, settings });
  if (made.kind !== "done") throw new Error(made.reason);
  await log.append(made.value, 0, { ...value, key: Buffer.from("k") });
  const opened = await log.openTransactionalWriter("w");
  if (opened.kind !== "done") throw new Error(opened.reason);
  await opened.value.write([
    { topic: made.value, partition: 0, records: [{ ...value, key: Buffer.from("k") }] },
  ]);
  const reader = log.openReader(made.value, 0);
  await reader.fetch({ offset: 0, epoch: -1 }, 1 << 20, 100);
  reader.close();
  await log.admin.deleteTopic(made.value.id);
}
