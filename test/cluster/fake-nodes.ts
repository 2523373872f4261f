/**
 * Nodes without a kubelet, for what the controllers of Kubernetes do with nodes and pods: rollouts, evictions,
 * drains. They do a kubelet's part towards the API server: node status and Lease; a pod is Running and Ready as
 * soon as it is bound, one that is not to be restarted always has then done its work; one that is deleted is
 * gone. Nothing runs: hooks, probes, grace and the order in which containers end are real only in test/pods/.
 */
import {
  CoordinationV1Api,
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1Container,
  type V1Pod,
  Watch,
} from "@kubernetes/client-node";

const STRATEGIC = setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch);
const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
/** The kubelet's own pace; a node is lost after 50 s without. */
const LEASE_MS = 10_000;
const LEASES = "kube-node-lease";
const ROOM = { cpu: "8", memory: "16Gi", pods: "110" };
/** Its pod is gone or another by now: there is nothing to do. */
const PASSED = new Set([404, 409]);

export class FakeNodes {
  readonly #core: CoreV1Api;
  readonly #leases: CoordinationV1Api;
  readonly #watch: Watch;
  readonly #names: readonly string[];
  /** Pods that are being attended to, by uid. */
  readonly #busy = new Set<string>();
  #watching: AbortController | undefined;
  #renewing: NodeJS.Timeout | undefined;
  #stopped = false;
  #pods = 0;

  private constructor(kube: KubeConfig, names: readonly string[]) {
    this.#core = kube.makeApiClient(CoreV1Api);
    this.#leases = kube.makeApiClient(CoordinationV1Api);
    this.#watch = new Watch(kube);
    this.#names = names;
  }

  /** Resolves when all are Ready; the controllers of the cluster then let pods onto them. */
  static async join(kube: KubeConfig, ...names: readonly string[]): Promise<FakeNodes> {
    const nodes = new FakeNodes(kube, names);
    for (const name of names) await nodes.#register(name);
    nodes.#renewing = setInterval(() => void nodes.#renew(), LEASE_MS);
    void nodes.#follow();
    return nodes;
  }

  leave(): void {
    this.#stopped = true;
    clearInterval(this.#renewing);
    this.#watching?.abort();
  }

  async #register(name: string): Promise<void> {
    const labels = { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" };
    await this.#core.createNode({ body: { metadata: { name, labels } } });
    const at = now();
    const ready = { type: "Ready", status: "True", reason: "KubeletReady", message: "" };
    const condition = { ...ready, lastHeartbeatTime: at, lastTransitionTime: at };
    const status = { capacity: ROOM, allocatable: ROOM, conditions: [condition] };
    await this.#core.patchNodeStatus({ name, body: { status } }, STRATEGIC);
    const spec = { holderIdentity: name, leaseDurationSeconds: 40 };
    await this.#leases.createNamespacedLease({
      namespace: LEASES,
      body: { metadata: { name }, spec },
    });
    await this.#renewOne(name);
  }

  async #renew(): Promise<void> {
    for (const name of this.#names) await this.#renewOne(name).catch(tell);
  }

  async #renewOne(name: string): Promise<void> {
    const body = { spec: { renewTime: now().replace("Z", ".000000Z") } };
    await this.#leases.patchNamespacedLease({ name, namespace: LEASES, body }, MERGE);
  }

  /** Lists and watches, anew after each end of a watch. */
  async #follow(): Promise<void> {
    while (!this.#stopped) {
      try {
        const { items, metadata } = await this.#core.listPodForAllNamespaces({});
        for (const pod of items) this.#attend(pod);
        const query = { resourceVersion: metadata?.resourceVersion ?? "" };
        await new Promise<void>((resolve, reject) => {
          const seen = (type: string, pod: V1Pod): void => {
            if (type === "ERROR") this.#watching?.abort();
            else if (type !== "DELETED") this.#attend(pod);
          };
          this.#watch
            .watch("/api/v1/pods", query, seen, () => resolve())
            .then((watching) => {
              this.#watching = watching;
              if (this.#stopped) watching.abort();
            }, reject);
        });
      } catch (error) {
        if (!this.#stopped) tell(error);
      }
    }
  }

  #attend(pod: V1Pod): void {
    const { uid = "", deletionTimestamp } = pod.metadata ?? {};
    const isOurs = this.#names.includes(pod.spec?.nodeName ?? "");
    if (!isOurs || this.#busy.has(uid)) return;
    if (!deletionTimestamp && pod.status?.phase !== "Pending") return;
    this.#busy.add(uid);
    const attended = deletionTimestamp ? this.#remove(pod) : this.#run(pod);
    void attended
      .catch((error) => {
        if (!this.#stopped && !PASSED.has(error.code)) tell(error);
      })
      .then(async () => {
        this.#busy.delete(uid);
        if (deletionTimestamp || this.#stopped) return;
        // What came meanwhile was passed over.
        const { name = "", namespace = "" } = pod.metadata ?? {};
        const newest = await this.#core.readNamespacedPod({ name, namespace }).catch(() => {});
        if (newest) this.#attend(newest);
      });
  }

  async #remove({ metadata: { name = "", namespace = "", uid = "" } = {} }: V1Pod): Promise<void> {
    const body = { gracePeriodSeconds: 0, preconditions: { uid } };
    await this.#core.deleteNamespacedPod({ name, namespace, body });
  }

  async #run({ metadata: { name = "", namespace = "" } = {}, spec }: V1Pod): Promise<void> {
    const at = now();
    const podIP = `10.99.${this.#pods >> 8}.${this.#pods++ & 255}`;
    const runs = (c: V1Container) => containerStatus(c, true, { running: { startedAt: at } });
    const over = { exitCode: 0, reason: "Completed", startedAt: at, finishedAt: at };
    const ended = (c: V1Container) => containerStatus(c, false, { terminated: over });
    const isJob = spec?.restartPolicy !== "Always";
    const status = {
      ...{ phase: isJob ? "Succeeded" : "Running", startTime: at, podIP, podIPs: [{ ip: podIP }] },
      conditions: ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map((type) => ({
        ...{ type, status: isJob && /Ready/.test(type) ? "False" : "True" },
        lastTransitionTime: at,
      })),
      initContainerStatuses: spec?.initContainers?.map((c) =>
        c.restartPolicy === "Always" && !isJob ? runs(c) : ended(c),
      ),
      containerStatuses: spec?.containers.map(isJob ? ended : runs),
    };
    await this.#core.patchNamespacedPodStatus({ name, namespace, body: { status } }, STRATEGIC);
  }
}

function containerStatus({ name, image }: V1Container, ready: boolean, state: object): object {
  return { name, image, imageID: image, ready, started: ready, restartCount: 0, state };
}

/** To the second, as Kubernetes has it. */
function now(): string {
  return new Date().toISOString().replace(/\.\d+Z/, "Z");
}

function tell(error: unknown): void {
  console.error("A fake node:", error);
}
