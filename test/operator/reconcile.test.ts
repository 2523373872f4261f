/** P9: what a Topic says is what Kafka has; no data goes that its owner did not ask to delete. */
import { beforeEach, expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { allowedNames } from "../../operator/allowed-names.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { accepting, infoIn, operatorOn, owner, topic } from "./reconcile-bed.ts";

let log: MemoryLog;
let catalog: CatalogWriter;
let reconciler: Reconciler;

beforeEach(async () => {
  log = new MemoryLog();
  await nextOperator();
});

async function nextOperator(): Promise<void> {
  ({ catalog, reconciler } = await operatorOn(log));
}

const infoOf = (name: string) => infoIn(log, name);

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

test("a Topic whose Outbox is not there is Ready and recorded, and says that nothing feeds it", async () => {
  let missing: string | undefined = "make it";
  const rules = { outboxMissing: () => missing };
  const fed = topic({ ordering: "Commit", outbox: "till" });
  const reconciler = new Reconciler(log, catalog, rules);
  const unfed = { ready: true, reason: "OutboxMissing", message: "make it", partitions: 1 };
  expect(await reconciler.apply(fed, owner)).toMatchObject(unfed);
  expect(catalog.records.get("shop/orders")).toMatchObject({ state: 1, outbox: "till" });
  missing = undefined;
  expect(await reconciler.apply(fed, owner)).toMatchObject({ ready: true, reason: "Ready" });
  // What keeps it from being Ready is said first.
  missing = "make it";
  log.topics.remove("shop.orders");
  expect(await reconciler.apply(fed, owner)).toMatchObject({ ready: false, reason: "DataLost" });
});

test("the catalog is read back whole by the next operator", async () => {
  await reconciler.apply(topic({}), owner);
  const next = await CatalogWriter.open(log, "test", () => 2);
  expect([...next.records.keys()]).toEqual(["shop/orders"]);
});

test("an older operator that thaws is fenced and says so", async () => {
  await CatalogWriter.open(log, "test", () => 2);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({
    ready: false,
    reason: "Superseded",
  });
  expect(await infoOf("shop.orders")).toBeUndefined();
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
  const status = await reconciler.apply(accepting(topic({}), lost), owner);
  expect(status).toMatchObject({ ready: true });
  expect(status.topicId).not.toBe(lost);
});

test("an accepted loss takes the topic of that name that is there now, by no other id", async () => {
  await reconciler.apply(topic({}), owner);
  const lost = (await infoOf("shop.orders"))?.id as string;
  const newer = log.recreate("shop.orders");
  const other = await reconciler.apply(accepting(topic({}), "0".repeat(32)), owner);
  expect(other).toMatchObject({ reason: "DataLost", topicId: lost });
  expect(await reconciler.apply(accepting(topic({}), lost), owner)).toMatchObject({
    ready: true,
    topicId: newer.id,
  });
  // The annotation stays; it says nothing about the next loss.
  log.recreate("shop.orders");
  expect(await reconciler.apply(accepting(topic({}), lost), owner)).toMatchObject({
    reason: "DataLost",
  });
});

test("a Kafka topic of someone else, and one that another Topic holds, are not taken", async () => {
  log.createTopicNow("shop.orders", 1);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "NotOurs" });
  await reconciler.apply(topic({ kafkaTopic: "shop.mine" }, "first"), owner);
  const second = await reconciler.apply(topic({ kafkaTopic: "shop.mine" }, "second"), owner);
  expect(second).toMatchObject({ ready: false, reason: "Conflict" });
  expect(second.message).toContain("shop/first");
});

test("a name outside the namespace needs the allow-list", async () => {
  const status = await reconciler.apply(topic({ kafkaTopic: "legacy" }), owner);
  expect(status).toMatchObject({ ready: false, reason: "NameNotAllowed" });
  expect(await infoOf("legacy")).toBeUndefined();
  const allowing = new Reconciler(log, catalog, { allowed: allowedNames(["shop/legacy"]) });
  expect(await allowing.apply(topic({ kafkaTopic: "legacy" }), owner)).toMatchObject({
    ready: true,
    kafkaTopic: "legacy",
  });
});

test("an operator that dies between making and recording a topic finds it as its own", async () => {
  const create = log.topics.createTopic.bind(log.topics);
  log.topics.createTopic = async (wanted) => {
    const made = await create(wanted);
    log.fail("the operator's connection is gone");
    return made;
  };
  expect(await reconciler.apply(topic({ partitions: 3 }), owner)).toMatchObject({
    ready: false,
    reason: "KafkaUnavailable",
  });
  expect(catalog.records.size).toBe(0);
  log.heal();
  log.topics.createTopic = create;
  await nextOperator();
  const made = await infoOf("shop.orders");
  expect(await reconciler.apply(topic({ partitions: 3 }), owner)).toMatchObject({
    ready: true,
    topicId: made?.id,
  });
  // Once recorded, the mark says nothing any more.
  await reconciler.delete("shop/orders", "Delete");
  log.createTopicNow("shop.orders", 1);
  await nextOperator();
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "NotOurs" });
});

test("a topic that is seen only after an attempt of unknown outcome is still its own", async () => {
  const create = log.topics.createTopic.bind(log.topics);
  const describe = log.topics.describeTopics.bind(log.topics);
  log.topics.createTopic = async (wanted) => {
    await create(wanted);
    return { kind: "unavailable", reason: "Kafka: cut" };
  };
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "KafkaUnavailable" });
  log.topics.createTopic = create;
  // The broker that is asked does not know of it yet.
  log.topics.describeTopics = async () => ({ kind: "done", value: new Map() });
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "KafkaUnavailable" });
  log.topics.describeTopics = describe;
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ ready: true });
});

test("a Topic that is deleted before its topic was recorded leaves no claim on the name", async () => {
  await catalog.begin("shop/orders", "shop.orders");
  await reconciler.delete("shop/orders", "Delete");
  log.createTopicNow("shop.orders", 1);
  await nextOperator();
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "NotOurs" });
});

test("a mark is for the name that it names, also when the spec has another by then", async () => {
  await catalog.begin("shop/orders", "shop.orders");
  log.createTopicNow("shop.theirs", 1);
  await nextOperator();
  expect(await reconciler.apply(topic({ kafkaTopic: "shop.theirs" }), owner)).toMatchObject({
    reason: "NotOurs",
  });
});

test("a topic that somebody else made at the same moment is not taken, then or later", async () => {
  const create = log.topics.createTopic.bind(log.topics);
  log.topics.createTopic = (wanted) => {
    log.createTopicNow(wanted.name, 5);
    return create(wanted);
  };
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({
    ready: false,
    reason: "TOPIC_ALREADY_EXISTS",
  });
  await nextOperator();
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({ reason: "NotOurs" });
});

test("settings that the spec does not have return to the default; throttles of a move are left alone", async () => {
  await reconciler.apply(topic({ retention: { time: "7d", size: "1Gi" } }), owner);
  const throttle = { "leader.replication.throttled.replicas": "0:1" };
  await log.admin.changeSettings("shop.orders", { ...throttle, "cleanup.policy": "compact" }, []);
  await reconciler.apply(
    topic({ retention: { time: "36h" }, limits: { maxEventBytes: "2Mi" } }),
    owner,
  );
  expect(await log.admin.settings("shop.orders")).toEqual({
    kind: "done",
    value: {
      ...throttle,
      "retention.ms": String(36 * 3_600_000),
      "max.message.bytes": String(2 * 1024 * 1024 + 64 * 1024),
    },
  });
  expect(catalog.records.get("shop/orders")?.maxEventBytes).toBe(2 * 1024 * 1024);
});

test("a Topic that is as it should be is written nowhere", async () => {
  await reconciler.apply(topic({ retention: { time: "7d" } }), owner);
  const end = async () => {
    const info = await infoOf("_throughline.test.catalog");
    return info && (await log.offset(info, 0, "latest"));
  };
  const before = await end();
  log.topics.changeSettings = () => {
    throw new Error("nothing is to change");
  };
  expect(await reconciler.apply(topic({ retention: { time: "7d" } }), owner)).toMatchObject({
    ready: true,
  });
  expect(await end()).toEqual(before);
});

test("partitions that somebody added are served and told, and are refused where the order is total", async () => {
  await reconciler.apply(topic({}), owner);
  await reconciler.apply(topic({ ordering: "Total" }, "quakes"), owner);
  await log.admin.createPartitions("shop.orders", 2);
  await log.admin.createPartitions("shop.quakes", 2);
  expect(await reconciler.apply(topic({}), owner)).toMatchObject({
    ready: false,
    reason: "MorePartitions",
    partitions: 2,
  });
  expect(catalog.records.get("shop/orders")).toMatchObject({ state: 1, partitions: 2 });
  const total = await reconciler.apply(topic({ ordering: "Total" }, "quakes"), owner);
  expect(total).toMatchObject({ ready: false, reason: "MorePartitions", partitions: 2 });
  expect(catalog.records.get("shop/quakes")).toMatchObject({ partitions: 1 });
});

test("other replicas than the spec's are told with the way out", async () => {
  await reconciler.apply(topic({}), owner);
  const status = await reconciler.apply(topic({ replicas: 3 }), owner);
  expect(status).toMatchObject({ ready: false, reason: "ReplicasDiffer", replicas: 1 });
  expect(status.message).toContain("spec.replicas to 1");
  expect(catalog.records.get("shop/orders")?.state).toBe(1);
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

test("a retained topic is kept from other Topics as long as it is there", async () => {
  await reconciler.apply(topic({ kafkaTopic: "shop.all" }), owner);
  await reconciler.delete("shop/orders", "Retain");
  const other = topic({ kafkaTopic: "shop.all" }, "other");
  const refused = await reconciler.apply(other, owner);
  expect(refused).toMatchObject({ ready: false, reason: "Conflict", topicId: "" });
  expect(refused.message).toContain("retained for Topic shop/orders");
  log.topics.remove("shop.all");
  expect(await reconciler.apply(other, owner)).toMatchObject({ ready: true });
  // Its first owner comes back: its data is gone, and the name is another's.
  expect(await reconciler.apply(topic({ kafkaTopic: "shop.all" }), owner)).toMatchObject({
    reason: "Conflict",
  });
});

test("a Topic that comes back under another Kafka name does not lose sight of its data", async () => {
  await reconciler.apply(topic({}), owner);
  const id = (await infoOf("shop.orders"))?.id as string;
  await reconciler.delete("shop/orders", "Retain");
  const renamed = topic({ kafkaTopic: "shop.fresh" });
  const status = await reconciler.apply(renamed, owner);
  expect(status).toMatchObject({ ready: false, reason: "OtherKafkaTopic", topicId: id });
  expect(catalog.records.get("shop/orders")?.state).toBe(3);
  expect(await infoOf("shop.fresh")).toBeUndefined();
  log.createTopicNow("shop.fresh", 1);
  expect(await reconciler.apply(accepting(renamed, id), owner)).toMatchObject({
    reason: "NotOurs",
  });
  log.topics.remove("shop.fresh");
  expect(await reconciler.apply(accepting(renamed, id), owner)).toMatchObject({ ready: true });
  expect((await infoOf("shop.orders"))?.id).toBe(id);
});

test("deleting the loser of a conflict touches nothing, and it may win when the winner goes", async () => {
  await reconciler.apply(topic({ kafkaTopic: "shop.all" }, "first"), owner);
  const second = topic({ kafkaTopic: "shop.all" }, "second");
  await reconciler.apply(second, owner);
  await reconciler.delete("shop/second", "Delete");
  expect(await infoOf("shop.all")).toBeDefined();
  await reconciler.delete("shop/first", "Delete");
  expect(await reconciler.apply(second, owner)).toMatchObject({ ready: true });
});

test("a deletion that Kafka cannot do now is not done, and says why", async () => {
  await reconciler.apply(topic({}), owner);
  const deleteTopic = log.topics.deleteTopic.bind(log.topics);
  log.topics.deleteTopic = async () => ({ kind: "unavailable", reason: "Kafka: no broker" });
  expect(await reconciler.delete("shop/orders", "Delete")).toEqual({
    ...{ reason: "KafkaUnavailable", message: "Kafka: no broker" },
  });
  expect(catalog.records.has("shop/orders")).toBe(true);
  log.topics.deleteTopic = deleteTopic;
  await reconciler.delete("shop/orders", "Delete");
  expect(await infoOf("shop.orders")).toBeUndefined();
});

test("Delete removes the Kafka topic of the recorded id only", async () => {
  await reconciler.apply(topic({}), owner);
  const newer = log.recreate("shop.orders");
  await reconciler.delete("shop/orders", "Delete");
  expect((await infoOf("shop.orders"))?.id).toBe(newer.id);
  expect(catalog.records.has("shop/orders")).toBe(false);
});

test("what was made and never recorded goes with its Topic when it is empty, and stays when it is not", async () => {
  await catalog.begin("shop/orders", "shop.orders");
  log.createTopicNow("shop.orders", 2);
  await catalog.begin("shop/full", "shop.full");
  log.createTopicNow("shop.full", 2);
  const event = { key: null, value: Buffer.from("e"), headers: [], timeMs: 1 };
  log.appendNow("shop.full", 1, [event]);
  await nextOperator();
  for (const name of ["shop/orders", "shop/full"])
    expect(await reconciler.delete(name, "Delete")).toBeUndefined();
  expect([await infoOf("shop.orders"), (await infoOf("shop.full"))?.partitions]).toEqual([
    undefined,
    2,
  ]);
  expect(catalog.begun.size).toBe(0);
});

test.each([
  [
    "refused",
    { kind: "refused", error: "POLICY_VIOLATION", reason: "Too few." },
    "POLICY_VIOLATION",
  ],
  ["unauthorised", { kind: "unauthorised", reason: "Kafka: denied" }, "NotAuthorised"],
  ["unreachable", { kind: "unavailable", reason: "Kafka: no broker" }, "KafkaUnavailable"],
] as const)("%s: a stable reason, and Kafka's own sentence", async (_what, outcome, reason) => {
  log.topics.createTopic = async () => outcome;
  const status = await reconciler.apply(topic({}), owner);
  expect(status).toMatchObject({ ready: false, reason, topicId: "" });
  expect(status.message).toContain(outcome.reason);
});

test("who is the leader no more does nothing in Kafka", async () => {
  const thawed = new Reconciler(log, catalog, { mayAct: () => false });
  expect(await thawed.apply(topic({}), owner)).toMatchObject({ reason: "Superseded" });
  expect(await infoOf("shop.orders")).toBeUndefined();
  await reconciler.apply(topic({}), owner);
  const deleted = await thawed.delete("shop/orders", "Delete");
  expect(deleted?.reason).toBe("Superseded");
  expect(await infoOf("shop.orders")).toBeDefined();
});
