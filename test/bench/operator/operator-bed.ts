/**
 * What the operator's benchmark stands on: a real kube-apiserver and etcd, a real Kafka, and operators as
 * processes. A watch of its own sees when each Topic is Ready.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Watch } from "@kubernetes/client-node";
import { parse } from "yaml";
import { openKafkaLog } from "../../../kafka/kafka-log.ts";
import type { Log } from "../../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../../local/embedded-kafka.ts";
import { freePorts } from "../../../local/free-ports.ts";
import type { KubeTopic } from "../../../operator/kube/topic-api.ts";
import { type ControlPlane, startControlPlane } from "../../cluster/control-plane.ts";
import { type Launch, shipped } from "../../shipped.ts";
import { pause } from "../bed.ts";

const API = "/apis/throughline.dev/v1alpha1/namespaces";
/** The operator's Topics. */
export const WATCHED = "bench";
/** How often Kafka is asked whether a drift is mended. */
const LOOK_MS = 50;
/** Topics that no operator looks at. */
const BARE = "bare";
const LANES = 8;

export interface BenchOperator {
  rssBytes(): number;
  /** Sum over all labels; 0 when there is none yet. */
  metric(name: string): Promise<number>;
  stop(): Promise<void>;
}

export class OperatorBed {
  readonly kafka: EmbeddedKafka;
  readonly log: Log;
  readonly #plane: ControlPlane;
  readonly #folder: string;
  readonly #launch: Launch;
  readonly #agent: Agent;
  readonly #api: { readonly host: string; readonly token: string };
  readonly #operators = new Set<ChildProcess>();
  readonly #waiting = new Map<string, (atMs: number) => void>();
  #isClosed = false;

  private constructor(folder: string, plane: ControlPlane, kafka: EmbeddedKafka) {
    this.#folder = folder;
    this.#plane = plane;
    this.kafka = kafka;
    this.log = openKafkaLog({ brokers: kafka.brokers, clientId: "bench" });
    this.#launch = shipped(folder);
    const cluster = plane.kube.getCurrentCluster();
    const ca = Buffer.from(cluster?.caData ?? "", "base64");
    this.#agent = new Agent({ keepAlive: true, ca });
    this.#api = { host: cluster?.server ?? "", token: plane.kube.getCurrentUser()?.token ?? "" };
  }

  static async start(onProgress: (line: string) => void): Promise<OperatorBed> {
    const folder = mkdtempSync(join(tmpdir(), "throughline-bench-operator-"));
    const [plane, kafka] = await Promise.all([
      startControlPlane(onProgress),
      startKafka({ directory: join(folder, "kafka"), onProgress, fullSpeed: true }),
    ]);
    writeFileSync(join(folder, "kubeconfig"), plane.kubeconfig, { mode: 0o600 });
    const crd = readFileSync(
      join(import.meta.dirname, "../../../crds/topics.throughline.dev.yaml"),
      "utf8",
    );
    await plane.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", parse(crd));
    for (const name of [WATCHED, BARE, "throughline"])
      await plane.make("/api/v1/namespaces", { metadata: { name } });
    const bed = new OperatorBed(folder, plane, kafka);
    while ((await bed.#request("GET", `${API}/${WATCHED}/topics`)).status !== 200);
    bed.#follow();
    return bed;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const child of this.#operators) await ended(child, "SIGKILL");
    this.#agent.destroy();
    await this.log.close();
    await Promise.all([this.kafka.stop(), this.#plane.stop()]);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Resolves when it leads. */
  async startOperator(): Promise<BenchOperator> {
    const [port] = await freePorts(1);
    const { folder, environment } = this.#launch;
    const child = spawn(
      process.execPath,
      [
        ...["dist/operator.mjs", "--kafka", this.kafka.brokers.join(","), "--log-level", "warn"],
        ...["--deployment-id", "bench", "--kubeconfig", join(this.#folder, "kubeconfig")],
        ...["--namespaces", WATCHED, "--health-listen", `127.0.0.1:${port}`],
      ],
      {
        ...{ cwd: folder, env: { ...process.env, ...environment } },
        stdio: ["ignore", "inherit", "inherit"],
      },
    );
    this.#operators.add(child);
    child.once("exit", () => this.#operators.delete(child));
    const metric = async (name: string): Promise<number> => {
      const page = await fetch(`http://127.0.0.1:${port}/metrics`).then(
        (response) => response.text(),
        () => "",
      );
      return page
        .split("\n")
        .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
        .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
    };
    while ((await metric("throughline_operator_leading")) !== 1) {
      if (child.exitCode !== null) throw new Error("the operator ended");
    }
    return {
      metric,
      rssBytes: () => rssOf(child.pid as number),
      stop: () => ended(child, "SIGTERM"),
    };
  }

  /** Makes Topics, each of one partition. @returns milliseconds from each one's request to its being Ready. */
  async apply(names: readonly string[]): Promise<number[]> {
    const ready: Promise<number>[] = [];
    await inLanes(names, async (name) => {
      const begunMs = performance.now();
      const isReady = new Promise<number>((resolve) => this.#waiting.set(name, resolve));
      await this.make(WATCHED, name);
      ready.push(isReady.then((atMs) => atMs - begunMs));
    });
    return await Promise.all(ready);
  }

  async make(namespace: string, name: string, annotations = {}): Promise<void> {
    const { status, text } = await this.#request("POST", `${API}/${namespace}/topics`, {
      ...{ apiVersion: "throughline.dev/v1alpha1", kind: "Topic" },
      metadata: { name, namespace, annotations },
      spec: { partitions: 1, retention: { time: "7d" } },
    });
    if (status !== 201) throw new Error(text);
  }

  /** The least that each Topic takes, without an operator: made, made in Kafka, and said to be Ready. */
  async bare(name: string): Promise<void> {
    await this.make(BARE, name);
    const of = { name: `${BARE}.${name}`, partitions: 1, replicas: 1, settings: {} };
    const made = await this.log.admin.createTopic(of);
    if (made.kind !== "done") throw new Error(JSON.stringify(made));
    const { status, text } = await this.#request("PATCH", `${API}/${BARE}/topics/${name}/status`, {
      status: { observedGeneration: 1, kafkaTopic: of.name },
    });
    if (status !== 200) throw new Error(text);
  }

  /** Changes a setting behind the operator's back. @returns milliseconds until it is as it was. */
  async mended(kafkaTopic: string): Promise<number> {
    const { admin } = this.log;
    const before = await this.#retentionOf(kafkaTopic);
    const changed = await admin.changeSettings(kafkaTopic, { "retention.ms": "12345678" }, []);
    if (changed.kind !== "done") throw new Error(JSON.stringify(changed));
    const begunMs = performance.now();
    while ((await this.#retentionOf(kafkaTopic)) !== before) await pause(LOOK_MS);
    return performance.now() - begunMs;
  }

  async #retentionOf(kafkaTopic: string): Promise<string | undefined> {
    const found = await this.log.admin.settings(kafkaTopic);
    if (found.kind !== "done") throw new Error(JSON.stringify(found));
    return found.value["retention.ms"];
  }

  #follow(): void {
    const seen = (_type: string, topic: KubeTopic): void => {
      const { name } = topic.metadata;
      const ready = topic.status?.conditions?.find(({ type }) => type === "Ready");
      if (ready?.status === "True") this.#waiting.get(name)?.(performance.now());
    };
    const again = (): void => {
      if (!this.#isClosed) this.#follow();
    };
    void new Watch(this.#plane.kube).watch(`${API}/${WATCHED}/topics`, {}, seen, again);
  }

  #request(
    method: string,
    path: string,
    body?: object,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const { host, token } = this.#api;
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const headers = { authorization: `Bearer ${token}`, "content-type": type };
    return new Promise((resolve, reject) => {
      const asked = httpsRequest(
        `${host}${path}`,
        { method, headers, agent: this.#agent },
        (response) => {
          let text = "";
          response.on("data", (bytes: Buffer) => {
            text += bytes;
          });
          response.once("end", () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      asked.once("error", reject);
      asked.end(body && JSON.stringify(body));
    });
  }
}

/** So many at once, in order. */
export async function inLanes<T>(all: readonly T[], act: (one: T) => Promise<void>): Promise<void> {
  const left = [...all];
  const lane = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await act(one);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

function rssOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill(signal);
  });
}
