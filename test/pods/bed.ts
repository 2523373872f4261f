/**
 * A cluster of one node that runs pods, with what Throughline needs: Kafka, a session store, the CRD and an operator.
 * All are on the node's address, so that pods reach them: there are no names, and no addresses of Services but the API
 * server's (which itself reaches webhooks by their Service).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { AppsV1Api, CoreV1Api, CustomObjectsApi } from "@kubernetes/client-node";
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
/** Of the Topics and the pods. */
export const NAMESPACE = "shop";
const DEPLOYMENT = "pods";
const TOPICS = { group: "throughline.dev", version: "v1alpha1", plural: "topics" };
const REMOVE_MS = 20_000;
const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };

interface Parts {
  readonly plane: ControlPlane;
  readonly kafka: EmbeddedKafka;
  readonly store: EmbeddedStore;
  readonly operator: ChildProcess;
  readonly records: Records;
  readonly stopNode: () => Promise<void>;
  readonly logs: string;
}

export class Bed {
  readonly plane: ControlPlane;
  readonly core: CoreV1Api;
  readonly kafka: EmbeddedKafka;
  readonly log: Log;
  readonly records: Records;
  /** For servers in pods. */
  readonly storeUrl: string;
  readonly #parts: Parts;

  private constructor(parts: Parts) {
    this.plane = parts.plane;
    this.core = parts.plane.kube.makeApiClient(CoreV1Api);
    this.kafka = parts.kafka;
    this.log = openKafkaLog({ brokers: parts.kafka.brokers, clientId: "test" });
    this.records = parts.records;
    this.storeUrl = `redis://${NODE_ADDRESS}:${parts.store.port}`;
    this.#parts = parts;
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

  async close(): Promise<void> {
    const { logs, operator, store, stopNode } = this.#parts;
    const { items } = await this.core.listPodForAllNamespaces({});
    writeFileSync(join(logs, "pods.json"), JSON.stringify(items, undefined, 2));
    // The next bed of this run has the same node.
    const apps = this.plane.kube.makeApiClient(AppsV1Api);
    await apps.deleteCollectionNamespacedDeployment({ namespace: NAMESPACE });
    await this.core.deleteCollectionNamespacedPod({ namespace: NAMESPACE, gracePeriodSeconds: 1 });
    const deadlineMs = performance.now() + REMOVE_MS;
    await until(async () => {
      const { items: left } = await this.core.listNamespacedPod({ namespace: NAMESPACE });
      return left.length === 0 || performance.now() > deadlineMs;
    });
    this.records.close();
    await stopNode();
    await ended(operator, "SIGTERM");
    await this.log.close();
    await Promise.all([this.kafka.stop(), store.stop()]);
    await this.plane.stop();
  }
}
