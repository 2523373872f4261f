/**
 * A cluster of one node that runs pods, Kafka and a session store beside it, and Throughline in it as its chart
 * installs it, with a gateway. Kafka, the store and the tests are on the node's address, so that pods reach them:
 * there are no names, and no addresses of Services but the API server's (which itself reaches webhooks by their
 * Service) and the gateway's (service-address.ts).
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import {
  AppsV1Api,
  CoordinationV1Api,
  CoreV1Api,
  CustomObjectsApi,
  type V1Pod,
} from "@kubernetes/client-node";
import type { TopicInfo } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import type { KubeTopic } from "../../operator/kube/topic-api.ts";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { CHART, type Helm, helmIn } from "../cluster/helm.ts";
import { untilKnown } from "../story/story-server.ts";
import { until } from "../story/waits.ts";
import { makeImages, TAGS } from "./images.ts";
import { NODE_ADDRESS } from "./machine.ts";
import { startNode } from "./node.ts";
import { Records } from "./records.ts";
import { openServiceAddress, type ServiceAddress } from "./service-address.ts";

/** Of the Topics, the apps and the gateway's clients. */
export const NAMESPACE = "shop";
/** Name and namespace of what helm installs. */
export const RELEASE = "throughline";
const TOPICS = { group: "throughline.dev", version: "v1alpha1", plural: "topics" };
const REMOVE_MS = 20_000;
const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };
const INJECTION = { "throughline.dev/injection": "enabled" };

interface Parts {
  readonly plane: ControlPlane;
  readonly kafka: EmbeddedKafka;
  readonly store: EmbeddedStore;
  readonly helm: Helm;
  readonly stopNode: () => Promise<void>;
  readonly logs: string;
}

export class Bed {
  readonly plane: ControlPlane;
  readonly core: CoreV1Api;
  readonly kafka: EmbeddedKafka;
  readonly records: Records;
  readonly #parts: Parts;
  readonly #gateway: ServiceAddress;

  private constructor(parts: Parts, records: Records, gateway: ServiceAddress) {
    this.plane = parts.plane;
    this.core = parts.plane.kube.makeApiClient(CoreV1Api);
    this.kafka = parts.kafka;
    this.records = records;
    this.#parts = parts;
    this.#gateway = gateway;
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
    const core = plane.kube.makeApiClient(CoreV1Api);
    for (const [name, labels] of Object.entries({
      [NAMESPACE]: { ...RESTRICTED, ...INJECTION },
      [RELEASE]: RESTRICTED,
    }))
      await core.createNamespace({ body: { metadata: { name, labels } } });
    const home = join(tmpdir(), "helm");
    mkdirSync(home);
    const helm = await helmIn(home, plane.kubeconfig);
    const parts = { plane, kafka, store, helm, stopNode, logs };
    onProgress("Installing the chart");
    await release("install", TAGS[0], parts);
    const gateway = await openServiceAddress(plane.kube, RELEASE, `${RELEASE}-gateway`);
    onProgress("The cluster is ready");
    return new Bed(parts, await Records.open(NODE_ADDRESS), gateway);
  }

  /** Where clients outside of the pods connect: the gateway's Service. */
  get gateway(): string {
    return this.#gateway.address;
  }

  /** As `helm upgrade --wait`, to the next image; resolves when the older pods are gone, which answer until then. */
  async upgrade(): Promise<void> {
    await release("upgrade", TAGS[1], this.#parts);
    await until(async () => {
      const { items } = await this.core.listNamespacedPod({ namespace: RELEASE });
      return items.every(({ spec }) => spec?.containers[0]?.image === `throughline:${TAGS[1]}`);
    });
  }

  /** Pods of the release. @param component operator, webhook or gateway. */
  async podsOfRelease(component: string): Promise<V1Pod[]> {
    const labelSelector = `app.kubernetes.io/component=${component}`;
    return (await this.core.listNamespacedPod({ namespace: RELEASE, labelSelector })).items;
  }

  /** Who leads the operators: the pod's name, and what tells it from one of the same name. */
  async leader(): Promise<{ readonly pod: string; readonly identity: string }> {
    const leases = this.plane.kube.makeApiClient(CoordinationV1Api);
    const { items } = await leases.listNamespacedLease({ namespace: RELEASE });
    const identity = items[0]?.spec?.holderIdentity ?? "";
    return { pod: identity.split("_")[0] ?? "", identity };
  }

  /** Applies the Topic; resolves when it is Ready, and every server of the gateway knows it. */
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
    for (const server of await this.#gateway.ready()) await untilKnown(server, name);
    const { kafkaTopic = "", topicId = "", partitions = 0 } = found?.status ?? {};
    return { name: kafkaTopic, id: topicId, partitions, replicas: 1 };
  }

  async close(): Promise<void> {
    const { logs, store, stopNode } = this.#parts;
    // What was slow or went wrong is read from these.
    const { items } = await this.core.listPodForAllNamespaces({});
    const { items: events } = await this.core.listEventForAllNamespaces({});
    const { entries } = this.records;
    for (const [name, found] of Object.entries({ pods: items, events, records: entries }))
      writeFileSync(join(logs, `${name}.json`), JSON.stringify(found, undefined, 2));
    // Containers would outlive the kubelet.
    const apps = this.plane.kube.makeApiClient(AppsV1Api);
    for (const namespace of [NAMESPACE, RELEASE]) {
      await apps.deleteCollectionNamespacedDeployment({ namespace });
      await this.core.deleteCollectionNamespacedPod({ namespace, gracePeriodSeconds: 1 });
    }
    const deadlineMs = performance.now() + REMOVE_MS;
    await until(async () => {
      const { items: left } = await this.core.listPodForAllNamespaces({});
      return left.length === 0 || performance.now() > deadlineMs;
    });
    this.#gateway.close();
    this.records.close();
    await stopNode();
    await Promise.all([this.kafka.stop(), store.stop()]);
    await this.plane.stop();
  }
}

/** Resolves when what it changes is Ready. @throws with what helm says. */
async function release(
  step: "install" | "upgrade",
  tag: string,
  { helm, kafka, store }: Parts,
): Promise<void> {
  const values = {
    ...{ "image.repository": "throughline", "image.tag": tag },
    "kafka.brokers": `{${kafka.brokers.join()}}`,
    "sessionStore.url": `redis://${NODE_ADDRESS}:${store.port}`,
    ...{ "gateway.enabled": "true", "gateway.namespace": NAMESPACE },
  };
  await helm.done(
    ...[step, RELEASE, CHART, "--namespace", RELEASE, "--wait", "--timeout", "2m"],
    ...Object.entries(values).flatMap(([name, value]) => ["--set", `${name}=${value}`]),
  );
}
