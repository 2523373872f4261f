/**
 * Pods with the app (worker.yaml), alone, of a Job or of a Deployment, and what befalls them. They ask for a server of
 * their own, and the namespace enforces the restricted security of pods.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  AppsV1Api,
  BatchV1Api,
  PatchStrategy,
  PolicyV1Api,
  setHeaderOptions,
  type V1Pod,
  type V1PodSpec,
} from "@kubernetes/client-node";
import { parse } from "yaml";
import { until } from "../story/waits.ts";
import { type Bed, NAMESPACE } from "./bed.ts";

const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);

interface Worker {
  /** Of the pod, or of the Deployment. */
  readonly name: string;
  readonly topic: string;
  readonly session: string;
  /** Of the session; exclusive by default. */
  readonly mode?: "exclusive" | "shared";
  /** It ends after so many events; by default it does not. */
  readonly take?: number;
}

export class Workers {
  readonly #bed: Bed;
  readonly #apps: AppsV1Api;

  constructor(bed: Bed) {
    this.#bed = bed;
    this.#apps = bed.plane.kube.makeApiClient(AppsV1Api);
  }

  async start(worker: Worker): Promise<void> {
    await this.#bed.core.createNamespacedPod({ namespace: NAMESPACE, body: this.#podOf(worker) });
  }

  /** A Job of one such pod. Resolves with its pod when it is complete. */
  async work(worker: Worker): Promise<V1Pod> {
    const { name } = worker;
    const at = { namespace: NAMESPACE };
    const batch = this.#bed.plane.kube.makeApiClient(BatchV1Api);
    const { spec: pod, metadata } = this.#podOf(worker);
    const { annotations = {} } = metadata ?? {};
    const spec = { template: { metadata: { annotations }, spec: pod as V1PodSpec } };
    await batch.createNamespacedJob({ ...at, body: { metadata: { name }, spec } });
    await until(async () => {
      const { status } = await batch.readNamespacedJob({ ...at, name });
      return status?.conditions?.some(({ type }) => type === "Complete") ?? false;
    });
    const labelSelector = `batch.kubernetes.io/job-name=${name}`;
    const { items } = await this.#bed.core.listNamespacedPod({ ...at, labelSelector });
    return items[0] as V1Pod;
  }

  /** A Deployment of two such pods, of which a budget allows one to be away. Resolves when both are Ready. */
  async deploy(worker: Worker): Promise<void> {
    const { name } = worker;
    const at = { namespace: NAMESPACE };
    const labels = { app: name };
    const selector = { matchLabels: labels };
    const { spec: pod, metadata } = this.#podOf(worker);
    const { annotations = {} } = metadata ?? {};
    const template = { metadata: { labels, annotations }, spec: pod as V1PodSpec };
    const strategy = { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } };
    const spec = { replicas: 2, selector, template, strategy };
    await this.#apps.createNamespacedDeployment({ ...at, body: { metadata: { name }, spec } });
    const policy = this.#bed.plane.kube.makeApiClient(PolicyV1Api);
    const budget = { metadata: { name }, spec: { maxUnavailable: 1, selector } };
    await policy.createNamespacedPodDisruptionBudget({ ...at, body: budget });
    await this.settled(name);
  }

  /** As `kubectl rollout restart`; resolves when it is done. */
  async roll(name: string): Promise<void> {
    const annotations = { "kubectl.kubernetes.io/restartedAt": new Date().toISOString() };
    const body = { spec: { template: { metadata: { annotations } } } };
    await this.#apps.patchNamespacedDeployment({ namespace: NAMESPACE, name, body }, MERGE);
    await this.settled(name);
  }

  /** Resolves when the Deployment's newest pods are Ready and the others gone. */
  async settled(name: string): Promise<void> {
    await until(async () => {
      const found = await this.#apps.readNamespacedDeployment({ namespace: NAMESPACE, name });
      const { observedGeneration, updatedReplicas } = found.status ?? {};
      const isSeen = observedGeneration === found.metadata?.generation;
      // Its status says nothing yet of a pod that has just been told to go.
      const pods = await this.#listed(name);
      return isSeen && updatedReplicas === 2 && pods.length === 2 && pods.every(isThere);
    });
  }

  /** Names of the Deployment's pods, also of those that end. */
  async podsOf(name: string): Promise<string[]> {
    return (await this.#listed(name)).map(({ metadata }) => metadata?.name ?? "");
  }

  async #listed(name: string): Promise<V1Pod[]> {
    const at = { namespace: NAMESPACE, labelSelector: `app=${name}` };
    return (await this.#bed.core.listNamespacedPod(at)).items;
  }

  /** False when a budget forbids it. */
  async evict(name: string): Promise<boolean> {
    const eviction = { namespace: NAMESPACE, name, body: { metadata: { name } } };
    return this.#bed.core.createNamespacedPodEviction(eviction).then(
      () => true,
      (error) => {
        if (error.code === 429) return false;
        throw error;
      },
    );
  }

  /** Undefined when it is gone. */
  async pod(name: string): Promise<V1Pod | undefined> {
    return this.#bed.core.readNamespacedPod({ namespace: NAMESPACE, name }).catch((error) => {
      if (error.code === 404) return undefined;
      throw error;
    });
  }

  /**
   * As `kubectl delete pod`; resolves when it is gone. A grace of 0 is `--force` for one whose node has died: its
   * processes end at once, to which a kubelet that lives would give the pod's own grace all the same.
   */
  async delete(name: string, gracePeriodSeconds?: number): Promise<void> {
    const grace = gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds };
    const uid = (await this.pod(name))?.metadata?.uid;
    await this.#bed.core.deleteNamespacedPod({ namespace: NAMESPACE, name, ...grace });
    if (gracePeriodSeconds === 0) killAll(processesIn(`/pod${uid}/`));
    await until(async () => (await this.pod(name)) === undefined);
  }

  /** SIGKILL of one container, as the kernel does it where memory is short. */
  async kill(pod: string, container: string, namespace = NAMESPACE): Promise<void> {
    // The API server learns of a container a little after it runs.
    await until(async () => {
      const found = await this.#bed.core.readNamespacedPod({ namespace, name: pod });
      const { containerStatuses = [], initContainerStatuses = [] } = found.status ?? {};
      const all = [...containerStatuses, ...initContainerStatuses];
      const { containerID = "" } = all.find(({ name }) => name === container) ?? {};
      const pids = containerID === "" ? [] : processesIn(containerID.replace("containerd://", ""));
      killAll(pids);
      return pids.length > 0;
    });
  }

  #podOf({ name, topic, session, mode = "exclusive", take }: Worker): V1Pod {
    const names: Readonly<Record<string, string>> = {
      ...{ POD_NAME: name, TOPIC_NAME: topic, SESSION_NAME: session, MODE_NAME: mode },
      OFFICE_URL: this.#bed.records.url,
      RESTART: take === undefined ? "Always" : "Never",
      TAKE_COUNT: String(take ?? "Infinity"),
    };
    const written = readFileSync(join(import.meta.dirname, "worker.yaml"), "utf8");
    return parse(written, (_key, value) => {
      if (typeof value !== "string") return value;
      return value.replace(/\b[A-Z_]+$/, (word) => names[word] ?? word);
    });
  }
}

/** Ready, and not on its way out. */
function isThere({ metadata, status }: V1Pod): boolean {
  const isReady = status?.conditions?.some(
    ({ type, status: is }) => type === "Ready" && is === "True",
  );
  return isReady === true && metadata?.deletionTimestamp === undefined;
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It was faster.
    }
  }
}

/** @param cgroup a part of its path, with the id of a container or of a pod. */
function processesIn(cgroup: string): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => cgroupsOf(pid).includes(cgroup)).map(Number);
}

/** Nothing when the process is gone. */
function cgroupsOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, "utf8");
  } catch {
    return "";
  }
}
