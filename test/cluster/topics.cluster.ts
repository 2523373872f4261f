/** Topics of a real API server, by the operator as a process, into a real Kafka. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import {
  CoreV1Api,
  CustomObjectsApi,
  PatchStrategy,
  setHeaderOptions,
  Watch,
} from "@kubernetes/client-node";
import { parse } from "yaml";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import type { KubeTopic } from "../../operator/kube/topic-api.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";

const SLOW_MS = 180_000;
const GROUP = { group: "throughline.dev", version: "v1alpha1", plural: "topics" };
const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);

let folder: string;
let plane: ControlPlane;
let kafka: EmbeddedKafka;
let log: Log;
let objects: CustomObjectsApi;
const operators = new Set<ChildProcess>();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-cluster-test-"));
  [plane, kafka] = await Promise.all([
    startControlPlane(console.log),
    startKafka({ directory: join(folder, "kafka") }),
  ]);
  writeFileSync(join(folder, "kubeconfig"), plane.kubeconfig, { mode: 0o600 });
  log = openKafkaLog({ brokers: kafka.brokers, clientId: "test" });
  objects = plane.kube.makeApiClient(CustomObjectsApi);
  const crd = parse(
    readFileSync(join(import.meta.dirname, "../../crds/topics.throughline.dev.yaml"), "utf8"),
  );
  await plane.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd);
  const core = plane.kube.makeApiClient(CoreV1Api);
  for (const name of ["shop", "throughline"])
    await core.createNamespace({ body: { metadata: { name } } });
  await until("none", (found) => found === undefined);
}, SLOW_MS);

afterEach(async () => {
  for (const child of operators) await killed(child);
});

afterAll(async () => {
  await log?.close();
  await Promise.all([kafka?.stop(), plane?.stop()]);
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

function startOperator(deploymentId: string): ChildProcess {
  const child = spawn(
    process.execPath,
    [
      ...["operator/main.ts", "--kafka", kafka.brokers.join(","), "--deployment-id", deploymentId],
      ...["--kubeconfig", join(folder, "kubeconfig"), "--namespaces", "shop"],
    ],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  operators.add(child);
  child.once("exit", () => operators.delete(child));
  return child;
}

function killed(child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill(signal);
  });
}

async function topic(name: string): Promise<KubeTopic> {
  return await objects.getNamespacedCustomObject({ ...GROUP, namespace: "shop", name });
}

function apply(name: string, spec: object): Promise<unknown> {
  const body = {
    ...{ apiVersion: "throughline.dev/v1alpha1", kind: "Topic" },
    ...{ metadata: { name, namespace: "shop" }, spec },
  };
  return objects.createNamespacedCustomObject({ ...GROUP, namespace: "shop", body });
}

function ready(topic: KubeTopic | undefined): boolean {
  const { status, metadata } = topic ?? {};
  const condition = status?.conditions?.find(({ type }) => type === "Ready");
  return condition?.status === "True" && condition.observedGeneration === metadata?.generation;
}

/** Resolves when the Topic is so; when it is gone it is undefined. Follows it through restarts of the API server. */
async function until(
  name: string,
  holds: (topic: KubeTopic | undefined) => boolean,
): Promise<void> {
  const path = "/apis/throughline.dev/v1alpha1/namespaces/shop/topics";
  for (let isSo = false; !isSo; ) {
    const found = await topic(name).catch((error: { code?: number }) => error.code ?? 0);
    if (typeof found === "number" ? found === 404 && holds(undefined) : holds(found)) return;
    isSo = await new Promise<boolean>((resolve) => {
      const watch = new Watch(plane.kube);
      const query = { fieldSelector: `metadata.name=${name}` };
      const seen = (type: string, one: KubeTopic): void => {
        if (holds(type === "DELETED" ? undefined : one)) resolve(true);
      };
      void watch.watch(path, query, seen, () => resolve(false));
    });
  }
}

async function partitionsOf(kafkaTopic: string): Promise<number | undefined> {
  const found = await log.admin.describeTopics([kafkaTopic]);
  if (found.kind !== "done") throw new Error(found.reason);
  return found.value.get(kafkaTopic)?.partitions;
}

test(
  "kubectl apply of a Topic makes it in Kafka and Ready; growth, and deletion by policy, follow",
  async () => {
    startOperator("one");
    await apply("orders", { partitions: 2, deletionPolicy: "Delete" });
    await until("orders", ready);
    expect(await partitionsOf("shop.orders")).toBe(2);
    const { status } = await topic("orders");
    expect(status).toMatchObject({ kafkaTopic: "shop.orders", partitions: 2, replicas: 1 });
    await objects.patchNamespacedCustomObject(
      { ...GROUP, namespace: "shop", name: "orders", body: { spec: { partitions: 3 } } },
      MERGE,
    );
    await until("orders", (found) => ready(found) && found?.status?.partitions === 3);
    expect(await partitionsOf("shop.orders")).toBe(3);
    await objects.deleteNamespacedCustomObject({ ...GROUP, namespace: "shop", name: "orders" });
    await until("orders", (found) => found === undefined);
    expect(await partitionsOf("shop.orders")).toBeUndefined();
  },
  SLOW_MS,
);

test(
  "the API server refuses what breaks the rules, with the field",
  async () => {
    await expect(apply("bad", { ordering: "Total", partitions: 2 })).rejects.toThrow(/partitions/);
    await expect(apply("bad", { partitions: 0 })).rejects.toThrow(/spec.partitions/);
    await expect(apply("bad", { config: { "cleanup.policy": "compact" } })).rejects.toThrow(
      /use retention/,
    );
  },
  SLOW_MS,
);

test(
  "an operator that is killed is followed by another, and the API server's restart is survived",
  async () => {
    const first = startOperator("two");
    await apply("a", {});
    await until("a", ready);
    await plane.restartApiServer();
    await apply("b", {});
    await until("b", ready);
    startOperator("two");
    await killed(first);
    await apply("c", {});
    await until("c", ready);
    expect(await partitionsOf("shop.c")).toBe(1);
  },
  SLOW_MS,
);
