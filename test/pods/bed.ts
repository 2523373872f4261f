/**
 * A cluster of one node that runs pods, with what Throughline needs: Kafka, a session store, the CRD and an operator.
 * All are on the node's address, so that pods reach them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import {
  AppsV1Api,
  CoreV1Api,
  CustomObjectsApi,
  PatchStrategy,
  PolicyV1Api,
  setHeaderOptions,
  type V1Pod,
  type V1PodSpec,
} from "@kubernetes/client-node";
import { parse } from "yaml";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import type { KubeTopic } from "../../operator/kube/topic-api.ts";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { ended } from "../cluster/processes.ts";
import { numbered } from "../story/bed.ts";
import { until } from "../story/waits.ts";
import { makeImages } from "./images.ts";
import { NODE_ADDRESS } from "./machine.ts";
import { startNode } from "./node.ts";
import { Records } from "./records.ts";

const ROOT = join(import.meta.dirname, "../..");
const NAMESPACE = "shop";
const DEPLOYMENT = "pods";
const TOPICS = { group: "throughline.dev", version: "v1alpha1", plural: "topics" };
const REMOVE_MS = 20_000;
const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };

interface Worker {
  /** Of the pod, or of the Deployment. */
  readonly name: string;
  readonly topic: string;
  readonly session: string;
  /** Of the session; exclusive by default. */
  readonly mode?: "exclusive" | "shared";
  /** A Job's pod: it ends after so many events. */
  readonly take?: number;
}

export class Bed {
  readonly core: CoreV1Api;
  readonly apps: AppsV1Api;
  readonly kafka: EmbeddedKafka;
  readonly log: Log;
  readonly records: Records;
  readonly plane: ControlPlane;
  readonly #store: EmbeddedStore;
  readonly #operator: ChildProcess;
  readonly #stopNode: () => Promise<void>;
  readonly #logs: string;

  private constructor(parts: {
    readonly plane: ControlPlane;
    readonly kafka: EmbeddedKafka;
    readonly store: EmbeddedStore;
    readonly operator: ChildProcess;
    readonly records: Records;
    readonly stopNode: () => Promise<void>;
    readonly logs: string;
  }) {
    this.core = parts.plane.kube.makeApiClient(CoreV1Api);
    this.apps = parts.plane.kube.makeApiClient(AppsV1Api);
    this.kafka = parts.kafka;
    this.log = openKafkaLog({ brokers: parts.kafka.brokers, clientId: "test" });
    this.records = parts.records;
    this.plane = parts.plane;
    this.#store = parts.store;
    this.#operator = parts.operator;
    this.#stopNode = parts.stopNode;
    this.#logs = parts.logs;
  }

  static async open(onProgress: (line: string) => void): Promise<Bed> {
    const logs = process.env["THROUGHLINE_PODS_LOGS"];
    if (!logs) throw new Error("Pods run in namespaces of their own: npm run test:pods");
    onProgress("Making images; starting the control plane, Kafka and the session store");
    const [images, plane, kafka, store] = await Promise.all([
      makeImages(join(tmpdir(), "images")),
      startControlPlane(onProgress, { controllers: true, node: NODE_ADDRESS }),
      startKafka({ directory: join(tmpdir(), "kafka"), host: NODE_ADDRESS }),
      startStore({
        directory: join(tmpdir(), "store"),
        settings: { bind: NODE_ADDRESS, "protected-mode": "no" },
      }),
    ]);
    const node = { images, cgroup: basename(logs), logs, onProgress };
    const stopNode = await startNode(plane, node);
    const crd = readFileSync(join(ROOT, "crds/topics.throughline.dev.yaml"), "utf8");
    await plane.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", parse(crd));
    const core = plane.kube.makeApiClient(CoreV1Api);
    for (const name of [NAMESPACE, "throughline"])
      await core.createNamespace({ body: { metadata: { name, labels: RESTRICTED } } });
    const kubeconfig = join(tmpdir(), "kubeconfig");
    writeFileSync(kubeconfig, plane.kubeconfig, { mode: 0o600 });
    const operator = spawn(
      process.execPath,
      [
        ...[join(ROOT, "operator/main.ts"), "--kubeconfig", kubeconfig],
        ...["--kafka", kafka.brokers.join(), "--deployment-id", DEPLOYMENT],
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    onProgress("The cluster is ready");
    const records = await Records.open(NODE_ADDRESS);
    return new Bed({ plane, kafka, store, operator, records, stopNode, logs });
  }

  /** Applies the Topic; resolves when it is Ready. */
  async topic(name: string, spec: object): Promise<TopicInfo> {
    const objects = this.plane.kube.makeApiClient(CustomObjectsApi);
    const at = { ...TOPICS, namespace: NAMESPACE };
    const head = { apiVersion: "throughline.dev/v1alpha1", kind: "Topic" };
    const metadata = { name, namespace: NAMESPACE };
    await objects.createNamespacedCustomObject({ ...at, body: { ...head, metadata, spec } });
    let found: KubeTopic | undefined;
    await until(async () => {
      found = (await objects.getNamespacedCustomObject({ ...at, name })) as KubeTopic;
      const conditions = found.status?.conditions ?? [];
      return conditions.some(({ type, status }) => type === "Ready" && status === "True");
    });
    const { kafkaTopic = "", topicId = "", partitions = 0 } = found?.status ?? {};
    return { name: kafkaTopic, id: topicId, partitions, replicas: 1 };
  }

  /** Appends events `from` to `from + count - 1`. @throws when one is not acknowledged. */
  async append(topic: TopicInfo, from: number, count: number): Promise<void> {
    for (let n = from; n < from + count; n++) {
      const outcome = await this.log.append(topic, null, numbered(n));
      if (outcome.kind !== "appended") throw new Error(JSON.stringify(outcome));
    }
  }

  /** A pod with the app and the server, by worker.yaml. */
  async work(worker: Worker): Promise<void> {
    await this.core.createNamespacedPod({ namespace: NAMESPACE, body: this.#podOf(worker) });
  }

  /** A Deployment of two such pods, of which a budget allows one to be away. Resolves when both are Ready. */
  async deploy(worker: Worker): Promise<void> {
    const { name } = worker;
    const at = { namespace: NAMESPACE };
    const labels = { app: name };
    const selector = { matchLabels: labels };
    const template = { metadata: { labels }, spec: this.#podOf(worker).spec as V1PodSpec };
    const strategy = { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } };
    const spec = { replicas: 2, selector, template, strategy };
    await this.apps.createNamespacedDeployment({ ...at, body: { metadata: { name }, spec } });
    const policy = this.plane.kube.makeApiClient(PolicyV1Api);
    const budget = { metadata: { name }, spec: { maxUnavailable: 1, selector } };
    await policy.createNamespacedPodDisruptionBudget({ ...at, body: budget });
    await this.settled(name);
  }

  /** As `kubectl rollout restart`; resolves when it is done. */
  async roll(name: string): Promise<void> {
    const annotations = { "kubectl.kubernetes.io/restartedAt": new Date().toISOString() };
    const body = { spec: { template: { metadata: { annotations } } } };
    await this.apps.patchNamespacedDeployment({ namespace: NAMESPACE, name, body }, MERGE);
    await this.settled(name);
  }

  /** Resolves when the Deployment's newest pods are Ready and the others gone. */
  async settled(name: string): Promise<void> {
    await until(async () => {
      const found = await this.apps.readNamespacedDeployment({ namespace: NAMESPACE, name });
      const { observedGeneration, updatedReplicas, availableReplicas } = found.status ?? {};
      const isSeen = observedGeneration === found.metadata?.generation;
      const pods = await this.podsOf(name);
      return isSeen && updatedReplicas === 2 && availableReplicas === 2 && pods.length === 2;
    });
  }

  /** Names of the Deployment's pods, also of those that end. */
  async podsOf(name: string): Promise<string[]> {
    const labelSelector = `app=${name}`;
    const { items } = await this.core.listNamespacedPod({ namespace: NAMESPACE, labelSelector });
    return items.map(({ metadata }) => metadata?.name ?? "");
  }

  /** False when a budget forbids it. */
  async evict(name: string): Promise<boolean> {
    const eviction = { namespace: NAMESPACE, name, body: { metadata: { name } } };
    return this.core.createNamespacedPodEviction(eviction).then(
      () => true,
      (error) => {
        if (error.code === 429) return false;
        throw error;
      },
    );
  }

  #podOf({ name, topic, session, mode = "exclusive", take }: Worker): V1Pod {
    const names: Readonly<Record<string, string>> = {
      ...{ POD_NAME: name, TOPIC_NAME: topic, SESSION_NAME: session, MODE_NAME: mode },
      ...{ OFFICE_URL: this.records.url, KAFKA: this.kafka.brokers.join() },
      STORE: `redis://${NODE_ADDRESS}:${this.#store.port}`,
      RESTART: take === undefined ? "Always" : "Never",
      TAKE_COUNT: String(take ?? "Infinity"),
    };
    const written = readFileSync(join(import.meta.dirname, "worker.yaml"), "utf8");
    return parse(written, (_key, value) => {
      if (typeof value !== "string") return value;
      return value.replace(/\b[A-Z_]+$/, (word) => names[word] ?? word);
    });
  }

  /** Undefined when it is gone. */
  async pod(name: string): Promise<V1Pod | undefined> {
    return this.core.readNamespacedPod({ namespace: NAMESPACE, name }).catch((error) => {
      if (error.code === 404) return undefined;
      throw error;
    });
  }

  /** As `kubectl delete pod`; resolves when it is gone. @param grace of 0 is `--force`. */
  async delete(name: string, gracePeriodSeconds?: number): Promise<void> {
    const grace = gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds };
    await this.core.deleteNamespacedPod({ namespace: NAMESPACE, name, ...grace });
    await until(async () => (await this.pod(name)) === undefined);
  }

  /** SIGKILL, as the kernel does it where memory is short. */
  async killApp(pod: string): Promise<void> {
    const app = (await this.pod(pod))?.status?.containerStatuses?.[0];
    const id = app?.containerID?.replace("containerd://", "");
    if (!id) throw new Error(`${pod} has no app that runs`);
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
      if (cgroupsOf(pid).includes(id)) process.kill(Number(pid), "SIGKILL");
  }

  async close(): Promise<void> {
    const { items } = await this.core.listPodForAllNamespaces({});
    writeFileSync(join(this.#logs, "pods.json"), JSON.stringify(items, undefined, 2));
    // The next bed of this run has the same node.
    await this.apps.deleteCollectionNamespacedDeployment({ namespace: NAMESPACE });
    await this.core.deleteCollectionNamespacedPod({ namespace: NAMESPACE, gracePeriodSeconds: 1 });
    const deadlineMs = performance.now() + REMOVE_MS;
    await until(async () => {
      const { items: left } = await this.core.listNamespacedPod({ namespace: NAMESPACE });
      return left.length === 0 || performance.now() > deadlineMs;
    });
    this.records.close();
    await this.#stopNode();
    await ended(this.#operator, "SIGTERM");
    await this.log.close();
    await Promise.all([this.kafka.stop(), this.#store.stop()]);
    await this.plane.stop();
  }
}

/** Nothing when the process is gone. */
function cgroupsOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, "utf8");
  } catch {
    return "";
  }
}
