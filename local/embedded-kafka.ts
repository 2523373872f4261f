/**
 * A real Apache Kafka on this machine (KRaft), one node or three, for local mode, tests and benchmarks.
 *
 * Its processes end with ours. When ours was killed, the next start in the same directory finds their
 * ids, makes sure that they are its own brokers, and ends them first.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { environment } from "./config.ts";
import { freePorts } from "./free-ports.ts";
import { limited } from "./full-disk.ts";
import { ensureJava } from "./java.ts";
import { ensureKafkaJars } from "./kafka-jars.ts";
import { brokerProperties, LOG4J } from "./kafka-properties.ts";

const CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg";
/** The levels of its features that a new cluster begins with. */
const FEATURES = "bootstrap.checkpoint";
const START_TIMEOUT_MS = 120_000;
/** Without the second compiler a node starts in half the time, for 60 % of the CPU. */
const QUICK_START = "-XX:TieredStopAtLevel=1";
const JVM = ["-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData", "-Xms64m", "-Xmx384m"];
/** As Kafka's own script starts it: a heap that has yet to grow is collected whole, for a tenth of a second each time. */
const FULL_SPEED = ["-Xms384m", "-XX:MetaspaceSize=96m"];

export interface EmbeddedKafka {
  /** host:port of each node. */
  readonly brokers: string[];
  /** The same nodes at the listener of `secured`; empty without one. */
  readonly securedBrokers: string[];
  /** @param signal SIGKILL where nobody needs its data any more: that takes no time. By default SIGTERM. */
  stop(signal?: "SIGTERM" | "SIGKILL"): Promise<void>;
  /** SIGKILL; resolves when the process is gone. Nodes count from 1. */
  kill(node: number): Promise<void>;
  /** @param maxFileBytes its disk is full for a file that grew so far, as tests want it; by default never. */
  startNode(node: number, maxFileBytes?: number): Promise<void>;
  freeze(node: number): void;
  thaw(node: number): void;
  pid(node: number): number;
  /** Runs one of Kafka's own tools. */
  java(
    mainClass: string,
    args: readonly string[],
    input?: string,
  ): Promise<{ code: number; stdout: string; stderr: string }>;
}

export interface EmbeddedKafkaOptions {
  /** Holds data and logs; kept between runs. */
  readonly directory: string;
  readonly nodes?: 1 | 3;
  /** Where clients connect; an address of this machine, by default on loopback. */
  readonly host?: string;
  /** One more listener of each node, of any protocol; its settings are in `settings`. */
  readonly secured?: string;
  /** Ports that its clients are told, by node: of a proxy that stands before each. */
  readonly advertisedPorts?: readonly number[];
  /** Broker settings beside or instead of ours. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Folder of Java classes that settings name and Kafka's jars do not have. */
  readonly classes?: string;
  readonly onProgress?: (line: string) => void;
  /** For measurements: Java compiles, and has its heap, as in production, which takes longer to start. */
  readonly fullSpeed?: boolean;
  /** Ctrl-C at the terminal does not reach the nodes: this process stops them, in its order. */
  readonly ownGroup?: boolean;
  /** A node ended that was neither killed here nor stopped: by signal or exit code. */
  readonly onUnexpectedEnd?: (node: number, how: string) => void;
}

/** @throws with the next step when Kafka cannot be had or does not start. */
export async function startKafka(options: EmbeddedKafkaOptions): Promise<EmbeddedKafka> {
  const { directory, nodes = 1, host = "127.0.0.1", secured, settings = {} } = options;
  const { onProgress = () => {}, onUnexpectedEnd = () => {} } = options;
  const { ownGroup = false } = options;
  await endLeftOver(directory);
  const { program, jars } = await kafkaProgram(directory, options, onProgress);
  const ports = await freePorts(nodes * 3);
  const listeners = ports.slice(0, nodes);
  const controllers = ports.slice(nodes, nodes * 2);
  const securedPorts = secured ? ports.slice(nodes * 2) : [];
  const running = new Map<number, ChildProcess>();
  const served = new WeakSet<ChildProcess>();
  const expected = new WeakSet<ChildProcess>();
  const brokers = listeners.map((port) => `${host}:${port}`);

  const home = (node: number): string => join(directory, `node-${node}`);
  const startNode = async (node: number, maxFileBytes?: number): Promise<void> => {
    const log = openSync(join(home(node), "log"), "a");
    const more = ["kafka.Kafka", join(home(node), "server.properties")];
    const [command, ...args] = limited([...program, ...more], maxFileBytes);
    const child = spawn(command, args, {
      stdio: ["ignore", log, log],
      detached: ownGroup,
    });
    closeSync(log);
    running.set(node, child);
    writeFileSync(join(home(node), "pid"), String(child.pid));
    child.once("exit", (code, signal) => {
      running.delete(node);
      if (served.has(child) && !expected.has(child))
        onUnexpectedEnd(node, signal ?? `exit code ${code}`);
    });
    const at = { host, port: listeners[node - 1] as number };
    await reachable(at, () => running.get(node) === child, home(node));
    served.add(child);
  };
  const endAll = (): void => {
    for (const child of running.values()) child.kill("SIGKILL");
  };
  process.once("exit", endAll);

  const run: EmbeddedKafka["java"] = (mainClass, args, input) =>
    runJava([...program, mainClass, ...args], input);

  onProgress(`Starting Apache Kafka (${nodes === 1 ? "one node" : `${nodes} nodes`})`);
  await Promise.all(
    listeners.map(async (_port, i) => {
      const node = i + 1;
      mkdirSync(home(node), { recursive: true });
      const file = join(home(node), "server.properties");
      writeFileSync(
        file,
        brokerProperties({
          ...{ node, host, listeners, controllers, directory: home(node), settings },
          secured: secured
            ? { protocol: secured, ports: securedPorts, advertisedPorts: options.advertisedPorts }
            : undefined,
        }),
      );
      await formatted(join(home(node), "data"), { node, file, jars, run });
    }),
  );
  await Promise.all(listeners.map((_port, i) => startNode(i + 1)));
  await allListed(run, brokers);

  const end = (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
    expected.add(child);
    return ended(child, signal);
  };
  const childOf = (node: number): ChildProcess => {
    const child = running.get(node);
    if (!child) throw new Error(`node ${node} does not run`);
    return child;
  };
  return {
    brokers,
    securedBrokers: securedPorts.map((port) => `127.0.0.1:${port}`),
    startNode,
    pid: (node) => childOf(node).pid as number,
    freeze: (node) => void childOf(node).kill("SIGSTOP"),
    thaw: (node) => void childOf(node).kill("SIGCONT"),
    kill: (node) => end(childOf(node), "SIGKILL"),
    stop: async (signal = "SIGTERM") => {
      await Promise.all([...running.values()].map((child) => end(child, signal)));
      process.removeListener("exit", endAll);
      for (let node = 1; node <= nodes; node++) rmSync(join(home(node), "pid"), { force: true });
    },
    java: run,
  };
}

/**
 * Kafka's own tools, for whoever uses a Kafka that another process started.
 * @param directory holds their settings.
 */
export async function kafkaTools(directory: string): Promise<EmbeddedKafka["java"]> {
  const { program } = await kafkaProgram(directory, {}, () => {});
  return (mainClass, args, input) => runJava([...program, mainClass, ...args], input);
}

/**
 * What a node needs to start for the first time. What Kafka's own tool wrote once is kept beside the jars: of the
 * node it says nothing, and the tool takes a second.
 */
async function formatted(
  data: string,
  by: {
    readonly node: number;
    readonly file: string;
    readonly jars: string;
    readonly run: EmbeddedKafka["java"];
  },
): Promise<void> {
  const properties = join(data, "meta.properties");
  if (existsSync(properties)) return;
  const features = join(data, FEATURES);
  const kept = join(by.jars, FEATURES);
  if (!existsSync(kept)) {
    const args = ["format", "-t", CLUSTER_ID, "-c", by.file];
    const { code, stdout, stderr } = await by.run("kafka.tools.StorageTool", args);
    if (code !== 0) throw new Error(`Kafka's storage cannot be formatted: ${stderr || stdout}`);
    const part = `${kept}.${process.pid}-${by.node}.part`;
    try {
      copyFileSync(features, part);
      renameSync(part, kept);
    } catch {
      // A cache that is read only: the next start takes the second again.
    }
    return;
  }
  mkdirSync(data, { recursive: true });
  copyFileSync(kept, features);
  // Last: with it the node counts as formatted.
  writeFileSync(properties, `version=1\ncluster.id=${CLUSTER_ID}\nnode.id=${by.node}\n`);
}

/** `program` is Java with its flags and Kafka's classes, which are in `jars`; a main class and its arguments follow. */
async function kafkaProgram(
  directory: string,
  { fullSpeed = false, classes }: Pick<EmbeddedKafkaOptions, "fullSpeed" | "classes">,
  onProgress: (line: string) => void,
): Promise<{ readonly program: readonly [string, ...string[]]; readonly jars: string }> {
  const java = ensureJava(onProgress);
  const jars = await ensureKafkaJars(environment.cache, environment.mavenRepository, onProgress);
  mkdirSync(directory, { recursive: true });
  const log4j = join(directory, "log4j2.properties");
  writeFileSync(log4j, LOG4J);
  const jvm = [...JVM, ...(fullSpeed ? FULL_SPEED : [QUICK_START])];
  // Behind the jars: an archive of their classes is good for what begins with them.
  const classPath = [join(jars, "*"), ...(classes ? [classes] : [])].join(delimiter);
  const flags = [...jvm, `-Dlog4j2.configurationFile=${log4j}`, "-cp", classPath];
  return { program: [java, ...flags], jars };
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => {
    const hard = setTimeout(() => child.kill("SIGKILL"), 20_000);
    child.once("exit", () => {
      clearTimeout(hard);
      resolve();
    });
    child.kill(signal);
  });
}

/** Ends brokers of an earlier run in this directory whose parent was killed; resolves when they are gone. */
export async function endLeftOver(directory: string): Promise<void> {
  for (const node of [1, 2, 3]) {
    const home = join(directory, `node-${node}`);
    const file = join(home, "pid");
    if (!existsSync(file)) continue;
    const pid = Number(readFileSync(file, "utf8"));
    if (isBroker(pid, home)) process.kill(pid, "SIGKILL");
    while (isBroker(pid, home)) await new Promise((resolve) => setTimeout(resolve, 20));
    rmSync(file, { force: true });
  }
}

/** Not just any process that has the number now. Without /proc nothing is known to be ours. */
function isBroker(pid: number, home: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(join(home, "server.properties"));
  } catch {
    return false;
  }
}

async function reachable(
  at: { readonly host: string; readonly port: number },
  alive: () => boolean,
  home: string,
): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(at, () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (open) return;
    if (!alive() || performance.now() > deadline) {
      const log = readFileSync(join(home, "log"), "utf8").trim().split("\n").slice(-5).join("\n");
      throw new Error(`Kafka did not start; the end of ${join(home, "log")}:\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** An open port is not readiness: every broker must be in the metadata. */
async function allListed(
  run: (mainClass: string, args: readonly string[]) => Promise<{ stdout: string }>,
  brokers: readonly string[],
): Promise<void> {
  if (brokers.length === 1) return;
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const { stdout } = await run("org.apache.kafka.tools.BrokerApiVersionsCommand", [
      "--bootstrap-server",
      brokers[0] as string,
    ]);
    if (brokers.every((broker) => stdout.includes(broker))) return;
    if (performance.now() > deadline) throw new Error("Kafka's nodes did not find each other.");
  }
}

function runJava(
  command: readonly string[],
  input?: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [java = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(java, args, { stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (bytes: Buffer) => {
      stdout += bytes.toString();
    });
    child.stderr.on("data", (bytes: Buffer) => {
      stderr += bytes.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code: code ?? 1, stdout, stderr }));
    child.stdin.end(input ?? "");
  });
}
