/**
 * Throughline on one machine: Kafka (embedded, or a running one), the operator over Topic files, and
 * servers as processes of their own. `npm start` and the demo stand on it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openKafkaLog } from "../kafka/kafka-log.ts";
import { CatalogWriter } from "../operator/catalog-writer.ts";
import { Reconciler } from "../operator/reconcile.ts";
import { type EmbeddedKafka, startKafka } from "./embedded-kafka.ts";
import { TopicFiles } from "./topic-files.ts";

const DEPLOYMENT_ID = "local";
const READY_POLL_MS = 20;
const root = join(import.meta.dirname, "..");

export interface LocalOptions {
  readonly directory: string;
  readonly topicsDirectory: string;
  readonly servers: readonly { readonly name: string; readonly port: number }[];
  readonly namespace: string;
  readonly kafkaBrokers: readonly string[] | undefined;
  readonly serverFlags?: readonly string[];
  readonly onLine: (line: string) => void;
}

export interface LocalServer {
  readonly name: string;
  /** host:port for clients; the same after a restart. */
  readonly address: string;
  /** http://host:port of /metrics. */
  readonly status: string;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
  restart(): Promise<void>;
}

export interface LocalThroughline {
  readonly brokers: readonly string[];
  readonly servers: readonly LocalServer[];
  stop(): Promise<void>;
}

/** @throws with the next step; what was started is stopped again. */
export async function startThroughline(options: LocalOptions): Promise<LocalThroughline> {
  mkdirSync(options.directory, { recursive: true });
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of stops.splice(0).reverse()) await end();
  };
  try {
    const brokers = await kafkaOf(options, stops);
    const log = openKafkaLog({ brokers, clientId: "throughline-operator" });
    stops.push(() => log.close());
    const catalog = await CatalogWriter.open(log, DEPLOYMENT_ID, Date.now);
    stops.push(() => catalog.close());
    const told = new Map<string, string>();
    const files = new TopicFiles({
      directory: options.topicsDirectory,
      stateFile: join(options.directory, "topics.json"),
      clusterUid: "local",
      reconciler: new Reconciler(log, catalog, () => true),
      onDeleted: (name) => options.onLine(`Topic ${name} is deleted`),
      onStatus: (name, { ready, reason, message, partitions }) => {
        const line = ready
          ? `Topic ${name} is Ready (${partitions} partitions)`
          : `Topic ${name}: ${reason}: ${message}`;
        if (told.get(name) !== line) options.onLine(line);
        told.set(name, line);
      },
      onError: options.onLine,
    });
    await files.start();
    stops.push(() => files.close());
    const servers = await Promise.all(
      options.servers.map(async (server) => {
        const running = new ServerProcess(server, brokers, options);
        stops.push(() => running.stop());
        await running.restart();
        return running;
      }),
    );
    return { brokers, servers, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function kafkaOf(
  options: LocalOptions,
  stops: (() => Promise<void>)[],
): Promise<readonly string[]> {
  if (options.kafkaBrokers) return options.kafkaBrokers;
  const kafka: EmbeddedKafka = await startKafka({
    directory: join(options.directory, "kafka"),
    onProgress: options.onLine,
  });
  stops.push(() => kafka.stop());
  return kafka.brokers;
}

class ServerProcess implements LocalServer {
  readonly name: string;
  address: string;
  status = "";
  readonly #flags: readonly string[];
  readonly #onLine: (line: string) => void;
  #child: ChildProcess | undefined;

  constructor(
    server: { name: string; port: number },
    brokers: readonly string[],
    options: LocalOptions,
  ) {
    this.name = server.name;
    this.address = `127.0.0.1:${server.port}`;
    this.#onLine = options.onLine;
    this.#flags = [
      ...["--shape", "gateway", "--kafka", brokers.join(","), "--deployment-id", DEPLOYMENT_ID],
      ...["--namespace", options.namespace, "--server-name", server.name],
      ...["--health-listen", "127.0.0.1:0", ...(options.serverFlags ?? [])],
    ];
  }

  /** Starts the process; resolves when it is ready to serve. */
  async restart(): Promise<void> {
    await this.#spawn();
    for (;;) {
      const ready = await fetch(`${this.status}/readyz`).then(
        (answer) => answer.ok,
        () => false,
      );
      if (ready || this.#ended) return;
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
  }

  get #ended(): boolean {
    return !this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #spawn(): Promise<void> {
    const child = spawn(
      process.execPath,
      [
        "--disable-warning=ExperimentalWarning",
        join(root, "sidecar/main.ts"),
        ...["--listen", this.address, ...this.#flags],
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child = child;
    const endWithUs = (): void => void child.kill("SIGKILL");
    process.once("exit", endWithUs);
    child.once("exit", () => process.removeListener("exit", endWithUs));
    return new Promise((resolve, reject) => {
      const lines: string[] = [];
      const hear = (line: string): void => {
        lines.push(line);
        if (lines.length > 20) lines.shift();
        const said = parsed(line);
        if (said?.msg === "serving") {
          this.address = said.listen ?? this.address;
          if (said.health) this.status = `http://${said.health}`;
          resolve();
        } else if ((said?.level ?? 0) >= 50) this.#onLine(`server ${this.name}: ${said?.msg}`);
      };
      if (child.stdout) createInterface({ input: child.stdout }).on("line", hear);
      if (child.stderr) createInterface({ input: child.stderr }).on("line", hear);
      child.once("exit", () =>
        reject(new Error(`server ${this.name} ended before it listened:\n${lines.join("\n")}`)),
      );
    });
  }

  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || this.#ended) return Promise.resolve();
    return new Promise((resolve) => {
      const hard = setTimeout(() => child.kill("SIGKILL"), 5000);
      child.once("exit", () => {
        clearTimeout(hard);
        resolve();
      });
      child.kill(signal);
    });
  }
}

function parsed(
  line: string,
): { msg?: string; level?: number; listen?: string; health?: string } | undefined {
  try {
    return JSON.parse(line) as { msg?: string };
  } catch {
    return undefined;
  }
}
