/**
 * What the operator's benchmark stands on: a real kube-apiserver and etcd, a real Kafka, and operators as
 * processes. A watch of its own sees when each Topic is Ready.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Agent, request as httpsRequest } from "node:https";
import { Watch } from "@kubernetes/client-node";
import { freePorts } from "../../../local/free-ports.ts";
import type { KubeTopic } from "../../../operator/kube/topic-api.ts";
import { nameOf } from "../../../operator/topic-spec.ts";
import { ended } from "../../cluster/processes.ts";
import { TopicBed } from "../../cluster/topic-bed.ts";
import { type Launch, shipped } from "../../shipped.ts";
import { metric, pause, rssBytes } from "../bed.ts";

const API = "/apis/throughline.dev/v1alpha1/namespaces";
/** The operator's Topics. */
export const WATCHED = "bench";
/** The operator's too, and another team's. */
export const OTHER = "other";
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
  readonly #bed: TopicBed;
  readonly #launch: Launch;
  readonly #agent: Agent;
  readonly #api: { readonly host: string; readonly token: string };
  readonly #operators = new Set<ChildProcess>();
  readonly #waiting = new Map<string, (atMs: number) => void>();
  #isClosed = false;

  private constructor(bed: TopicBed) {
    this.#bed = bed;
    this.#launch = shipped(bed.folder("bundle"));
    const { kube } = bed.plane;
    const cluster = kube.getCurrentCluster();
    const ca = Buffer.from(cluster?.caData ?? "", "base64");
    this.#agent = new Agent({ keepAlive: true, ca });
    this.#api = { host: cluster?.server ?? "", token: kube.getCurrentUser()?.token ?? "" };
  }

  static async start(onProgress: (line: string) => void): Promise<OperatorBed> {
    const topics = await TopicBed.start({ onProgress, fullSpeed: true });
    for (const name of [WATCHED, OTHER, BARE]) await topics.namespace(name);
    const bed = new OperatorBed(topics);
    for (const namespace of [WATCHED, OTHER]) bed.#follow(namespace);
    return bed;
  }

  async stop(): Promise<void> {
    this.#isClosed = true;
    for (const child of this.#operators) await ended(child, "SIGKILL");
    this.#agent.destroy();
    await this.#bed.stop();
  }

  /** Resolves when it leads. */
  async startOperator(): Promise<BenchOperator> {
    const [port] = await freePorts(1);
    const { folder, environment } = this.#launch;
    const child = spawn(
      process.execPath,
      [
        ...[
          "dist/operator.mjs",
          "--kafka",
          this.#bed.kafka.brokers.join(","),
          "--log-level",
          "warn",
        ],
        ...["--deployment-id", "bench", "--kubeconfig", this.#bed.kubeconfig],
        ...["--namespaces", `${WATCHED},${OTHER}`, "--health-listen", `127.0.0.1:${port}`],
      ],
      {
        ...{ cwd: folder, env: { ...process.env, ...environment } },
        stdio: ["ignore", "inherit", "inherit"],
      },
    );
    this.#operators.add(child);
    child.once("exit", () => this.#operators.delete(child));
    const page = `http://127.0.0.1:${port}`;
    // Nobody listens there at first.
    const leads = (): Promise<number> =>
      metric(page, "throughline_operator_leading").catch(() => 0);
    while ((await leads()) !== 1) {
      if (child.exitCode !== null) throw new Error("the operator ended");
    }
    return {
      metric: (name) => metric(page, name),
      rssBytes: () => rssBytes(child.pid as number),
      stop: () => ended(child, "SIGTERM"),
    };
  }

  /** Makes Topics, each of one partition. `applied`: all are made; `ready`: milliseconds from each one's request. */
  apply(
    names: readonly string[],
    namespace = WATCHED,
  ): { readonly applied: Promise<void>; readonly ready: Promise<number[]> } {
    const ready: Promise<number>[] = [];
    const applied = inLanes(names, async (name) => {
      const begunMs = performance.now();
      const isReady = new Promise<number>((resolve) =>
        this.#waiting.set(`${namespace}/${name}`, resolve),
      );
      await this.make(namespace, name);
      ready.push(isReady.then((atMs) => atMs - begunMs));
    });
    return { applied, ready: applied.then(() => Promise.all(ready)) };
  }

  /** One after the other. */
  async applyOneByOne(names: readonly string[], namespace = WATCHED): Promise<number[]> {
    const tookMs: number[] = [];
    for (const name of names) tookMs.push(...(await this.apply([name], namespace).ready));
    return tookMs;
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
    const made = await this.#bed.log.admin.createTopic(of);
    if (made.kind !== "done") throw new Error(JSON.stringify(made));
    const { status, text } = await this.#request("PATCH", `${API}/${BARE}/topics/${name}/status`, {
      status: { observedGeneration: 1, kafkaTopic: of.name },
    });
    if (status !== 200) throw new Error(text);
  }

  /** Changes a setting behind the operator's back. @returns milliseconds until it is as it was. */
  async mended(kafkaTopic: string): Promise<number> {
    const { admin } = this.#bed.log;
    const before = await this.#retentionOf(kafkaTopic);
    const changed = await admin.changeSettings(kafkaTopic, { "retention.ms": "12345678" }, []);
    if (changed.kind !== "done") throw new Error(JSON.stringify(changed));
    const begunMs = performance.now();
    while ((await this.#retentionOf(kafkaTopic)) !== before) await pause(LOOK_MS);
    return performance.now() - begunMs;
  }

  async #retentionOf(kafkaTopic: string): Promise<string | undefined> {
    const found = await this.#bed.log.admin.settings(kafkaTopic);
    if (found.kind !== "done") throw new Error(JSON.stringify(found));
    return found.value["retention.ms"];
  }

  #follow(namespace: string): void {
    const seen = (_type: string, topic: KubeTopic): void => {
      const ready = topic.status?.conditions?.find(({ type }) => type === "Ready");
      if (ready?.status === "True") this.#waiting.get(nameOf(topic))?.(performance.now());
    };
    const again = (): void => {
      if (!this.#isClosed) this.#follow(namespace);
    };
    void new Watch(this.#bed.plane.kube).watch(`${API}/${namespace}/topics`, {}, seen, again);
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
