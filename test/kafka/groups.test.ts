/**
 * Offsets of groups without members, as both logs keep them, with kafkajs as the witness; and a group that has
 * members, which only brokers know. A coordinator that moves: outages.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Admin } from "kafkajs";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, Position, TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { KafkaPart } from "../kafka-part.ts";
import { committedOffsets } from "./witness.ts";

const SLOW_MS = 240_000;
const DONE = { kind: "done", value: undefined };

let part: KafkaPart;
let real: Log;
let admin: Admin;

beforeAll(async () => {
  part = await KafkaPart.open();
  real = part.openLog();
  admin = part.kafkajs().admin();
  await admin.connect();
  // The broker makes its topic of offsets when the first group is asked for; a slow machine takes its time.
  const { name } = await newTopic(real, "first", 1);
  while ((await real.groups.commit(part.own("first"), name, at(0))).kind === "unavailable");
}, SLOW_MS);

afterAll(async () => {
  await admin?.disconnect();
  await real?.close();
  await part?.close();
}, SLOW_MS);

function at(...offsets: number[]): Position[] {
  return offsets.map((offset) => ({ offset, epoch: 0 }));
}

async function newTopic(log: Log, name: string, partitions: number): Promise<TopicInfo> {
  const asked = { name: part.own(name), partitions, replicas: 1, settings: {} };
  const made = await log.admin.createTopic(asked);
  if (made.kind !== "done") throw new Error(JSON.stringify(made));
  return made.value;
}

const memory = new MemoryLog();

describe.each([
  [
    "in memory",
    (): Log => memory,
    async (group: string, topic: string) => memory.groups.committed(group, topic) ?? [],
  ],
  [
    "of Apache Kafka",
    (): Log => real,
    (group: string, topic: string) => committedOffsets(admin, group, topic),
  ],
])("groups %s", (_name, log, committed) => {
  test("a commit makes the group, the next one moves it, also back; others are untouched", async () => {
    // Percent signs and dots, as the mirror names its groups.
    const group = part.own("shop.orders.a%2Eb%20%C3%BC");
    const topic = await newTopic(log(), "commit", 2);
    const other = await newTopic(log(), "other", 1);
    expect(await log().groups.commit(group, topic.name, at(7, 0))).toEqual(DONE);
    expect(await log().groups.commit(group, other.name, at(3))).toEqual(DONE);
    expect(await log().groups.commit(`${group}2`, topic.name, at(9, 9))).toEqual(DONE);
    expect(await committed(group, topic.name)).toEqual([7, 0]);
    expect(await log().groups.commit(group, topic.name, at(5, 8))).toEqual(DONE);
    expect(await committed(group, topic.name)).toEqual([5, 8]);
    expect(await committed(group, other.name)).toEqual([3]);
    expect(await committed(`${group}2`, topic.name)).toEqual([9, 9]);
  }, 60_000);

  test("a position that was never read in has no epoch, and is committed as it is", async () => {
    const topic = await newTopic(log(), "epoch", 1);
    expect(
      await log().groups.commit(part.own("epoch"), topic.name, [{ offset: 4, epoch: -1 }]),
    ).toEqual(DONE);
    expect(await committed(part.own("epoch"), topic.name)).toEqual([4]);
  }, 60_000);

  test("a topic that is not there is refused, soon, and nothing is committed", async () => {
    const refused = await log().groups.commit(part.own("nowhere"), "no.such.topic", at(1));
    expect(refused).toMatchObject({ kind: "refused", error: "UNKNOWN_TOPIC_OR_PARTITION" });
  }, 4000);

  test("a deleted group has nothing; to delete it again changes nothing, to commit makes it anew", async () => {
    const topic = await newTopic(log(), "delete", 1);
    expect(await log().groups.commit(part.own("gone"), topic.name, at(5))).toEqual(DONE);
    expect(await log().groups.delete(part.own("gone"))).toEqual(DONE);
    expect(await committed(part.own("gone"), topic.name)).toEqual([]);
    expect(await log().groups.delete(part.own("gone"))).toEqual(DONE);
    expect(await log().groups.commit(part.own("gone"), topic.name, at(2))).toEqual(DONE);
    expect(await committed(part.own("gone"), topic.name)).toEqual([2]);
  }, 60_000);
});

test(
  "a group that has members keeps what they committed",
  async () => {
    const topic = await newTopic(real, "members", 1);
    const groupId = part.own("members");
    const consumer = part.kafkajs().consumer({ groupId });
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
