/** P9: what a Topic says is what Kafka has; no data goes that its owner did not ask to delete. */
import { beforeEach, expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import type { TopicResource } from "../../operator/validate.ts";

const owner = { uid: "u1", generation: 1, clusterUid: "c1" };
let log: MemoryLog;
let catalog: CatalogWriter;
let reconciler: Reconciler;

beforeEach(async () => {
  log = new MemoryLog();
  catalog = await CatalogWriter.open(log, "test", () => 1);
  reconciler = new Reconciler(log, catalog);
});

function topic(spec: TopicSpec, name = "orders"): TopicResource {
  return { metadata: { name, namespace: "shop" }, spec };
}

async function infoOf(name: string) {
  const found = await log.admin.describeTopics([name]);
  return found.kind === "done" ? found.value.get(name) : undefined;
}

test("a new Topic is created, recorded and Ready", async () => {
  const status = await reconciler.apply(topic({ partitions: 3 }), owner);
  expect(status).toMatchObject({
    ready: true,
    reason: "Ready",
    kafkaTopic: "shop.orders",
    partitions: 3,
  });
  expect((await infoOf("shop.orders"))?.partitions).toBe(3);
  expect(catalog.records.get("shop/orders")).toMatchObject({ state: 1, partitions: 3 });
});

test("the catalog is read back whole by the next operator", async () => {
  await reconciler.apply(topic({}), owner);
  const next = await CatalogWriter.open(log, "test", () => 2);
  expect([...next.records.keys()]).toEqual(["shop/orders"]);
});

test("an older operator that thaws is fenced and says so", async () => {
  await CatalogWriter.open(log, "test", () => 2);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ ready: false });
  expect(catalog.records.size).toBe(0);
});

test("partitions grow; a setting removed from the spec returns to the broker's default", async () => {
  await reconciler.apply(topic({ config: { "flush.ms": "5" } }), owner);
  const status = await reconciler.apply(topic({ partitions: 4 }), owner);
  expect(status).toMatchObject({ ready: true, partitions: 4 });
  const settings = await log.admin.settings("shop.orders");
  expect(settings.kind === "done" && "flush.ms" in settings.value).toBe(false);
  expect(catalog.records.get("shop/orders")?.partitions).toBe(4);
});

test("a recreated Kafka topic is DataLost and nothing is created until the loss is accepted", async () => {
  await reconciler.apply(topic({}), owner);
  const lost = (await infoOf("shop.orders"))?.id as string;
  log.recreate("shop.orders");
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({
    ready: false,
    reason: "DataLost",
  });
  expect(catalog.records.get("shop/orders")?.state).toBe(2);
  await log.admin.deleteTopic((await infoOf("shop.orders"))?.id as string);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "DataLost" });
  expect(await infoOf("shop.orders")).toBeUndefined();
  const accepted = topic({});
  const annotations = { "throughline.dev/accept-loss": lost };
  const status = await reconciler.apply(
    { ...accepted, metadata: { ...accepted.metadata, annotations } },
    owner,
  );
  expect(status).toMatchObject({ ready: true });
});

test("a Kafka topic of someone else, and one that another Topic holds, are not taken", async () => {
  log.createTopicNow("shop.orders", 1);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "NotOurs" });
  await reconciler.apply(topic({ kafkaTopic: "mine" }, "first"), owner);
  const second = await reconciler.apply(topic({ kafkaTopic: "mine" }, "second"), owner);
  expect(second).toMatchObject({ ready: false, reason: "Conflict" });
  expect(second.message).toContain("shop/first");
});

test("Retain keeps the Kafka topic and its record, and the same name takes it back", async () => {
  await reconciler.apply(topic({}), owner);
  const before = await infoOf("shop.orders");
  await reconciler.delete("shop/orders", "Retain");
  expect(catalog.records.get("shop/orders")?.state).toBe(3);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({
    ready: true,
    topicId: before?.id,
  });
});

test("Delete removes the Kafka topic of the recorded id only", async () => {
  await reconciler.apply(topic({}), owner);
  const newer = log.recreate("shop.orders");
  await reconciler.delete("shop/orders", "Delete");
  expect((await infoOf("shop.orders"))?.id).toBe(newer.id);
  expect(catalog.records.has("shop/orders")).toBe(false);
});
