/** A real API server with the CRD, a real Kafka, operators as processes, and what a person does to Topics. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  CoreV1Api,
  CustomObjectsApi,
  EventsV1Api,
  type EventsV1Event,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  Watch,
} from "@kubernetes/client-node";
import { parse } from "yaml";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import {
  type EmbeddedKafka,
  type EmbeddedKafkaOptions,
  startKafka,
} from "../../local/embedded-kafka.ts";
import type { Condition } from "../../operator/kube/resource-api.ts";
import type { KubeTopic } from "../../operator/kube/topic-api.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import { programOf } from "../shipped.ts";
import { until, Waits } from "../story/waits.ts";
import { ask } from "./api-request.ts";
import { ensureBinaries } from "./binaries.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { ended } from "./processes.ts";

export const SLOW_MS = 180_000;
/** Within a test's own time, so that it says what it waits for. */
const WAIT_MS = 150_000;
const WATCH_SECONDS = 10;
const TOPICS = "/apis/throughline.dev/v1alpha1/topics";
const GROUP = { group: "throughline.dev", version: "v1alpha1", plural: "topics" };
const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
/** From a checkout's root. */
const CRDS = "crds";
const ROOT = join(import.meta.dirname, "../..");

export interface TopicBedOptions extends Omit<EmbeddedKafkaOptions, "directory"> {
  /** Whose definitions the API server has at first; by default this checkout's. */
  readonly root?: string;
  /** Of Kubernetes. */
  readonly controllers?: boolean;
}

export class TopicBed {
  readonly plane: ControlPlane;
  readonly kafka: EmbeddedKafka;
  readonly log: Log;
  readonly #folder: string;
  readonly #objects: CustomObjectsApi;
  readonly #core: CoreV1Api;
  readonly #operators = new Set<ChildProcess>();

  private constructor(folder: string, plane: ControlPlane, kafka: EmbeddedKafka) {
    this.#folder = folder;
    this.plane = plane;
    this.kafka = kafka;
    this.log = openKafkaLog({ brokers: kafka.brokers, clientId: "test" });
    this.#objects = plane.kube.makeApiClient(CustomObjectsApi);
    this.#core = plane.kube.makeApiClient(CoreV1Api);
    writeFileSync(this.kubeconfig, plane.kubeconfig, { mode: 0o600 });
  }

  static async start(given: TopicBedOptions = {}): Promise<TopicBed> {
    const { root = ROOT, controllers = false, ...options } = given;
    const folder = mkdtempSync(join(tmpdir(), "throughline-cluster-test-"));
    const [plane, kafka] = await Promise.all([
      startControlPlane(console.log, { controllers }),
      startKafka({ ...options, directory: join(folder, "kafka") }),
    ]);
    const bed = new TopicBed(folder, plane, kafka);
    await bed.define(root);
    await bed.namespace("throughline");
    // It is served a moment after it is made.
    await until(async () => (await ask(plane.kube, "GET", TOPICS)).status === 200);
    return bed;
  }

  async stop(): Promise<void> {
    await this.killAll();
    await this.log.close();
    await Promise.all([this.kafka.stop(), this.plane.stop()]);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get kubeconfig(): string {
    return join(this.#folder, "kubeconfig");
  }

  /** Makes the definitions those of the checkout there, in the place of the ones that are. */
  async define(root = ROOT): Promise<void> {
    for (const file of readdirSync(join(root, CRDS))) await this.#define(join(root, CRDS, file));
  }

  async #define(file: string): Promise<void> {
    const definition = parse(readFileSync(file, "utf8"));
    const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${definition.metadata.name}`;
    const { status, body } = await ask(
      this.plane.kube,
      "PATCH",
      `${path}?fieldManager=test&force=true`,
      definition,
      "application/apply-patch+yaml",
    );
    if (status >= 300) throw new Error(body.message);
  }

  /** A folder of the bed's own. */
  folder(name: string): string {
    return join(this.#folder, name);
  }

  /** A file of the bed's own. */
  file(name: string, text: string): string {
    const path = join(this.#folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  async namespace(name: string): Promise<void> {
    await this.#core.createNamespace({ body: { metadata: { name } } });
  }

  /** Without a controller of namespaces: it is being deleted from now on, and what is in it is not. */
  async deleteNamespace(name: string): Promise<void> {
    await this.#core.deleteNamespace({ name });
  }

  /** Flags that are given win. */
  operator(deploymentId: string, ...flags: string[]): ChildProcess {
    return this.operatorOf(programOf("operator"), deploymentId, ...flags);
  }

  /** Of another release. */
  operatorOf(program: string, deploymentId: string, ...flags: string[]): ChildProcess {
    const preset = [
      ...["--kafka", this.kafka.brokers.join(","), "--kubeconfig", this.kubeconfig],
      ...["--deployment-id", deploymentId],
    ];
    const child = spawn(process.execPath, [program, ...preset, ...flags], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    this.#operators.add(child);
    child.once("exit", () => this.#operators.delete(child));
    return child;
  }

  async killAll(): Promise<void> {
    await Promise.all([...this.#operators].map((child) => ended(child, "SIGKILL")));
  }

  /** @param name `<namespace>/<name>`, here and below. */
  topic(name: string): Promise<KubeTopic> {
    return topicOf(this.plane.kube, name);
  }

  async apply(name: string, spec: TopicSpec, metadata: object = {}): Promise<void> {
    const { namespace, name: short } = placeOf(name);
    const body = {
      ...{ apiVersion: "throughline.dev/v1alpha1", kind: "Topic" },
      ...{ metadata: { ...metadata, name: short, namespace }, spec },
    };
    await this.#objects.createNamespacedCustomObject({ ...GROUP, namespace, body });
  }

  async patch(name: string, body: object): Promise<void> {
    await this.#objects.patchNamespacedCustomObject({ ...GROUP, ...placeOf(name), body }, MERGE);
  }

  annotate(name: string, annotations: Record<string, string | null>): Promise<void> {
    return this.patch(name, { metadata: { annotations } });
  }

  async delete(name: string): Promise<void> {
    await this.#objects.deleteNamespacedCustomObject({ ...GROUP, ...placeOf(name) });
  }

  /** Resolves when the Topic is so; when it is gone it is undefined. */
  until(name: string, holds: (topic: KubeTopic | undefined) => boolean): Promise<void> {
    return untilTopic(this.plane.kube, name, holds);
  }

  async untilReady(...names: string[]): Promise<void> {
    await Promise.all(names.map((name) => this.until(name, isReady)));
  }

  /** Ready has this reason, about what the spec says now. */
  untilReason(name: string, reason: string): Promise<void> {
    return this.until(name, (topic) => {
      const ready = readyOf(topic);
      return ready?.reason === reason && ready.observedGeneration === topic?.metadata.generation;
    });
  }

  untilGone(name: string): Promise<void> {
    return this.until(name, (topic) => topic === undefined);
  }

  /** What was told of a Topic, in order, `<type> <reason>`, when so much was told: an Event follows its status. */
  async told(name: string, count: number): Promise<string[]> {
    const { namespace, name: short } = placeOf(name);
    const events = this.plane.kube.makeApiClient(EventsV1Api);
    let found: EventsV1Event[] = [];
    await until(async () => {
      const { items } = await events.listNamespacedEvent({ namespace });
      found = items.filter(
        ({ regarding }) => regarding?.kind === "Topic" && regarding.name === short,
      );
      return found.length >= count;
    });
    return found
      .toSorted((a, b) => timeOf(a) - timeOf(b))
      .map(({ type, reason }) => `${type} ${reason}`);
  }

  async kafkaTopic(name: string): Promise<TopicInfo | undefined> {
    const found = await this.log.admin.describeTopics([name]);
    if (found.kind !== "done") throw new Error(found.reason);
    return found.value.get(name);
  }

  /** Somebody's who knows nothing of Throughline. */
  async makeKafkaTopic(name: string, settings: Record<string, string> = {}): Promise<TopicInfo> {
    const made = await this.log.admin.createTopic({ name, partitions: 1, replicas: 1, settings });
    if (made.kind !== "done") throw new Error(made.reason);
    return made.value;
  }

  async deleteKafkaTopic(name: string): Promise<void> {
    const topic = await this.kafkaTopic(name);
    const deleted = topic && (await this.log.admin.deleteTopic(topic.id));
    if (deleted?.kind !== "done") throw new Error(`${name} was not deleted`);
  }

  async kubectl(...args: string[]): Promise<string> {
    const program = join(await ensureBinaries(["kubectl"], console.log), "kubectl");
    const all = ["--kubeconfig", this.kubeconfig, ...args];
    return (await promisify(execFile)(program, all)).stdout;
  }
}

/** The client gives the time as text, whatever its type says. */
function timeOf({ eventTime }: EventsV1Event): number {
  return new Date(eventTime ?? 0).getTime();
}

/**
 * Resolves when the Topic `<namespace>/<name>` is so; when it is gone it is undefined. Follows it through restarts
 * of the API server.
 */
export async function untilTopic(
  kube: KubeConfig,
  name: string,
  holds: (topic: KubeTopic | undefined) => boolean,
): Promise<void> {
  const { namespace, name: short } = placeOf(name);
  const path = `/apis/throughline.dev/v1alpha1/namespaces/${namespace}/topics`;
  let last: KubeTopic | undefined;
  const deadline = performance.now() + WAIT_MS;
  while (performance.now() < deadline) {
    // An API server that does not answer is asked again.
    await until(async () => {
      last = undefined;
      try {
        last = await topicOf(kube, name);
        return true;
      } catch (error) {
        return (error as { code?: number }).code === 404;
      }
    });
    if (holds(last)) return;
    const waits = new Waits();
    let [isSo, isOver] = [false, false];
    const seen = (type: string, one: KubeTopic): void => {
      last = type === "DELETED" ? undefined : one;
      isSo ||= holds(last);
      waits.changed();
    };
    // From what was seen on: one that goes before the watch begins would be heard of no more.
    const resourceVersion = last?.metadata.resourceVersion;
    const fieldSelector = `metadata.name=${short}`;
    const query = { fieldSelector, resourceVersion, timeoutSeconds: WATCH_SECONDS };
    const begun = await new Watch(kube).watch(path, query, seen, () => {
      isOver = true;
      waits.changed();
    });
    await waits.until(() => isSo || isOver);
    begun.abort();
    if (isSo) return;
  }
  throw new Error(`${name} stays ${JSON.stringify(last?.status ?? "away")}`);
}

function topicOf(kube: KubeConfig, name: string): Promise<KubeTopic> {
  const objects = kube.makeApiClient(CustomObjectsApi);
  return objects.getNamespacedCustomObject({ ...GROUP, ...placeOf(name) });
}

export function readyOf(topic: KubeTopic | undefined): Condition | undefined {
  return topic?.status?.conditions?.find(({ type }) => type === "Ready");
}

/** About what the spec says now. */
export function isReady(topic: KubeTopic | undefined): boolean {
  const ready = readyOf(topic);
  return ready?.status === "True" && ready.observedGeneration === topic?.metadata.generation;
}

function placeOf(name: string): { namespace: string; name: string } {
  const [namespace = "", short = ""] = name.split("/");
  return { namespace, name: short };
}
