/** A watch that comes back from every end (W1, W2), in virtual time. */
import { getEventListeners } from "node:events";
import { expect, test } from "@jest/globals";
import { ResourceWatch } from "../../../operator/kube/resource-watch.ts";
import type { KubeTopic } from "../../../operator/kube/topic-api.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";
import { MemoryResourceApi } from "./memory-resource-api.ts";

function bed(namespace?: string) {
  const api = new MemoryResourceApi<KubeTopic>();
  const clock = new VirtualClock(new Random(1));
  const topics = new Map<string, KubeTopic>();
  const changed: string[] = [];
  const troubles: string[] = [];
  const watch = new ResourceWatch({
    ...{ api, clock, random: () => 1, scope: { namespace, labelSelector: "" } },
    ...{ kinds: "Topics", resources: topics },
    changed: (name) => changed.push(name),
    onBegin: () => {},
    onTrouble: (message) => troubles.push(message),
  });
  const spec = (name: string): unknown => topics.get(name)?.spec;
  return { api, clock, topics, changed, troubles, watch, spec };
}

test("what is there is listed in pages, then changes come one by one", async () => {
  const { api, clock, topics, changed, watch, spec } = bed();
  for (let i = 0; i < 1234; i++) api.put(`shop/t${i}`, {});
  watch.start();
  await clock.run(1);
  expect([topics.size, changed.length, api.calls.length]).toEqual([1234, 1234, 4]);
  changed.length = 0;
  api.put("shop/new", { partitions: 2 });
  api.put("shop/t7", { partitions: 3 });
  api.delete("shop/t8");
  expect(changed).toEqual(["shop/new", "shop/t7", "shop/t8"]);
  expect([spec("shop/t7"), topics.has("shop/t8")]).toEqual([{ partitions: 3 }, false]);
});

test("a change of a status alone asks for no work", async () => {
  const { api, clock, topics, changed, watch } = bed();
  api.put("shop/a", {});
  watch.start();
  await clock.run(1);
  await api.patchStatus(api.resources.get("shop/a") as KubeTopic, { partitions: 1 });
  expect(changed).toEqual(["shop/a"]);
  expect(topics.get("shop/a")?.status).toEqual({ partitions: 1 });
});

test("a watch that ends in order goes on where it was, and misses nothing (W1)", async () => {
  const { api, clock, changed, watch } = bed();
  api.put("shop/a", {});
  watch.start();
  await clock.run(1);
  api.put("shop/b", {});
  api.endWatches({ kind: "ended" });
  api.put("shop/c", {});
  await clock.run(2);
  expect(changed).toEqual(["shop/a", "shop/b", "shop/c"]);
  expect(api.calls.filter((call) => call === "list")).toHaveLength(1);
});

test("when the server has forgotten, all is listed anew: what is gone meanwhile is gone here (W2)", async () => {
  const { api, clock, topics, changed, watch } = bed();
  for (const name of ["a", "b", "c"]) api.put(`shop/${name}`, {});
  watch.start();
  await clock.run(1);
  changed.length = 0;
  api.failing = "watch";
  api.endWatches({ kind: "failed", reason: "reset" });
  api.delete("shop/b");
  api.put("shop/d", {});
  api.compact();
  api.failing = undefined;
  await clock.run(10_000);
  expect([...topics.keys()]).toEqual(["shop/a", "shop/c", "shop/d"]);
  expect(changed).toEqual(["shop/b", "shop/d"]);
});

test("a server that is away is asked again after pauses that double, each said", async () => {
  const { api, clock, topics, troubles, watch } = bed();
  api.failing = "list";
  watch.start();
  await clock.run(2900);
  expect(troubles).toHaveLength(4);
  expect(troubles[0]).toBe("Topics cannot be listed: no answer");
  api.failing = undefined;
  api.put("shop/a", {});
  await clock.run(40_000);
  expect([...topics.keys()]).toEqual(["shop/a"]);
});

test("a watch that fails again and again is begun anew with a list", async () => {
  const { api, clock, watch } = bed();
  watch.start();
  await clock.run(1);
  api.failing = "watch";
  api.endWatches({ kind: "failed", reason: "reset" });
  await clock.run(3000);
  expect(api.calls.slice(0, 6)).toEqual([
    ...["list", "watch 0", "watch 0", "watch 0", "list", "watch 0"],
  ]);
});

test("of one namespace the others' Topics are not touched", async () => {
  const { api, clock, topics, changed, watch } = bed("shop");
  api.put("shop/a", {});
  api.put("bank/a", {});
  topics.set("other/x", { metadata: { namespace: "other" } } as KubeTopic);
  watch.start();
  await clock.run(1);
  api.put("bank/b", {});
  expect([...topics.keys()]).toEqual(["other/x", "shop/a"]);
  expect(changed).toEqual(["shop/a"]);
});

test("pauses that are over leave nothing behind, however many there were", async () => {
  const { api, clock, troubles, watch } = bed();
  api.failing = "watch";
  watch.start();
  await clock.run(600_000);
  expect(troubles.length).toBeGreaterThan(20);
  // The one that runs.
  expect(getEventListeners(api.signal as AbortSignal, "abort")).toHaveLength(1);
});

test("closed it ends, also in a pause", async () => {
  const { api, clock, watch } = bed();
  api.failing = "list";
  watch.start();
  await clock.run(100);
  await watch.close();
  const calls = api.calls.length;
  await clock.run(100_000);
  expect(api.calls).toHaveLength(calls);
});
