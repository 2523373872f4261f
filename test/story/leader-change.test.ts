/** Of three brokers one dies under a running stream: the one that leads what is read and published. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Kafka, logLevel } from "kafkajs";
import type { TopicInfo } from "../../kafka/log.ts";
import { Bed, Load, SLOW_MS } from "./bed.ts";
import { Publisher } from "./publisher.ts";
import { EARLIEST } from "./subscriber.ts";
import { until } from "./waits.ts";

let bed: Bed;

beforeAll(async () => {
  bed = await Bed.open({ nodes: 3 });
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

test(
  "P1 P2 P3 P7: the leader is killed in mid-stream, three times over: streams and publishes go on",
  async () => {
    const topic = await bed.topic("orders", { partitions: 2, replicas: 3 });
    const server = await bed.server(["orders"]);
    const publisher = new Publisher([server.address], "orders");
    const options = { topic: "orders", start: EARLIEST };
    const live = bed.subscriber([server.address], options);
    const slow = bed.subscriber([server.address], { ...options, creditEvents: 50 });
    const load = new Load(publisher.publish);
    await live.has(500);
    for (let kill = 0; kill < 3; kill++) {
      const before = await leaderOf(topic, 0);
      const acknowledged = publisher.acknowledged.length;
      await bed.kafka.kill(before);
      await live.has(live.seen.length + 500);
      expect(await leaderOf(topic, 0)).not.toBe(before);
      expect(publisher.acknowledged.length).toBeGreaterThan(acknowledged);
      await bed.kafka.startNode(before);
      await inSync(topic, 3);
    }
    await load.stop();
    const log = await bed.expectWhole(topic, [live, slow]);
    publisher.expectKept(log);
    // Nobody had to open again.
    expect([live.breaks, slow.breaks]).toEqual([[], []]);
    publisher.close();
  },
  SLOW_MS,
);

/** What kafkajs hears of a topic's partitions, from the brokers that live. */
async function partitionsOf(topic: TopicInfo) {
  const kafka = new Kafka({ brokers: [...bed.kafka.brokers], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic.name] });
  await admin.disconnect();
  return topics[0]?.partitions ?? [];
}

async function leaderOf(topic: TopicInfo, partition: number): Promise<number> {
  const found = (await partitionsOf(topic)).find(({ partitionId }) => partitionId === partition);
  return found?.leader ?? -1;
}

function inSync(topic: TopicInfo, replicas: number): Promise<void> {
  return until(async () => (await partitionsOf(topic)).every(({ isr }) => isr.length === replicas));
}
