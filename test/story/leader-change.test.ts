/**
 * Of three brokers each is killed once under running streams, publishes and a named publisher, the one that leads
 * first. kafkajs then finds each event once, in order.
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import { readCommitted } from "../kafka/witness.ts";
import { Load, LoneBed, SLOW_MS } from "./bed.ts";
import { Counting, expectExactlyOnce } from "./counting.ts";
import { Publisher } from "./publisher.ts";
import { EARLIEST } from "./subscriber.ts";
import { until } from "./waits.ts";

const NODES = [1, 2, 3];

let bed: LoneBed;

beforeAll(async () => {
  bed = await LoneBed.open({ nodes: 3 });
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

test(
  "P1 P2 P3 P7: each broker is killed in mid-stream, the leader first: streams and publishes go on, every number is in the log once, in order",
  async () => {
    const topic = await bed.topic("orders", { partitions: 2, replicas: 3 });
    const numbered = await bed.topic("numbered", { partitions: 3, replicas: 3 });
    const server = await bed.server(["orders", "numbered"]);
    const publisher = new Publisher([server.address], "orders");
    const counting = new Counting([server.address], "numbered", "counter");
    const options = { topic: "orders", start: EARLIEST };
    const live = bed.subscriber([server.address], options);
    const slow = bed.subscriber([server.address], { ...options, creditEvents: 50 });
    const load = new Load(publisher.publish);
    await live.has(500);
    await counting.more(300);
    const [first = 0] = await leadersOf(topic);
    for (const node of [first, ...NODES.filter((one) => one !== first)]) {
      const acknowledged = publisher.acknowledged.length;
      await bed.kafka.kill(node);
      await live.has(live.seen.length + 500);
      await counting.more(300);
      await until(async () => !(await leadersOf(topic).catch(() => [node])).includes(node));
      expect(publisher.acknowledged.length).toBeGreaterThan(acknowledged);
      await bed.kafka.startNode(node);
      await inSync(topic, 3);
      await inSync(numbered, 3);
    }
    await load.stop();
    const log = await bed.expectWhole(topic, [live, slow]);
    publisher.expectKept(log);
    // Nobody had to open again.
    expect([live.breaks, slow.breaks]).toEqual([[], []]);
    publisher.close();
    expect(await counting.stop()).toBeUndefined();
    expectExactlyOnce(await readCommitted(bed.log, bed.part.kafkajs(), numbered), [counting]);
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

/** By partition. */
async function leadersOf(topic: TopicInfo): Promise<number[]> {
  const partitions = await partitionsOf(topic);
  return partitions.toSorted((a, b) => a.partitionId - b.partitionId).map(({ leader }) => leader);
}

function inSync(topic: TopicInfo, replicas: number): Promise<void> {
  return until(async () => (await partitionsOf(topic)).every(({ isr }) => isr.length === replicas));
}
