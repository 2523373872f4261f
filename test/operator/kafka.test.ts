/** P9 on Apache Kafka: what only a real broker can show of create, settings, growth, loss and deletion. */
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Kafka } from "kafkajs";
import type { Log } from "../../kafka/log.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import type { TopicResource } from "../../operator/validate.ts";
import { KafkaPart } from "../kafka-part.ts";
import { until } from "../story/waits.ts";

const SLOW_MS = 240_000;
const VISIBLE_WITHIN_MS = 10_000;
const owner = { uid: "u1", generation: 1, clusterUid: "c1" };

let kafka: KafkaPart;
let log: Log;
let catalog: CatalogWriter;
let reconciler: Reconciler;
/** Looks and meddles from outside. */
let witness: ReturnType<Kafka["admin"]>;

beforeAll(async () => {
  kafka = await KafkaPart.open();
  log = kafka.openLog();
  catalog = await CatalogWriter.open(log, kafka.name, Date.now, "c1");
  reconciler = new Reconciler(log, catalog);
  witness = kafka.kafkajs().admin();
  await witness.connect();
}, SLOW_MS);

afterAll(async () => {
  await witness?.disconnect();
  await catalog?.close();
  await log?.close();
  await kafka?.close();
}, SLOW_MS);

/** Brokers hear of it a moment after who asked for it. */
async function deletedByHand(name: string): Promise<void> {
  await witness.deleteTopics({ topics: [kafka.own(name)] });
  await until(async () => !(await witness.listTopics()).includes(kafka.own(name)));
}

function topic(name: string, spec: TopicSpec, annotations = {}): TopicResource {
  return { metadata: { name, namespace: kafka.name, annotations }, spec };
}

/** The broker's view follows a change of settings after a moment: looks until it is there, for a while. */
async function expectSettings(of: string, settings: Record<string, string>): Promise<void> {
  const name = kafka.own(of);
  const deadline = performance.now() + VISIBLE_WITHIN_MS;
  for (;;) {
    const found = await log.admin.settings(name);
    if (found.kind !== "done") throw new Error(found.reason);
    if (isDeepStrictEqual({ ...found.value }, settings)) return;
    if (performance.now() > deadline) expect(found.value).toEqual(settings);
  }
}

async function partitionsOf(of: string): Promise<number> {
  const name = kafka.own(of);
  const { topics } = await witness.fetchTopicMetadata({ topics: [name] });
  return topics[0]?.partitions.length ?? 0;
}

test("a Topic is made as its spec says, and a second look changes nothing", async () => {
  const orders = topic("orders", {
    partitions: 3,
    replicas: 1,
    retention: { time: "36h", size: "10Gi" },
    config: { "min.insync.replicas": "1" },
    limits: { maxEventBytes: "2Mi" },
  });
  const status = await reconciler.apply(orders, owner);
  expect(status).toMatchObject({ ready: true, partitions: 3, replicas: 1 });
  expect(await partitionsOf("orders")).toBe(3);
  await expectSettings("orders", {
    "retention.ms": "129600000",
    "retention.bytes": "10737418240",
    "min.insync.replicas": "1",
    "max.message.bytes": "2162688",
  });
  expect(await reconciler.apply(orders, owner)).toEqual(status);
});

test(
  "more partitions, changed and removed settings reach Kafka; what a person set is undone",
  async () => {
    await reconciler.apply(topic("grows", { config: { "flush.ms": "50" } }), owner);
    const theirs = await kafka.java("kafka.admin.ConfigCommand", [
      ...["--bootstrap-server", kafka.brokers[0] as string, "--alter", "--entity-type", "topics"],
      ...["--entity-name", kafka.own("grows"), "--add-config", "cleanup.policy=compact"],
    ]);
    expect(theirs).toMatchObject({ code: 0 });
    const made = { "max.message.bytes": "1114112", "flush.ms": "50" };
    await expectSettings("grows", { ...made, "cleanup.policy": "compact" });
    const changed = topic("grows", { partitions: 4, retention: { time: "1d" } });
    expect(await reconciler.apply(changed, owner)).toMatchObject({ ready: true, partitions: 4 });
    expect(await partitionsOf("grows")).toBe(4);
    await expectSettings("grows", {
      "retention.ms": "86400000",
      "max.message.bytes": String(1024 * 1024 + 64 * 1024),
    });
  },
  SLOW_MS,
);

test.each([
  ["more replicas than brokers", { replicas: 3 }, "INVALID_REPLICATION_FACTOR", /replication/i],
  ["an unknown setting", { config: { "no.such": "1" } }, "INVALID_CONFIG", /no\.such/],
])(
  "%s is said in Kafka's words, nothing is made, and a correction is enough",
  async (_, spec, reason, words) => {
    const status = await reconciler.apply(topic("refused", spec), owner);
    expect(status).toMatchObject({ ready: false, reason, topicId: "", partitions: 0 });
    expect(status.message).toMatch(words);
    expect(await witness.listTopics()).not.toContain(kafka.own("refused"));
    expect(await reconciler.apply(topic("refused", {}), owner)).toMatchObject({ ready: true });
    await reconciler.delete(`${kafka.name}/refused`, "Delete");
    expect(await witness.listTopics()).not.toContain(kafka.own("refused"));
  },
);

test("a topic that somebody recreated is DataLost, is not deleted, and goes on when the loss is accepted", async () => {
  const { topicId: lost } = await reconciler.apply(topic("lost", {}), owner);
  await deletedByHand("lost");
  await witness.createTopics({ topics: [{ topic: kafka.own("lost"), numPartitions: 1 }] });
  const status = await reconciler.apply(topic("lost", {}), owner);
  expect(status).toMatchObject({ ready: false, reason: "DataLost", topicId: lost });
  // Deleting the Topic now deletes by the recorded id: the newer topic is not it.
  await reconciler.delete(`${kafka.name}/lost`, "Delete");
  expect(await witness.listTopics()).toContain(kafka.own("lost"));
  expect(catalog.records.has(`${kafka.name}/lost`)).toBe(false);
});

test("a topic that is gone is DataLost, is not made again, and is made when the loss is accepted", async () => {
  const { topicId: lost } = await reconciler.apply(topic("gone", {}), owner);
  await deletedByHand("gone");
  expect(await reconciler.apply(topic("gone", {}), owner)).toMatchObject({ reason: "DataLost" });
  expect(await witness.listTopics()).not.toContain(kafka.own("gone"));
  const accepted = topic("gone", {}, { "throughline.dev/accept-loss": lost });
  const status = await reconciler.apply(accepted, owner);
  expect(status).toMatchObject({ ready: true, partitions: 1 });
  expect(status.topicId).not.toBe(lost);
});

test("Retain keeps events and id over a new operator; Delete removes the topic", async () => {
  const spec: TopicSpec = { partitions: 2 };
  const { topicId } = await reconciler.apply(topic("kept", spec), owner);
  await reconciler.delete(`${kafka.name}/kept`, "Retain");
  catalog = await CatalogWriter.open(log, kafka.name, Date.now, "c1");
  reconciler = new Reconciler(log, catalog);
  expect(await reconciler.apply(topic("kept", spec), owner)).toMatchObject({
    ready: true,
    topicId,
  });
  await reconciler.delete(`${kafka.name}/kept`, "Delete");
  expect(await witness.listTopics()).not.toContain(kafka.own("kept"));
});

test("a catalog of another cluster is refused, and its operator goes on", async () => {
  await reconciler.apply(topic("mine", {}), owner);
  await expect(CatalogWriter.open(log, kafka.name, Date.now, "c2")).rejects.toThrow(
    /belongs to "c1"/,
  );
  expect(await reconciler.apply(topic("mine", { partitions: 2 }), owner)).toMatchObject({
    ready: true,
  });
});
