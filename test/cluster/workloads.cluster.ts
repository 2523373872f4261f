/**
 * Deployments, disruption budgets and drains on fake nodes, as an operator's and a gateway's pods meet them: the
 * controllers, the scheduler and the API server are real.
 */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import {
  AppsV1Api,
  BatchV1Api,
  CoreV1Api,
  PatchStrategy,
  PolicyV1Api,
  setHeaderOptions,
  type V1Deployment,
  Watch,
} from "@kubernetes/client-node";
import { until } from "../story/waits.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { FakeNodes } from "./fake-nodes.ts";

const SLOW_MS = 180_000;
const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
const IN = { namespace: "default" };
const NODES = ["node-1", "node-2"];

let plane: ControlPlane;
let nodes: FakeNodes;
let core: CoreV1Api;
let apps: AppsV1Api;
let policy: PolicyV1Api;

beforeAll(async () => {
  plane = await startControlPlane(console.log, { controllers: true });
  core = plane.kube.makeApiClient(CoreV1Api);
  apps = plane.kube.makeApiClient(AppsV1Api);
  policy = plane.kube.makeApiClient(PolicyV1Api);
  nodes = await FakeNodes.join(plane.kube, ...NODES);
}, SLOW_MS);

afterEach(async () => {
  for (const name of NODES) await core.patchNode({ name, body: UNCORDONED }, MERGE);
  const body = { propagationPolicy: "Foreground" };
  await apps.deleteCollectionNamespacedDeployment({ ...IN, body });
  await policy.deleteCollectionNamespacedPodDisruptionBudget(IN);
  await until(async () => (await core.listNamespacedPod(IN)).items.length === 0);
});

afterAll(async () => {
  nodes?.leave();
  await plane?.stop();
}, SLOW_MS);

const CORDONED = { spec: { unschedulable: true } };
const UNCORDONED = { spec: { unschedulable: null } };

/** Of three pods, and a budget that none of them is away. Resolves when all are Ready. */
async function deploy(name: string): Promise<void> {
  const labels = { app: name };
  const selector = { matchLabels: labels };
  const budget = { metadata: { name }, spec: { minAvailable: 3, selector } };
  await policy.createNamespacedPodDisruptionBudget({ ...IN, body: budget });
  const template = { metadata: { labels }, spec: { containers: [{ name, image: "app:1" }] } };
  const rollingUpdate = { maxUnavailable: 0, maxSurge: 1 };
  const spec = { replicas: 3, selector, template, strategy: { rollingUpdate } };
  await apps.createNamespacedDeployment({ ...IN, body: { metadata: { name }, spec } });
  await until(async () => (await deployment(name)).status?.availableReplicas === 3);
  // It counts on its own, a little later.
  await until(async () => {
    const { status } = await policy.readNamespacedPodDisruptionBudget({ ...IN, name });
    return status?.currentHealthy === 3;
  });
}

function deployment(name: string): Promise<V1Deployment> {
  return apps.readNamespacedDeployment({ ...IN, name });
}

async function podsOf(app: string) {
  return (await core.listNamespacedPod({ ...IN, labelSelector: `app=${app}` })).items;
}

/** HTTP status of the answer: 201 when it is to go, 429 when a budget forbids it. */
async function evict(name: string): Promise<number> {
  const eviction = { ...IN, name, body: { metadata: { name } } };
  return core.createNamespacedPodEviction(eviction).then(
    () => 201,
    ({ code }) => code,
  );
}

async function scale(name: string, replicas: number): Promise<void> {
  await apps.patchNamespacedDeployment({ ...IN, name, body: { spec: { replicas } } }, MERGE);
}

test(
  "a Deployment rolls from image to image and never has fewer pods than it asks for",
  async () => {
    await deploy("rolling");
    let fewest = 3;
    const query = { fieldSelector: "metadata.name=rolling" };
    const path = "/apis/apps/v1/namespaces/default/deployments";
    const seen = (_type: string, { status }: V1Deployment): void => {
      fewest = Math.min(fewest, status?.availableReplicas ?? 0);
    };
    const watching = await new Watch(plane.kube).watch(path, query, seen, () => {});
    const containers = [{ name: "rolling", image: "app:2" }];
    const body = { spec: { template: { spec: { containers } } } };
    await apps.patchNamespacedDeployment({ ...IN, name: "rolling", body }, MERGE);
    await until(async () => {
      const { metadata, status } = await deployment("rolling");
      const { observedGeneration, replicas, updatedReplicas, availableReplicas } = status ?? {};
      const isSeen = observedGeneration === metadata?.generation;
      return isSeen && replicas === 3 && updatedReplicas === 3 && availableReplicas === 3;
    });
    watching.abort();
    const images = (await podsOf("rolling")).map(({ spec }) => spec?.containers[0]?.image);
    expect([images, fewest]).toEqual([Array(3).fill("app:2"), 3]);
  },
  SLOW_MS,
);

test(
  "a budget refuses an eviction while no pod can be spared, and allows it when one can",
  async () => {
    await deploy("budgeted");
    const [first] = await podsOf("budgeted");
    const name = first?.metadata?.name ?? "";
    expect(await evict(name)).toBe(429);
    await scale("budgeted", 4);
    await until(async () => (await evict(name)) === 201);
    await until(async () => {
      const pods = await podsOf("budgeted");
      return pods.length === 4 && pods.every(({ metadata }) => metadata?.name !== name);
    });
  },
  SLOW_MS,
);

test(
  "a drained node's pods go on elsewhere, one by one as the budget allows",
  async () => {
    await deploy("drained");
    await scale("drained", 4);
    await until(async () => (await deployment("drained")).status?.availableReplicas === 4);
    const homes = (await podsOf("drained")).map(({ spec }) => spec?.nodeName);
    const drained = NODES.find((one) => homes.filter((home) => home === one).length > 1) ?? "";
    const other = NODES.find((one) => one !== drained) ?? "";
    const there = async () => {
      const pods = (await podsOf("drained")).filter(({ spec }) => spec?.nodeName === drained);
      return pods.map(({ metadata }) => metadata?.name ?? "");
    };
    for (const name of NODES) await core.patchNode({ name, body: CORDONED }, MERGE);
    const [first = "", second = ""] = await there();
    await until(async () => (await evict(first)) === 201);
    // Who is to follow it finds no node.
    expect(await evict(second)).toBe(429);
    await core.patchNode({ name: other, body: UNCORDONED }, MERGE);
    await until(async () => {
      const left = await there();
      for (const name of left) await evict(name);
      return left.length === 0 && (await deployment("drained")).status?.availableReplicas === 4;
    });
  },
  SLOW_MS,
);

test(
  "a Job is complete when its pods have done their work",
  async () => {
    const batch = plane.kube.makeApiClient(BatchV1Api);
    const spec = { restartPolicy: "Never", containers: [{ name: "work", image: "app:1" }] };
    const body = { metadata: { name: "work" }, spec: { completions: 2, template: { spec } } };
    await batch.createNamespacedJob({ ...IN, body });
    await until(async () => {
      const { status } = await batch.readNamespacedJob({ ...IN, name: "work" });
      return status?.succeeded === 2 && status.conditions?.at(-1)?.type === "Complete";
    });
    await batch.deleteNamespacedJob({
      ...IN,
      name: "work",
      body: { propagationPolicy: "Foreground" },
    });
  },
  SLOW_MS,
);
