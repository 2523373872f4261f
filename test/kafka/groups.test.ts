/**
 * Offsets of groups without members, as both logs keep them, with kafkajs as the witness; and what only
 * brokers can do: a group that has members, a coordinator that moves or dies, Kafka's own tool.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Admin, Kafka, logLevel } from "kafkajs";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, Position, TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";

const SLOW_MS = 240_000;
const DONE = { kind: "done", value: undefined };
/** Percent signs and dots, as the mirror names its groups. */
const GROUP = "_throughline.test.shop.orders.a%2Eb%20%C3%BC";

let directory: string;
let kafka: EmbeddedKafka;
let real: Log;
let admin: Admin;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-groups-"));
  kafka = await startKafka({ directory, nodes: 3 });
  real = openKafkaLog({ brokers: kafka.brokers, clientId: "groups-test" });
  admin = new Kafka({ brokers: kafka.brokers, logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  // The brokers make their topic of offsets when the first group is asked for; a slow machine takes its time.
  const topic = await newTopic(real, "groups.first", 1);
  while ((await real.groups.commit("first", topic.name, at(0))).kind === "unavailable");
}, SLOW_MS);

afterAll(async () => {
  await admin?.disconnect();
  await real?.close();
  await kafka?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

function at(...offsets: number[]): Position[] {
  return offsets.map((offset) => ({ offset, epoch: 0 }));
}

async function newTopic(
  log: Log,
  name: string,
  partitions: number,
  replicas = 1,
): Promise<TopicInfo> {
  const made = await log.admin.createTopic({ name, partitions, replicas, settings: {} });
  if (made.kind !== "done") throw new Error(JSON.stringify(made));
  // Every broker hears of it by itself, and as a coordinator takes no offsets of a topic that it does not know. These
  // names are consecutive to Kafka's hash: one for each of the five partitions that hold groups.
  for (let i = 0; i < 5; i++) {
    while ((await log.groups.commit(`knows-${i}`, name, at(0))).kind !== "done");
  }
  return made.value;
}

/**
 * What kafkajs hears; empty when nothing is committed. Asked by the topic, kafkajs first wants a leader of each
 * of its partitions, and fails while a broker that led one is away: the group alone is asked for.
 */
async function witnessed(groupId: string, topic: string): Promise<number[]> {
  const all = await admin.fetchOffsets({ groupId });
  const found = all.find((one) => one.topic === topic);
  const sorted = (found?.partitions ?? []).toSorted((a, b) => a.partition - b.partition);
  return sorted.map(({ offset }) => Number(offset)).filter((offset) => offset >= 0);
}

const memory = new MemoryLog();

describe.each([
  [
    "in memory",
    (): Log => memory,
    async (group: string, topic: string) => memory.groups.committed(group, topic) ?? [],
  ],
  ["of Apache Kafka", (): Log => real, witnessed],
])("groups %s", (_name, log, committed) => {
  test("a commit makes the group, the next one moves it, also back; others are untouched", async () => {
    const topic = await newTopic(log(), "groups.commit", 2);
    const other = await newTopic(log(), "groups.other", 1);
    expect(await log().groups.commit(GROUP, topic.name, at(7, 0))).toEqual(DONE);
    expect(await log().groups.commit(GROUP, other.name, at(3))).toEqual(DONE);
    expect(await log().groups.commit(`${GROUP}2`, topic.name, at(9, 9))).toEqual(DONE);
    expect(await committed(GROUP, topic.name)).toEqual([7, 0]);
    expect(await log().groups.commit(GROUP, topic.name, at(5, 8))).toEqual(DONE);
    expect(await committed(GROUP, topic.name)).toEqual([5, 8]);
    expect(await committed(GROUP, other.name)).toEqual([3]);
    expect(await committed(`${GROUP}2`, topic.name)).toEqual([9, 9]);
  }, 60_000);

  test("a position that was never read in has no epoch, and is committed as it is", async () => {
    const topic = await newTopic(log(), "groups.epoch", 1);
    expect(await log().groups.commit("epoch", topic.name, [{ offset: 4, epoch: -1 }])).toEqual(
      DONE,
    );
    expect(await committed("epoch", topic.name)).toEqual([4]);
  }, 60_000);

  test("a topic that is not there is refused, soon, and nothing is committed", async () => {
    const refused = await log().groups.commit("nowhere", "no.such.topic", at(1));
    expect(refused).toMatchObject({ kind: "refused", error: "UNKNOWN_TOPIC_OR_PARTITION" });
  }, 4000);

  test("a deleted group has nothing; to delete it again changes nothing, to commit makes it anew", async () => {
    const topic = await newTopic(log(), "groups.delete", 1);
    expect(await log().groups.commit("gone", topic.name, at(5))).toEqual(DONE);
    expect(await log().groups.delete("gone")).toEqual(DONE);
    expect(await committed("gone", topic.name)).toEqual([]);
    expect(await log().groups.delete("gone")).toEqual(DONE);
    expect(await log().groups.commit("gone", topic.name, at(2))).toEqual(DONE);
    expect(await committed("gone", topic.name)).toEqual([2]);
  }, 60_000);
});

test(
  "a group that has members keeps what they committed",
  async () => {
    const topic = await newTopic(real, "groups.members", 1);
    const groupId = "members";
    const consumer = new Kafka({
      brokers: kafka.brokers,
      logLevel: logLevel.NOTHING,
    }).consumer({ groupId });
    const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
    await consumer.connect();
    await consumer.subscribe({ topic: topic.name });
    await consumer.run({ eachMessage: async () => {} });
    await joined;
    expect(await real.groups.commit(groupId, topic.name, at(5))).toMatchObject({
      kind: "refused",
      error: "UNKNOWN_MEMBER_ID",
    });
    expect(await real.groups.delete(groupId)).toMatchObject({
      kind: "refused",
      error: "NON_EMPTY_GROUP",
    });
    await consumer.disconnect();
  },
  SLOW_MS,
);

async function coordinatorOf(groupId: string): Promise<number> {
  const run = await tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", [
    ...["--describe", "--state", "--group", groupId],
  ]);
  return Number(/\((\d)\)/.exec(run)?.[1]);
}

async function tool(mainClass: string, args: readonly string[]): Promise<string> {
  const run = await kafka.java(mainClass, [
    ...["--bootstrap-server", kafka.brokers.join(",")],
    ...args,
  ]);
  if (run.code !== 0) throw new Error(run.stderr || run.stdout);
  return run.stdout;
}

test(
  "a coordinator that moves is followed: away from a broker that stops, and back to it",
  async () => {
    const topic = await newTopic(real, "groups.moves", 1, 3);
    const group = "moves";
    expect(await real.groups.commit(group, topic.name, at(1))).toEqual(DONE);
    const before = await coordinatorOf(group);
    // In order: its partitions are led elsewhere before it ends.
    process.kill(kafka.pid(before), "SIGTERM");
    for (let offset = 2; ; offset++) {
      expect(await real.groups.commit(group, topic.name, at(offset))).toEqual(DONE);
      expect(await witnessed(group, topic.name)).toEqual([offset]);
      if ((await coordinatorOf(group)) !== before) break;
    }
    for (let stopped = false; !stopped; ) {
      stopped = await kafka.startNode(before).then(
        () => true,
        () => false,
      );
    }
    const moved = await coordinatorOf(group);
    expect(await real.groups.commit(group, topic.name, at(50))).toEqual(DONE);
    for (let back = false; !back; back = (await coordinatorOf(group)) === before) {
      await tool("org.apache.kafka.tools.LeaderElectionCommand", [
        ...["--election-type", "preferred", "--all-topic-partitions"],
      ]).catch(() => {});
    }
    expect(moved).not.toBe(before);
    // The broker that is asked first lives, and is the wrong one.
    expect(await real.groups.commit(group, topic.name, at(60))).toEqual(DONE);
    expect(await witnessed(group, topic.name)).toEqual([60]);
  },
  SLOW_MS,
);

test("Kafka out of reach is unavailable within a finite time, and names the address", async () => {
  const nowhere = openKafkaLog({ brokers: ["127.0.0.1:1"], clientId: "nowhere" });
  for (const outcome of [
    await nowhere.groups.commit("g", "t", at(1)),
    await nowhere.groups.delete("g"),
  ]) {
    expect(outcome).toMatchObject({ kind: "unavailable" });
    expect("reason" in outcome && outcome.reason).toContain("127.0.0.1:1");
  }
  await nowhere.close();
}, 60_000);
