/**
 * What every benchmark stands on: one real Kafka, Topics made by the product's own operator code, and
 * servers as processes of their own, whose CPU time and memory the kernel tells (/proc, so Linux only).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicResource } from "../../operator/validate.ts";
import { kafkaTlsSettings, loopbackCertificate } from "../certificate.ts";
import { type Launch, shipped } from "../shipped.ts";

const NAMESPACE = "bench";
const DEPLOYMENT_ID = "bench";
const TICKS_PER_SECOND = 100;

export interface BenchServer {
  readonly address: string;
  readonly status: string;
  readonly pid: number;
  /** Milliseconds from the start of the process until it was ready to serve. */
  readonly readyMs: number;
  /** User and system CPU seconds so far. */
  cpuSeconds(): number;
  rssBytes(): number;
  metric(name: string): Promise<number>;
  stop(): Promise<void>;
}

export class Bed {
  readonly kafka: EmbeddedKafka;
  readonly log: Log;
  readonly folder: string;
  /** The certificate of Kafka's secured listener, and of doors that are told to use it. */
  readonly tls: { readonly certFile: string; readonly keyFile: string; readonly ca: string };
  readonly #reconciler: Reconciler;
  readonly #catalog: CatalogWriter;
  readonly #launch: Launch;
  readonly #servers = new Set<ChildProcess>();

  private constructor(
    folder: string,
    tls: Bed["tls"],
    kafka: EmbeddedKafka,
    log: Log,
    catalog: CatalogWriter,
    reconciler: Reconciler,
  ) {
    this.folder = folder;
    this.#launch = shipped(folder);
    this.tls = tls;
    this.kafka = kafka;
    this.log = log;
    this.#catalog = catalog;
    this.#reconciler = reconciler;
  }

  static async start(onProgress: (line: string) => void): Promise<Bed> {
    if (!existsSync("/proc/self/stat")) {
      throw new Error("Benchmarks read CPU time and memory from /proc: run them on Linux.");
    }
    const folder = mkdtempSync(join(tmpdir(), "throughline-bench-"));
    const made = await loopbackCertificate();
    const tls = { certFile: join(folder, "cert"), keyFile: join(folder, "key"), ca: made.cert };
    writeFileSync(tls.certFile, made.cert);
    writeFileSync(tls.keyFile, made.key);
    const kafka = await startKafka({
      ...{ directory: folder, onProgress, fullSpeed: true },
      ...{ secured: "SSL", settings: kafkaTlsSettings(made) },
    });
    const log = openKafkaLog({ brokers: kafka.brokers, clientId: "bench" });
    const catalog = await CatalogWriter.open(log, DEPLOYMENT_ID, Date.now);
    return new Bed(folder, tls, kafka, log, catalog, new Reconciler(log, catalog));
  }

  /** Makes a Topic; the Kafka topic is `bench.<name>`. */
  async topic(name: string, spec: TopicResource["spec"] = {}): Promise<TopicInfo> {
    const resource = { metadata: { name, namespace: NAMESPACE }, spec };
    const owner = { uid: name, generation: 1, clusterUid: "" };
    const status = await this.#reconciler.apply(resource, owner);
    if (!status.ready) throw new Error(status.message);
    const found = await this.log.admin.describeTopics([status.kafkaTopic]);
    const info = found.kind === "done" ? found.value.get(status.kafkaTopic) : undefined;
    if (info === undefined) throw new Error(`${name} was made and is not there`);
    // A partition answers once its leader has taken it over.
    for (let i = 0; i < info.partitions; i++) await this.log.offset(info, i, "latest");
    return info;
  }

  /** The server as shipped: the bundle. */
  async server(flags: readonly string[] = [], brokers = this.kafka.brokers): Promise<BenchServer> {
    const { folder, command, environment } = this.#launch;
    const started = performance.now();
    const child = spawn(
      process.execPath,
      [
        ...command,
        ...["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--shape", "gateway"],
        ...["--kafka", brokers.join(","), "--deployment-id", DEPLOYMENT_ID],
        ...["--namespace", NAMESPACE, "--log-level", "info", ...flags],
      ],
      {
        ...{ cwd: folder, env: { ...process.env, ...environment } },
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    this.#servers.add(child);
    const endWithUs = (): void => void child.kill("SIGKILL");
    process.once("exit", endWithUs);
    child.once("exit", () => {
      process.removeListener("exit", endWithUs);
      this.#servers.delete(child);
    });
    const { listen, health } = await serving(child);
    const status = `http://${health}`;
    while (!(await fetch(`${status}/readyz`)).ok) await pause(2);
    const readyMs = performance.now() - started;
    const pid = child.pid as number;
    return {
      address: listen,
      status,
      pid,
      readyMs,
      cpuSeconds: () => cpuSeconds(pid),
      rssBytes: () => rssBytes(pid),
      metric: (name) => metric(status, name),
      stop: () =>
        new Promise((resolve) => {
          child.once("exit", () => resolve());
          child.kill("SIGKILL");
        }),
    };
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) server.kill("SIGKILL");
    await this.#catalog.close();
    await this.log.close();
    await this.kafka.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function serving(child: ChildProcess): Promise<{ listen: string; health: string }> {
  return new Promise((resolve, reject) => {
    if (!child.stdout) return;
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (!line.startsWith("{")) return;
      const said = JSON.parse(line) as {
        msg: string;
        listen: string;
        health: string;
        level: number;
      };
      if (said.msg === "serving") resolve(said);
      else if (said.level >= 40) console.error(line);
    });
    child.once("exit", (code) => reject(new Error(`the server ended with code ${code}`)));
  });
}

function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export function rssBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
}

/** Sum over all labels. */
export async function metric(status: string, name: string): Promise<number> {
  const page = await (await fetch(`${status}/metrics`)).text();
  let sum = 0;
  for (const [, value] of page.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "gm"))) {
    sum += Number(value);
  }
  return sum;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
