/**
 * Of three brokers one dies under running streams: the one that leads what is read and published; or each in turn,
 * after servers, under a named publisher of thousands of events, of which kafkajs then finds each once and in order.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import { readCommitted } from "../kafka/witness.ts";
import { Load, LoneBed, SLOW_MS } from "./bed.ts";
import { Counting, expectExactlyOnce } from "./counting.ts";
import { Publisher } from "./publisher.ts";
import { EARLIEST } from "./subscriber.ts";
import { until } from "./waits.ts";

let bed: LoneBed;

beforeAll(async () => {
  bed = await LoneBed.open({ nodes: 3 });
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
      await until(async () => (await leaderOf(topic, 0).catch(() => before)) !== before);
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

test(
  "servers are killed in turn, and each broker once: every number is in the log once, in order",
  async () => {
    const topic = await bed.topic("counted", { partitions: 3, replicas: 3 });
    const servers = [await bed.server(["counted"]), await bed.server(["counted"])];
    const addresses = servers.map(({ address }) => address);
    const counting = new Counting(addresses, "counted", "counter");
    await counting.more(500);
    for (const [i, server] of [...servers, ...servers].entries()) {
      await servers[i % 2]?.kill();
      await counting.more(300);
      servers[i % 2] = await bed.server(["counted"], "--listen", server.address);
      await counting.more(100);
    }
    for (const node of [1, 2, 3]) {
      await bed.kafka.kill(node);
      await counting.more(300);
      await bed.kafka.startNode(node);
      await counting.more(300);
    }
    expect(await counting.stop()).toBeUndefined();
    expectExactlyOnce(await readCommitted(bed.log, bed.part.kafkajs(), topic), [counting]);
    expect(counting.acknowledged.length).toBeGreaterThan(3500);
    expect(counting.breaks.length).toBeGreaterThan(1);
    // The server that came first made the topic of the numbers.
    const topics = await bed.log.admin.listTopics();
    expect(topics.kind === "done" && topics.value).toContain(
      `_throughline.${bed.part.name}.publishers`,
    );
  },
  2 * SLOW_MS,
);

/** What kafkajs hears of a topic's partitions, from the brokers that live. */
async function partitionsOf(topic: TopicInfo) {
  const admin = bed.part.kafkajs().admin();
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
