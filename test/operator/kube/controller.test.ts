/** From a Topic at an API server to its reconcile and its status: what is done, and what is left alone. */
import { expect, test } from "@jest/globals";
import { Controller, FINALIZER } from "../../../operator/kube/controller.ts";
import type { KubeTopic } from "../../../operator/kube/topic-api.ts";
import { TopicWatch } from "../../../operator/kube/topic-watch.ts";
import type { TopicStatus } from "../../../operator/reconcile.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";
import { MemoryTopicApi } from "./memory-topic-api.ts";

const READY: TopicStatus = {
  ...{ ready: true, reason: "Ready", message: "The stream is served." },
  ...{ kafkaTopic: "shop.a", topicId: "00ff", partitions: 1, replicas: 1 },
};

function bed() {
  const api = new MemoryTopicApi();
  const clock = new VirtualClock(new Random(1));
  const topics = new Map<string, KubeTopic>();
  const deeds: string[] = [];
  const failures: string[] = [];
  const state = { status: READY, mayAct: true, broken: "" };
  const controller: Controller = new Controller({
    ...{ api, topics, clock, random: () => 0.5, clusterUid: "c", concurrency: 4 },
    ...{ resyncMs: 10_000, retryMs: 2000, now: () => `T${clock.now()}` },
    isInScope: (namespace) => namespace === "shop",
    mayAct: () => state.mayAct,
    reconciler: {
      apply: async ({ metadata: { name } }) => {
        deeds.push(`apply ${name}`);
        if (state.broken) throw new Error(state.broken);
        return state.status;
      },
      delete: async (name, policy) => {
        deeds.push(`${policy} ${name}`);
        if (state.broken) throw new Error(state.broken);
      },
    },
    onFailure: (_name, message) => failures.push(message),
    onSuperseded: () => deeds.push("end"),
  });
  const watch = new TopicWatch({
    ...{ api, topics, clock, random: () => 1, scope: { namespace: undefined, labelSelector: "" } },
    changed: (name) => controller.queue.add(name),
    onTrouble: () => {},
  });
  watch.start();
  const now = (name: string): KubeTopic | undefined => api.topics.get(name);
  return { api, clock, controller, deeds, failures, state, now };
}

test("a new Topic is reconciled, its status written once, and looked at again in time", async () => {
  const { api, clock, deeds, now } = bed();
  api.put("shop/a", { partitions: 1 });
  await clock.run(100);
  expect(deeds).toEqual(["apply a"]);
  expect(now("shop/a")?.status).toEqual({
    ...{ observedGeneration: 1, kafkaTopic: "shop.a", topicId: "00ff" },
    ...{ partitions: 1, replicas: 1 },
    conditions: [
      {
        ...{ type: "Ready", status: "True", reason: "Ready", message: "The stream is served." },
        ...{ lastTransitionTime: "T0", observedGeneration: 1 },
      },
    ],
  });
  await clock.run(35_000);
  expect(deeds).toHaveLength(4);
  expect(api.calls.filter((call) => call === "status")).toHaveLength(1);
});

test("a Topic that is not Ready is tried again sooner, and the time of its condition is that of the change", async () => {
  const { api, clock, deeds, state, now } = bed();
  state.status = { ...READY, ready: false, reason: "Conflict", message: "held" };
  api.put("shop/a", {});
  await clock.run(4000);
  expect(deeds.length).toBeGreaterThan(2);
  state.status = { ...state.status, message: "held by another" };
  await clock.run(6000);
  expect(now("shop/a")?.status?.conditions).toMatchObject([
    { status: "False", message: "held by another", lastTransitionTime: "T0" },
  ]);
});

test("lost data has a condition of its own, which stays to say that it is over", async () => {
  const { api, clock, state, now } = bed();
  state.status = { ...READY, ready: false, reason: "DataLost", message: "gone" };
  api.put("shop/a", {});
  await clock.run(100);
  expect(now("shop/a")?.status?.conditions?.map(({ type, status }) => [type, status])).toEqual([
    ["Ready", "False"],
    ["DataLost", "True"],
  ]);
  state.status = READY;
  await clock.run(4000);
  expect(now("shop/a")?.status?.conditions?.map(({ type, status }) => [type, status])).toEqual([
    ["Ready", "True"],
    ["DataLost", "False"],
  ]);
});

test("with policy Delete a finalizer is there before anything in Kafka is; it goes when Kafka's topic is gone", async () => {
  const { api, clock, deeds, state, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" }, { finalizers: ["other/one"] });
  await clock.run(100);
  expect(now("shop/a")?.metadata.finalizers).toEqual(["other/one", FINALIZER]);
  expect(deeds).toEqual(["apply a"]);
  state.broken = "Kafka does not answer";
  api.delete("shop/a");
  await clock.run(1000);
  expect(now("shop/a")?.metadata.finalizers).toEqual(["other/one", FINALIZER]);
  state.broken = "";
  await clock.run(60_000);
  expect(now("shop/a")?.metadata.finalizers).toEqual(["other/one"]);
  expect(deeds.at(-1)).toBe("Delete shop/a");
});

test("with Retain there is no finalizer, and a Topic that is gone is retained by its record", async () => {
  const { api, clock, deeds, now } = bed();
  api.put("shop/a", {});
  await clock.run(100);
  expect(now("shop/a")?.metadata.finalizers).toBeUndefined();
  api.delete("shop/a");
  await clock.run(200);
  expect(deeds).toEqual(["apply a", "Retain shop/a"]);
});

test("a policy that changes to Retain takes the finalizer away", async () => {
  const { api, clock, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  api.put("shop/a", { deletionPolicy: "Retain" });
  await clock.run(200);
  expect(now("shop/a")?.metadata.finalizers).toEqual([]);
});

test("a paused Topic is left alone; deleted, its Kafka topic stays", async () => {
  const { api, clock, deeds, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  api.put(
    "shop/a",
    { deletionPolicy: "Delete", partitions: 2 },
    { annotations: { "throughline.dev/pause": "true" } },
  );
  await clock.run(60_000);
  expect(deeds).toEqual(["apply a"]);
  api.delete("shop/a");
  await clock.run(61_000);
  expect(deeds.at(-1)).toBe("Retain shop/a");
  expect(now("shop/a")).toBeUndefined();
});

test("a catalog that a newer leader writes ends this one, and is no Topic's fault", async () => {
  const { api, clock, deeds, state, now } = bed();
  state.status = { ...READY, ready: false, reason: "Superseded", message: "another writes" };
  api.put("shop/a", {});
  await clock.run(60_000);
  expect(deeds).toEqual(["apply a", "end"]);
  expect(now("shop/a")?.status).toBeUndefined();
});

test("who is the leader no more does nothing", async () => {
  const { api, clock, deeds, state } = bed();
  state.mayAct = false;
  api.put("shop/a", {});
  await clock.run(60_000);
  expect(deeds).toEqual([]);
});

test("a record whose Topic is outside the scope, or there after all, is left alone", async () => {
  const { api, clock, controller, deeds } = bed();
  await clock.run(1);
  controller.queue.add("bank/a");
  controller.queue.add("shop/gone");
  await clock.run(100);
  expect(deeds).toEqual(["Retain shop/gone"]);
  expect(api.calls.filter((call) => call === "find")).toHaveLength(1);
});

test("what fails is said, and tried again until it succeeds", async () => {
  const { api, clock, deeds, failures, state } = bed();
  state.broken = "no answer";
  api.put("shop/a", {});
  await clock.run(1000);
  expect(failures[0]).toBe("no answer");
  state.broken = "";
  await clock.run(2000);
  expect(deeds.length).toBe(failures.length + 1);
});
