/** A controller over an API server in memory, in virtual time; what its reconciler finds is set by the test. */

import { IndexedMap } from "../../../operator/indexed-map.ts";
import { Controller } from "../../../operator/kube/controller.ts";
import { ResourceWatch } from "../../../operator/kube/resource-watch.ts";
import type { KubeTopic } from "../../../operator/kube/topic-api.ts";
import type { Owner, TopicStatus, Why } from "../../../operator/reconcile.ts";
import { kafkaTopicOf } from "../../../operator/topic-spec.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";
import { MemoryResourceApi } from "./memory-resource-api.ts";

export const READY: TopicStatus = {
  ...{ ready: true, reason: "Ready", message: "The stream is served." },
  ...{ kafkaTopic: "shop.a", topicId: "00ff", partitions: 1, replicas: 1 },
  adopted: false,
};

export function bed() {
  const api = new MemoryResourceApi<KubeTopic>();
  const clock = new VirtualClock(new Random(1));
  const topics = new IndexedMap<KubeTopic>(kafkaTopicOf);
  const deeds: string[] = [];
  const owners: Owner[] = [];
  const failures: string[] = [];
  const outcomes: string[] = [];
  const state = { status: READY, mayAct: true, broken: "", waits: undefined as Why | undefined };
  const controller: Controller = new Controller({
    ...{ api, topics, clock, random: () => 0.5, clusterUid: "c", concurrency: 4, spare: 0 },
    ...{ resyncMs: 10_000, retryMs: 2000, now: () => `T${clock.now()}` },
    isInScope: (namespace) => namespace === "shop",
    mayAct: () => state.mayAct,
    reconciler: {
      apply: async ({ metadata: { name } }, owner) => {
        deeds.push(`apply ${name}`);
        owners.push(owner);
        if (state.broken) throw new Error(state.broken);
        return state.status;
      },
      delete: async (name, policy) => {
        deeds.push(`${policy} ${name}`);
        return state.waits;
      },
    },
    onDone: (outcome) => outcomes.push(outcome),
    onFailure: (_name, message) => failures.push(message),
    onSuperseded: () => deeds.push("end"),
  });
  const watch = new ResourceWatch({
    ...{ api, clock, random: () => 1, scope: { namespace: undefined, labelSelector: "" } },
    ...{ kinds: "Topics", resources: topics },
    changed: (name) => controller.queue.add(name),
    onBegin: () => {},
    onTrouble: () => {},
  });
  watch.start();
  const ready = (name: string) =>
    api.resources.get(name)?.status?.conditions?.find(({ type }) => type === "Ready");
  const now = (name: string): KubeTopic | undefined => api.resources.get(name);
  return { api, clock, controller, deeds, failures, outcomes, owners, ready, state, now };
}
