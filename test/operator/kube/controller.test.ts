/** From a Topic at an API server to its reconcile and its status: what is done, and what is left alone. */
import { expect, test } from "@jest/globals";
import { FINALIZER } from "../../../operator/kube/controller.ts";
import type { Condition } from "../../../operator/kube/resource-api.ts";
import type { KubeTopic } from "../../../operator/kube/topic-api.ts";
import { bed, READY } from "./controller-bed.ts";

const PAUSED = { annotations: { "throughline.dev/pause": "true" } };

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

test("an Event that is not answered holds up nothing", async () => {
  const { api, clock, outcomes } = bed();
  api.tell = () => new Promise(() => {});
  for (const name of ["a", "b", "c", "d", "e", "f"]) api.put(`shop/${name}`, {});
  await clock.run(100);
  expect(outcomes).toEqual(Array(6).fill("ready"));
});

test("a Topic that is not Ready is tried again sooner, and the time of its condition is that of the change", async () => {
  const { api, clock, deeds, state, now } = bed();
  state.status = { ...READY, ready: false, reason: "Conflict", message: "held" };
  api.put("shop/a", {});
  await clock.run(4000);
  expect(deeds).toHaveLength(2);
  state.status = { ...state.status, message: "held by another" };
  await clock.run(12_000);
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
  state.waits = { reason: "KafkaUnavailable", message: "Kafka does not answer" };
  api.delete("shop/a");
  await clock.run(1000);
  expect(now("shop/a")?.metadata.finalizers).toEqual(["other/one", FINALIZER]);
  state.waits = undefined;
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

test("a paused Topic is left alone and says so; deleted, its Kafka topic stays", async () => {
  const { api, clock, deeds, ready, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  api.put("shop/a", { deletionPolicy: "Delete", partitions: 2 }, PAUSED);
  await clock.run(60_000);
  expect(deeds).toEqual(["apply a"]);
  expect(ready("shop/a")).toMatchObject({
    ...{ status: "Unknown", reason: "Paused", observedGeneration: 2 },
  });
  expect(now("shop/a")?.status).toMatchObject({ observedGeneration: 2, topicId: "00ff" });
  api.delete("shop/a");
  await clock.run(61_000);
  expect(deeds.at(-1)).toBe("Retain shop/a");
  expect(now("shop/a")).toBeUndefined();
});

test("a pause that ends is followed by a reconcile", async () => {
  const { api, clock, deeds, ready } = bed();
  api.put("shop/a", {}, PAUSED);
  await clock.run(100);
  expect(deeds).toEqual([]);
  api.put("shop/a", {}, { annotations: {} });
  await clock.run(200);
  expect([deeds, ready("shop/a")?.status]).toEqual([["apply a"], "True"]);
});

test.each([
  ["an annotation that nobody knows", { "throughline.dev/pauze": "true" }, /pauze is not known/],
  ["a switch with another value", { "throughline.dev/pause": "yes" }, /is "yes"; set it to "true"/],
])(
  "%s is told, and the Kafka topic left alone, also at deletion",
  async (_, annotations, words) => {
    const { api, clock, deeds, ready } = bed();
    api.put("shop/a", { deletionPolicy: "Delete" });
    await clock.run(100);
    api.put("shop/a", { deletionPolicy: "Delete" }, { annotations });
    await clock.run(60_000);
    expect(ready("shop/a")).toMatchObject({ status: "Unknown", reason: "InvalidAnnotation" });
    expect(api.told.at(-1)).toMatch(words);
    api.delete("shop/a");
    await clock.run(61_000);
    // Once more when it is gone, as for any that left a record.
    expect([...new Set(deeds)]).toEqual(["apply a", "Retain shop/a"]);
  },
);

test("annotations of others are theirs", async () => {
  const { api, clock, ready } = bed();
  api.put("shop/a", {}, { annotations: { "argocd.argoproj.io/sync-wave": "1" } });
  await clock.run(100);
  expect(ready("shop/a")?.status).toBe("True");
});

test("a deletion that waits says why, once as an Event, and how to abandon it", async () => {
  const { api, clock, deeds, ready, state, now, outcomes } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  state.waits = { reason: "TOPIC_DELETION_DISABLED", message: "Topic deletion is disabled." };
  api.delete("shop/a");
  await clock.run(30_000);
  expect(ready("shop/a")).toMatchObject({ status: "False", reason: "DeletionWaits" });
  expect(ready("shop/a")?.message).toContain(
    "TOPIC_DELETION_DISABLED: Topic deletion is disabled.",
  );
  expect(api.told.filter((told) => told.includes("DeletionWaits"))).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === "deletion-waits").length).toBeGreaterThan(5);
  const attempts = deeds.length;
  api.put(
    "shop/a",
    { deletionPolicy: "Delete" },
    { annotations: { "throughline.dev/abandon-kafka-topic": "true" } },
  );
  await clock.run(30_100);
  expect(now("shop/a")).toBeUndefined();
  // Its record is retained as soon as Kafka can be asked.
  expect(deeds.slice(attempts)).toEqual(["Retain shop/a"]);
  state.waits = undefined;
  await clock.run(60_000);
  expect(deeds.at(-1)).toBe("Retain shop/a");
  expect(deeds.length).toBeGreaterThan(attempts + 1);
});

test("a Topic that goes while Kafka is away is retained soon after it is back, without a line in the log for each attempt", async () => {
  const { api, clock, deeds, failures, state } = bed();
  api.put("shop/a", {});
  await clock.run(100);
  state.waits = { reason: "KafkaUnavailable", message: "no broker" };
  api.delete("shop/a");
  await clock.run(60_000);
  const attempts = deeds.length;
  expect(attempts).toBeGreaterThan(10);
  state.waits = undefined;
  await clock.run(62_000);
  expect(deeds.slice(attempts)).toEqual(["Retain shop/a"]);
  expect(failures).toEqual([]);
});

test("a policy that changes to Retain while the deletion waits lets the Topic go", async () => {
  const { api, clock, deeds, ready, state, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  state.waits = { reason: "KafkaUnavailable", message: "no broker" };
  api.delete("shop/a");
  await clock.run(3000);
  expect(ready("shop/a")?.message).toContain("KafkaUnavailable: no broker. It is tried again.");
  state.waits = undefined;
  api.put("shop/a", { deletionPolicy: "Retain" });
  await clock.run(3100);
  expect([now("shop/a"), deeds.at(-1)]).toEqual([undefined, "Retain shop/a"]);
});

test("in a namespace that is being deleted nothing is begun, and what is deleted goes", async () => {
  const { api, clock, deeds, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  api.terminating.add("shop");
  api.put("shop/b", { deletionPolicy: "Delete" });
  await clock.run(30_000);
  expect(deeds.filter((deed) => deed.endsWith("b"))).toEqual([]);
  expect(now("shop/b")?.metadata.finalizers).toBeUndefined();
  for (const name of ["shop/a", "shop/b"]) api.delete(name);
  await clock.run(30_100);
  expect([now("shop/a"), now("shop/b")]).toEqual([undefined, undefined]);
  expect(deeds).toContain("Delete shop/a");
});

test("a Topic that other labels took out of sight keeps its stream; deleted, it is let go and retained", async () => {
  const { api, clock, controller, deeds, now } = bed();
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(100);
  // The watch has no other labels than all: the controller is told as by a watch that has.
  const hidden = api.resources.get("shop/a") as KubeTopic;
  api.hide("shop/a");
  await clock.run(1000);
  expect(deeds).toEqual(["apply a"]);
  api.resources.set("shop/a", {
    ...hidden,
    metadata: { ...hidden.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" },
  });
  await clock.run(120_000);
  expect(deeds).toEqual(["apply a", "Retain shop/a"]);
  expect(now("shop/a")).toBeUndefined();
  expect(controller.queue.busy).toBe(0);
});

test("of Topics that name one Kafka topic the reconciler is told which are older and wait for it too", async () => {
  const { api, clock, owners, state } = bed();
  state.mayAct = false;
  const at = (second: number) => ({ creationTimestamp: `2026-01-01T00:00:0${second}Z` });
  const spec = { kafkaTopic: "shop.all" };
  api.put("shop/young", spec, at(5));
  api.put("shop/old", spec, at(1));
  api.put("shop/paused", spec, { ...at(0), ...PAUSED });
  api.put("shop/other", { kafkaTopic: "shop.else" }, at(0));
  await clock.run(10);
  state.mayAct = true;
  api.put("shop/young", { ...spec, partitions: 2 }, at(5));
  await clock.run(20);
  expect(owners.map(({ older }) => older?.map(({ metadata }) => metadata.name))).toEqual([["old"]]);
});

test("when the winner of a conflict goes the loser is looked at at once", async () => {
  const { api, clock, deeds } = bed();
  api.put("shop/a", { kafkaTopic: "shop.all", deletionPolicy: "Delete" });
  api.put("shop/b", { kafkaTopic: "shop.all" });
  await clock.run(100);
  deeds.length = 0;
  api.delete("shop/a");
  await clock.run(200);
  expect(deeds).toEqual(["Delete shop/a", "apply b", "Retain shop/a"]);
});

test("conditions of others stay", async () => {
  const { api, clock, state, now } = bed();
  api.put("shop/a", {});
  await clock.run(100);
  const topic = now("shop/a") as KubeTopic;
  const theirs = { ...(topic.status?.conditions?.[0] as Condition), type: "Theirs" };
  await api.patchStatus(topic, {
    conditions: [...(topic.status?.conditions ?? []), theirs],
  });
  state.status = { ...READY, partitions: 2 };
  await clock.run(30_000);
  expect(now("shop/a")?.status?.conditions?.map(({ type }) => type)).toEqual(["Ready", "Theirs"]);
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

test("a lease that is renewed at the last moment has cost no Topic its turn", async () => {
  const { api, clock, deeds, state } = bed();
  state.mayAct = false;
  api.put("shop/a", {});
  await clock.run(100);
  state.mayAct = true;
  await clock.run(3000);
  expect(deeds).toEqual(["apply a"]);
});

test("a finalizer that was refused because of a newer status is written all the same", async () => {
  const { api, clock, deeds, now } = bed();
  api.put("shop/a", {});
  await clock.run(100);
  const patch = api.patchFinalizers.bind(api);
  let conflicts = 2;
  api.patchFinalizers = async (topic, finalizers) =>
    conflicts-- > 0 ? { kind: "conflict" } : patch(topic, finalizers);
  api.put("shop/a", { deletionPolicy: "Delete" });
  await clock.run(1000);
  expect(now("shop/a")?.metadata.finalizers).toEqual([FINALIZER]);
  conflicts = 2;
  api.delete("shop/a");
  await clock.run(2000);
  expect(now("shop/a")).toBeUndefined();
  expect(deeds).toContain("Delete shop/a");
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
