/**
 * What Kubernetes itself does with an Outbox's Deployment: its controllers, its collector of garbage and its pod
 * security are real; pods are only said to run (`fake-nodes.ts`).
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AppsV1Api, CoreV1Api, type V1Pod } from "@kubernetes/client-node";
import type { KubeOutbox } from "../../operator/outbox/kube-outbox.ts";
import { until } from "../story/waits.ts";
import { ask } from "./api-request.ts";
import { FakeNodes } from "./fake-nodes.ts";
import { SLOW_MS, TopicBed } from "./topic-bed.ts";

const RESTRICTED = { "pod-security.kubernetes.io/enforce": "restricted" };
const NAME = "orders-sequencer";

let bed: TopicBed;
let nodes: FakeNodes;
let core: CoreV1Api;
let apps: AppsV1Api;

beforeAll(async () => {
  bed = await TopicBed.start({ controllers: true });
  core = bed.plane.kube.makeApiClient(CoreV1Api);
  apps = bed.plane.kube.makeApiClient(AppsV1Api);
  nodes = await FakeNodes.join(bed.plane.kube, "node-1", "node-2");
  await until(async () => (await ask(bed.plane.kube, "GET", outboxes("default"))).status === 200);
  for (const name of ["shop", "full"])
    await core.createNamespace({ body: { metadata: { name, labels: RESTRICTED } } });
  bed.operator("rollout", "--namespaces", "shop,full", "--sequencer-image", "throughline:1");
}, SLOW_MS);

afterAll(async () => {
  nodes?.leave();
  await bed?.stop();
}, SLOW_MS);

function outboxes(namespace: string): string {
  return `/apis/throughline.dev/v1alpha1/namespaces/${namespace}/outboxes`;
}

async function apply(namespace: string): Promise<void> {
  const kind = { apiVersion: "throughline.dev/v1alpha1", kind: "Outbox" };
  const spec = { database: { secret: { name: "db" } } };
  const body = { ...kind, metadata: { name: "orders" }, spec };
  expect((await ask(bed.plane.kube, "POST", outboxes(namespace), body)).status).toBe(201);
}

async function podsIn(namespace: string): Promise<V1Pod[]> {
  return (await core.listNamespacedPod({ namespace })).items;
}

function argsOf({ spec }: V1Pod): readonly string[] {
  return spec?.containers[0]?.args ?? [];
}

test(
  "its pods are made where pod security is restricted, on different nodes",
  async () => {
    await apply("shop");
    await until(async () => {
      const all = await apps.listNamespacedDeployment({ namespace: "shop" });
      return all.items[0]?.status?.availableReplicas === 2;
    });
    const pods = await podsIn("shop");
    expect(new Set(pods.map(({ spec }) => spec?.nodeName)).size).toBe(2);
    for (const { spec } of pods) {
      expect(spec).toMatchObject({ serviceAccountName: NAME, automountServiceAccountToken: false });
      expect(JSON.stringify(spec?.volumes)).not.toContain("serviceAccountToken");
    }
  },
  SLOW_MS,
);

test(
  "pods that nobody lets in are the Outbox's reason, in the API server's words",
  async () => {
    const spec = { hard: { pods: "0" } };
    await core.createNamespacedResourceQuota({
      ...{ namespace: "full", body: { metadata: { name: "none" }, spec } },
    });
    await until(async () => {
      const quota = await core.readNamespacedResourceQuota({ namespace: "full", name: "none" });
      return quota.status?.hard?.["pods"] === "0";
    });
    await apply("full");
    await until(async () => {
      const { body } = await ask(bed.plane.kube, "GET", `${outboxes("full")}/orders`);
      const { status } = body as unknown as KubeOutbox;
      return (status?.conditions ?? []).some(
        ({ reason, message }) => reason === "PodsRefused" && /exceeded quota/.test(message),
      );
    });
  },
  SLOW_MS,
);

test(
  "deleted, the pods that relay end before the one that retires begins, and all goes with the Outbox",
  async () => {
    const path = `${outboxes("shop")}/orders`;
    let together = 0;
    await ask(bed.plane.kube, "DELETE", path);
    await until(async () => {
      const alive = (await podsIn("shop")).filter(({ metadata }) => !metadata?.deletionTimestamp);
      const retiring = alive.filter((pod) => argsOf(pod).includes("--do=retire"));
      if (retiring.length > 0 && retiring.length < alive.length) together++;
      return (await ask(bed.plane.kube, "GET", path)).status === 404;
    });
    expect(together).toBe(0);
    await until(async () => {
      const left = await Promise.all([
        apps.listNamespacedDeployment({ namespace: "shop" }),
        core.listNamespacedServiceAccount({ namespace: "shop" }),
        core.listNamespacedPod({ namespace: "shop" }),
      ]);
      const names = left.flatMap(({ items }) => items.map(({ metadata }) => metadata?.name));
      return names.every((name) => name === "default");
    });
  },
  SLOW_MS,
);
