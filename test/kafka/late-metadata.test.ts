/** Brokers hear of what was done by themselves, and under load late: what a topic that is not seen yet is taken for. */
import { afterAll, afterEach, beforeAll, expect, jest, test } from "@jest/globals";
import { KafkaAdmin } from "../../kafka/admin.ts";
import { Cluster } from "../../kafka/cluster.ts";
import { UNKNOWN_TOPIC_OR_PARTITION } from "../../kafka/failures.ts";
import { listOffset } from "../../kafka/list-offsets.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import { KafkaPart } from "../kafka-part.ts";

let part: KafkaPart;
let topic: TopicInfo;
let cluster: Cluster;

beforeAll(async () => {
  part = await KafkaPart.open();
  const log = part.openLog();
  const asked = { name: part.own("late"), partitions: 1, replicas: 1, settings: {} };
  const made = await log.admin.createTopic(asked);
  if (made.kind !== "done") throw new Error(made.reason);
  topic = made.value;
  await log.close();
  cluster = new Cluster({ brokers: part.brokers, clientId: part.name });
}, 240_000);

afterEach(() => {
  jest.restoreAllMocks();
});

afterAll(async () => {
  await cluster?.close();
  await part?.close();
}, 240_000);

/** So many times whoever is asked has not heard of the topic. */
function late(times: number, onLook = (): void => {}): void {
  const { view } = Cluster.prototype;
  let looks = 0;
  jest.spyOn(cluster, "view").mockImplementation(async (names) => {
    onLook();
    const found = await view.call(cluster, names);
    if (looks++ >= times) return found;
    const missing = { errorCode: UNKNOWN_TOPIC_OR_PARTITION, id: "", partitions: [] };
    return { ...found, topics: new Map([...found.topics.keys()].map((name) => [name, missing])) };
  });
}

test("a topic of which a broker has not heard is asked for again, before it is gone", async () => {
  late(3);
  expect(await listOffset(cluster, topic, 0, "latest")).toMatchObject({
    kind: "offset",
    offset: 0,
  });
});

test("a topic of which no broker hears is gone", async () => {
  late(Number.POSITIVE_INFINITY);
  expect(await listOffset(cluster, topic, 0, "latest")).toEqual({ kind: "gone" });
});

test("a topic that is not seen to be made, or grown, in time: the step is not said to be done", async () => {
  const admin = new KafkaAdmin(cluster);
  const name = part.own("unseen");
  const { now } = performance;
  let laterMs = 0;
  jest.spyOn(performance, "now").mockImplementation(() => now.call(performance) + laterMs);
  late(Number.POSITIVE_INFINITY, () => {
    laterMs += 10_000;
  });
  const asked = { name, partitions: 1, replicas: 1, settings: {} };
  const reason = `Kafka: a step for topic ${name} is done, and no broker shows it after 15 s`;
  const unavailable = { kind: "unavailable", reason };
  expect(await admin.createTopic(asked)).toEqual(unavailable);
  expect(await admin.createPartitions(name, 2)).toEqual(unavailable);
});
