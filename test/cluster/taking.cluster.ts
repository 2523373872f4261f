/** P9 on a real API server and Kafka: whose a Kafka topic is, when it changes hands, and when it was lost. */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { Kafka, logLevel, Partitioners } from "kafkajs";
import type { TopicInfo } from "../../kafka/log.ts";
import { CatalogReader } from "../../operator/catalog-reader.ts";
import { until } from "../story/waits.ts";
import { isReady, readyOf, SLOW_MS, TopicBed } from "./topic-bed.ts";

let bed: TopicBed;

beforeAll(async () => {
  bed = await TopicBed.start();
}, SLOW_MS);

afterEach(() => bed.killAll());

afterAll(() => bed?.stop(), SLOW_MS);

test(
  "of two Topics with one Kafka topic the first keeps it; the loser's end touches nothing; the winner's hands it over",
  async () => {
    await bed.namespace("clash");
    bed.operator("clash", "--namespaces", "clash");
    const spec = { kafkaTopic: "clash.all", deletionPolicy: "Delete" } as const;
    await bed.apply("clash/winner", spec);
    await bed.untilReady("clash/winner");
    const { id } = (await bed.kafkaTopic("clash.all")) ?? {};
    await bed.apply("clash/loser", spec);
    await bed.untilReason("clash/loser", "Conflict");
    expect(readyOf(await bed.topic("clash/loser"))?.message).toContain(
      "held by Topic clash/winner",
    );
    expect(await bed.told("clash/loser", 1)).toEqual(["Warning Conflict"]);
    await bed.delete("clash/loser");
    await bed.untilGone("clash/loser");
    expect((await bed.kafkaTopic("clash.all"))?.id).toBe(id);
    await bed.apply("clash/next", spec);
    await bed.untilReason("clash/next", "Conflict");
    await bed.delete("clash/winner");
    await bed.untilReady("clash/next");
    expect((await bed.kafkaTopic("clash.all"))?.id).not.toBe(id);
    expect((await bed.told("clash/next", 2)).at(-1)).toBe("Normal Ready");
  },
  SLOW_MS,
);

test(
  "of Topics that wait for an operator together the older has the Kafka topic",
  async () => {
    await bed.namespace("age");
    // By name the younger one is first.
    await bed.apply("age/z-old", { kafkaTopic: "age.all" });
    const second = (time = ""): string => time.slice(0, 19);
    const born = second((await bed.topic("age/z-old")).metadata.creationTimestamp);
    // Times of creation are whole seconds.
    await until(async () => second(new Date().toISOString()) > born);
    await bed.apply("age/a-young", { kafkaTopic: "age.all" });
    bed.operator("age", "--namespaces", "age");
    await bed.untilReady("age/z-old");
    await bed.untilReason("age/a-young", "Conflict");
  },
  SLOW_MS,
);

test(
  "a topic that exists is adopted by the allow-list only, and goes with its Topic only when that is said twice",
  async () => {
    await bed.namespace("adopt");
    await bed.namespace("thief");
    const theirs = await bed.makeKafkaTopic("legacy", { "retention.ms": "-1" });
    bed.operator("adopt", "--namespaces", "adopt,thief", "--allowed-kafka-topics", "adopt/legacy");
    const spec = { kafkaTopic: "legacy", deletionPolicy: "Delete" } as const;
    await bed.apply("thief/t", spec);
    await bed.untilReason("thief/t", "NameNotAllowed");
    await bed.apply("adopt/t", spec);
    await bed.untilReason("adopt/t", "SettingsDiffer");
    await bed.patch("adopt/t", { spec: { retention: { time: "365d" } } });
    await bed.untilReady("adopt/t");
    expect((await bed.topic("adopt/t")).status).toMatchObject({
      topicId: theirs.id,
      adopted: true,
    });
    await bed.delete("adopt/t");
    await bed.untilGone("adopt/t");
    expect((await bed.kafkaTopic("legacy"))?.id).toBe(theirs.id);
    await bed.apply("adopt/t", { ...spec, retention: { time: "365d" } });
    await bed.untilReady("adopt/t");
    await bed.annotate("adopt/t", { "throughline.dev/delete-adopted": theirs.id });
    await bed.delete("adopt/t");
    await bed.untilGone("adopt/t");
    expect(await bed.kafkaTopic("legacy")).toBeUndefined();
  },
  SLOW_MS,
);

test(
  "Retain keeps the Kafka topic, and the same name takes it back, over another operator too",
  async () => {
    await bed.namespace("keep");
    bed.operator("keep", "--namespaces", "keep");
    await bed.apply("keep/t", {});
    await bed.untilReady("keep/t");
    const { id } = (await bed.kafkaTopic("keep.t")) ?? {};
    await bed.delete("keep/t");
    await bed.untilGone("keep/t");
    await bed.apply("keep/t", { partitions: 2 });
    await bed.untilReady("keep/t");
    expect(await bed.kafkaTopic("keep.t")).toMatchObject({ id, partitions: 2 });
    await bed.killAll();
    await bed.delete("keep/t");
    await bed.apply("keep/t", { partitions: 2 });
    // The Lease of one that was killed lasts for some time.
    bed.operator("keep", "--namespaces", "keep", "--lease-name", "keep-anew");
    await bed.untilReady("keep/t");
    expect(await bed.kafkaTopic("keep.t")).toMatchObject({ id });
  },
  SLOW_MS,
);

test(
  "a Kafka topic that somebody deleted is DataLost until the loss is accepted by its id",
  async () => {
    await bed.namespace("lost");
    bed.operator("lost", "--namespaces", "lost");
    await bed.apply("lost/t", {});
    await bed.untilReady("lost/t");
    const id = (await bed.kafkaTopic("lost.t"))?.id as string;
    await bed.deleteKafkaTopic("lost.t");
    await bed.untilReason("lost/t", "DataLost");
    const { conditions } = (await bed.topic("lost/t")).status ?? {};
    expect(conditions).toContainEqual(
      expect.objectContaining({ type: "DataLost", status: "True" }),
    );
    await bed.annotate("lost/t", { "throughline.dev/accept-loss": "0".repeat(32) });
    await bed.untilReason("lost/t", "DataLost");
    expect(await bed.kafkaTopic("lost.t")).toBeUndefined();
    await bed.annotate("lost/t", { "throughline.dev/accept-loss": id });
    await bed.untilReady("lost/t");
    const { status } = await bed.topic("lost/t");
    expect(status?.topicId).not.toBe(id);
    expect(await bed.told("lost/t", 2)).toEqual(["Warning DataLost", "Normal Ready"]);
  },
  SLOW_MS,
);

test(
  "what one deployment holds is a conflict for another on the same Kafka; a lost catalog is made anew from statuses",
  async () => {
    await bed.namespace("here");
    bed.operator("here", "--namespaces", "here", "--lease-name", "here");
    await bed.apply("here/t", { kafkaTopic: "here.t" }, { labels: { of: "here" } });
    await bed.untilReady("here/t");
    const { id } = (await bed.kafkaTopic("here.t")) ?? {};
    await bed.namespace("there");
    const allow = ["--allowed-kafka-topics", "here.*"];
    bed.operator("there", "--namespaces", "there", "--lease-name", "there", ...allow);
    await bed.apply("there/t", { kafkaTopic: "here.t" });
    await bed.untilReason("there/t", "Conflict");
    expect(readyOf(await bed.topic("there/t"))?.message).toContain('of deployment "here"');
    await bed.killAll();
    await bed.deleteKafkaTopic("_throughline.here.catalog");
    bed.operator("here", "--namespaces", "here", "--lease-name", "here-anew");
    await bed.patch("here/t", { spec: { partitions: 2 } });
    await bed.until("here/t", (topic) => isReady(topic) && topic?.status?.partitions === 2);
    expect(await bed.kafkaTopic("here.t")).toMatchObject({ id, partitions: 2 });
  },
  SLOW_MS,
);

test(
  "a catalog record that somebody takes away is there again on the period, without a restart",
  async () => {
    await bed.namespace("look");
    bed.operator("look", "--namespaces", "look");
    await bed.apply("look/t", {});
    await bed.untilReady("look/t");
    const name = "_throughline.look.catalog";
    const client = new Kafka({ brokers: bed.kafka.brokers, logLevel: logLevel.NOTHING });
    const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    await producer.send({ topic: name, messages: [{ key: "look/t", value: null }] });
    await producer.disconnect();
    const catalog = new CatalogReader(bed.log, (await bed.kafkaTopic(name)) as TopicInfo);
    await catalog.read();
    expect(catalog.records.has("look/t")).toBe(false);
    await until(async () => {
      await catalog.read();
      return catalog.records.has("look/t");
    }, 1000);
    const id = catalog.records.get("look/t")?.topicId.toString("hex");
    expect(id).toBe((await bed.topic("look/t")).status?.topicId);
  },
  SLOW_MS,
);
