/** Which Outboxes an operator has, as Topics ask. */
import { expect, test } from "@jest/globals";
import { MemoryLog } from "../../../kafka/memory-log.ts";
import type { KubeOutbox } from "../../../operator/outbox/kube-outbox.ts";
import { Outboxes } from "../../../operator/outbox/outboxes.ts";
import type { TopicSpec } from "../../../operator/topic-schema.ts";
import { MemoryResourceApi } from "../kube/memory-resource-api.ts";
import { SETTINGS } from "./outboxes.ts";

const NO_WORKLOADS = {
  deployment: () => Promise.reject(new Error("it does not lead")),
  apply: () => Promise.reject(new Error("it does not lead")),
};

test("a Topic whose Outbox is not in its namespace is told so, once they are listed; any other is told nothing", async () => {
  const api = new MemoryResourceApi<KubeOutbox>();
  const database = { secret: { name: "shop-db" } };
  api.put("shop/till", { database });
  api.put("bank/vault", { database });
  const watching = Promise.withResolvers<void>();
  const outboxes = new Outboxes({
    ...{ api, workloads: NO_WORKLOADS, log: new MemoryLog(), deploymentId: "test" },
    ...{ settings: SETTINGS, namespaces: undefined, labelSelector: "", mayAct: () => false },
    onBegin: (what) => what === "watch" && watching.resolve(),
    ...{ onTrouble: () => {}, onDone: () => {}, onFailure: () => {} },
  });
  const missing = (spec: TopicSpec): string | undefined =>
    outboxes.missing({ metadata: { name: "receipts", namespace: "shop" }, spec });
  const vault: TopicSpec = { ordering: "Commit", outbox: "vault" };
  expect(missing(vault)).toBeUndefined();
  outboxes.start();
  await watching.promise;
  await new Promise(setImmediate);
  expect(missing({})).toBeUndefined();
  expect(missing({ ordering: "Commit", outbox: "till" })).toBeUndefined();
  expect(missing(vault)).toMatch(/no Outbox "vault" in namespace "shop"\. Make it, or/);
  api.put("shop/vault", { database });
  expect(missing(vault)).toBeUndefined();
  api.delete("shop/vault");
  expect(missing(vault)).toMatch(/no Outbox "vault"/);
  await outboxes.close();
});
