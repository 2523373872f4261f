/** From Outboxes of an API server to Deployments and status (X1 to X3), in memory and in virtual time. */
import { expect, test } from "@jest/globals";
import type { V1Deployment } from "@kubernetes/client-node";
import { ResourceWatch } from "../../../operator/kube/resource-watch.ts";
import type { ApplyOutcome, Workload, WorkloadApi } from "../../../operator/kube/workload-api.ts";
import type { KubeOutbox } from "../../../operator/outbox/kube-outbox.ts";
import { FINALIZER, OutboxController } from "../../../operator/outbox/outbox-controller.ts";
import type { Word } from "../../../operator/outbox/sequencer-reports.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";
import { MemoryResourceApi } from "../kube/memory-resource-api.ts";
import { outboxOf, reportOf, rolledOut, SETTINGS } from "./outboxes.ts";

/** Server-side apply, as far as one owner of all fields sees it. */
class MemoryWorkloads implements WorkloadApi {
  deploymentThere: V1Deployment | undefined;
  readonly written: string[] = [];
  applies = 0;
  refusal: string | undefined;
  #version = 0;

  async deployment() {
    const deployment = this.deploymentThere;
    return deployment ? ({ kind: "found", deployment } as const) : ({ kind: "gone" } as const);
  }

  async apply<Of extends Workload>(object: Of): Promise<ApplyOutcome<Of>> {
    if (this.refusal) return { kind: "refused", reason: this.refusal };
    this.applies++;
    if (object.kind !== "Deployment") return { kind: "applied", object };
    const { spec } = object as V1Deployment;
    const isSame = JSON.stringify(spec) === JSON.stringify(this.deploymentThere?.spec);
    if (!isSame) this.written.push(spec?.template.spec?.containers[0]?.args?.[0] ?? "");
    this.put({ spec, metadata: object.metadata ?? {} }, isSame ? 0 : 1);
    return { kind: "applied", object: this.deploymentThere as Of };
  }

  /** As somebody else writes it: status changes too. */
  put(change: { [K in keyof V1Deployment]?: unknown }, generations = 0): void {
    const { metadata, ...known } = this.deploymentThere ?? {};
    const generation = (metadata?.generation ?? 0) + generations;
    const resourceVersion = String(++this.#version);
    this.deploymentThere = {
      ...{ ...known, ...change },
      metadata: { ...metadata, ...(change.metadata ?? {}), generation, resourceVersion },
    } as V1Deployment;
  }

  rollOut(ready: number): void {
    this.put(rolledOut(this.deploymentThere as V1Deployment, ready));
  }
}

async function bed() {
  const api = new MemoryResourceApi<KubeOutbox>();
  const workloads = new MemoryWorkloads();
  const clock = new VirtualClock(new Random(1));
  const outboxes = new Map<string, KubeOutbox>();
  const outcomes: string[] = [];
  const state = { word: reportOf() as Word, mayAct: true };
  const controller = new OutboxController({
    ...{ api, workloads, outboxes, clock, random: () => 0.5, settings: SETTINGS },
    ...{ resyncMs: 10_000, retryMs: 2000, now: () => new Date(clock.now()) },
    isInScope: () => true,
    mayAct: () => state.mayAct,
    reports: { of: () => state.word },
    onDone: (outcome) => outcomes.push(outcome),
    onFailure: (name, message) => outcomes.push(`${name}: ${message}`),
  });
  const watch = new ResourceWatch({
    ...{ api, clock, random: () => 1, scope: { namespace: undefined, labelSelector: "" } },
    ...{ kinds: "Outboxes", resources: outboxes, onBegin: () => {}, onTrouble: () => {} },
    changed: (name) => controller.queue.add(name),
  });
  watch.start();
  const put = (spec = {}, metadata = {}): void =>
    api.put("shop/orders", outboxOf(spec).spec, metadata);
  const now = () => api.resources.get("shop/orders");
  const ready = () => now()?.status?.conditions?.find(({ type }) => type === "Ready");
  const after = (ms: number): Promise<boolean> => clock.run(clock.now() + ms);
  await after(1);
  /** A sequencer has said something. */
  const hear = (): void => controller.queue.add("shop/orders");
  return { api, outboxes, workloads, after, hear, outcomes, state, put, now, ready };
}

async function running() {
  const all = await bed();
  all.put();
  await all.after(100);
  all.workloads.rollOut(2);
  await all.after(25_000);
  return all;
}

test("a new one has its finalizer before anything runs (X1), then a Deployment and a status", async () => {
  const { api, workloads, after, put, now, ready } = await bed();
  put();
  await after(100);
  expect(api.calls.indexOf("finalizers")).toBeLessThan(api.calls.indexOf("status"));
  expect(now()?.metadata.finalizers).toEqual([FINALIZER]);
  expect(workloads.written).toEqual(["--do=run"]);
  expect(ready()).toMatchObject({ status: "True", reason: "PodsMissing" });
  workloads.rollOut(2);
  await after(11_000);
  expect(ready()).toMatchObject({ reason: "Running" });
  expect(now()?.status?.topics).toHaveLength(2);
});

test("when nothing is new nothing is written, however often it is looked at", async () => {
  const { api, workloads, after, outcomes } = await running();
  const before = [api.calls.length, workloads.applies];
  outcomes.length = 0;
  await after(60_000);
  expect([api.calls.length, workloads.applies]).toEqual(before);
  expect(outcomes.length).toBeGreaterThan(4);
});

test("a word that comes before the watch tells of the last status repeats nothing that was told", async () => {
  const { api, outboxes, after, hear, state, put } = await bed();
  state.word = undefined;
  put();
  await after(100);
  const older = outboxes.get("shop/orders") as KubeOutbox;
  state.word = reportOf();
  for (let i = 0; i < 2; i++) {
    outboxes.set("shop/orders", older);
    hear();
    await after(100);
  }
  expect(api.told).toEqual([expect.stringContaining("Normal Running")]);
});

test("a changed spec changes the Deployment, and drift is mended", async () => {
  const { workloads, after, put } = await running();
  put({ replicas: 1 });
  await after(100);
  expect(workloads.deploymentThere?.spec?.replicas).toBe(1);
  const { spec } = workloads.deploymentThere as V1Deployment;
  workloads.put({ spec: { ...spec, replicas: 0 } }, 1);
  await after(11_000);
  expect(workloads.deploymentThere?.spec?.replicas).toBe(1);
  workloads.deploymentThere = undefined;
  await after(11_000);
  expect(workloads.written).toHaveLength(4);
});

test("a Deployment of another's is left alone, and said (X3)", async () => {
  const { workloads, after, put, ready } = await bed();
  workloads.put({ metadata: { name: "orders-sequencer" }, spec: undefined });
  put();
  await after(100);
  expect(workloads.written).toEqual([]);
  expect(ready()).toMatchObject({ status: "False", reason: "DeploymentNotOurs" });
});

test("what the API server refuses is said in its own words", async () => {
  const { workloads, after, put, ready } = await bed();
  workloads.refusal = "deployments.apps is forbidden";
  put();
  await after(100);
  expect(ready()).toMatchObject({ reason: "DeploymentRefused", message: workloads.refusal });
});

test("deleted, it goes when the pod that retires is ready, and not before (X2)", async () => {
  const { api, workloads, after, state, now, ready } = await running();
  api.delete("shop/orders");
  await after(3000);
  expect(workloads.written).toEqual(["--do=run", "--do=retire"]);
  expect(ready()).toMatchObject({ status: "False", reason: "DeletionWaits" });
  // Kubernetes has not seen it yet: this is of the pods before.
  const { generation = 0 } = workloads.deploymentThere?.metadata ?? {};
  workloads.put({
    status: {
      observedGeneration: generation - 1,
      replicas: 1,
      updatedReplicas: 1,
      readyReplicas: 1,
    },
  });
  await after(3000);
  expect(now()).toBeDefined();
  const message = "PostgreSQL at db:5432: refused";
  state.word = reportOf({ state: "waiting", reason: "DatabaseUnavailable", message });
  workloads.rollOut(0);
  await after(3000);
  expect(ready()?.message).toMatch(
    /^Replication slot throughline_prod_shop_orders in db:5432\/shop is not dropped yet: DatabaseUnavailable: PostgreSQL at db:5432: refused.*abandon-slot=true.*pg_drop_replication_slot\('throughline_prod_shop_orders'\)/,
  );
  expect(api.told.filter((line) => line.includes("DeletionWaits"))).toHaveLength(1);
  workloads.rollOut(1);
  await after(3000);
  expect(now()).toBeUndefined();
});

test("where the slot cannot be given up an annotation lets it go", async () => {
  const { api, workloads, after, put, now, ready } = await running();
  workloads.refusal = "namespace shop is being terminated";
  workloads.deploymentThere = undefined;
  api.delete("shop/orders");
  await after(3000);
  expect(ready()?.message).toContain("DeploymentRefused: namespace shop is being terminated");
  put({}, { annotations: { "throughline.dev/abandon-slot": "true" } });
  await after(100);
  expect(now()).toBeUndefined();
});

test("paused, or with an annotation that nobody understands, its Deployment is left alone", async () => {
  const { workloads, after, put, ready } = await running();
  put({ replicas: 1 }, { annotations: { "throughline.dev/pause": "true" } });
  await after(100);
  expect(ready()).toMatchObject({ status: "Unknown", reason: "Paused" });
  put({ replicas: 1 }, { annotations: { "throughline.dev/puase": "true" } });
  await after(100);
  expect(ready()).toMatchObject({ status: "Unknown", reason: "InvalidAnnotation" });
  expect(workloads.deploymentThere?.spec?.replicas).toBe(2);
  put({ replicas: 1 }, { annotations: {} });
  await after(100);
  expect(workloads.deploymentThere?.spec?.replicas).toBe(1);
});

test("one that lost the operator's labels is left alone until it is deleted", async () => {
  const { api, workloads, after, now } = await running();
  api.hide("shop/orders");
  await after(100);
  workloads.put({ spec: { ...workloads.deploymentThere?.spec, replicas: 0 } }, 1);
  await after(61_000);
  expect(workloads.written).toEqual(["--do=run"]);
  api.delete("shop/orders");
  api.hide("shop/orders");
  await after(61_000);
  expect(workloads.written).toEqual(["--do=run", "--do=retire"]);
  workloads.rollOut(1);
  await after(61_000);
  expect(now()).toBeUndefined();
});

test("who may not act does nothing", async () => {
  const { api, workloads, after, state, put } = await bed();
  state.mayAct = false;
  put();
  await after(5000);
  expect([workloads.written, api.calls.includes("finalizers")]).toEqual([[], false]);
});
