/** PublishStream without a publisher's name, over real gRPC on the log in memory (P1, P7, P10). */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { makeLogger } from "../../process/logger.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { catalogTopicName } from "../../sidecar/catalog-follower.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS, type Limits } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";
import { PublisherStream } from "./publisher-stream.ts";

let held: (() => void)[] | undefined;
let log: MemoryLog;
let catalog: TopicInfo;
let orders: TopicInfo;
const closing: (() => unknown)[] = [];

beforeEach(() => {
  held = undefined;
  log = new MemoryLog({
    schedule: (deliver) => (held ? held.push(deliver) : queueMicrotask(deliver)),
  });
  catalog = log.createTopicNow(catalogTopicName("local"), 1);
  orders = log.createTopicNow("shop.orders", 1);
  record("orders", orders, 1);
  record("ledger", log.createTopicNow("shop.ledger", 1), 3);
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await log.close();
});

function record(name: string, topic: TopicInfo, ordering: 1 | 3): void {
  const value = CatalogRecord.encode({
    ...{ formatVersion: 1, namespace: "shop", name, ownerUid: "u", ownerGeneration: 1n },
    ...{ state: 1, kafkaTopic: topic.name, topicId: Buffer.from(topic.id, "hex") },
    ...{ partitions: topic.partitions, ordering, outbox: "", maxEventBytes: 1000 },
    ...{ publishNamespaces: [], subscribeNamespaces: [], clusterUid: "" },
    ...{ takenAtMs: 0n, adopted: false },
  }).finish();
  const key = Buffer.from(`shop/${name}`);
  log.appendNow(catalog.name, 0, [{ key, value: Buffer.from(value), headers: [], timeMs: 1 }]);
}

async function start(
  limits: Partial<Limits> = {},
  shape: Config["shape"] = "gateway",
): Promise<RunningServer> {
  const server = await startServer(
    {
      ...{ listen: "127.0.0.1:0", healthListen: undefined, shape, tls: undefined },
      ...{ kafka: { brokers: [], tls: undefined, sasl: undefined }, deploymentId: "local" },
      ...{ clusterUid: undefined, sessionStore: undefined, namespace: "shop" },
      ...{ serverName: "A", logLevel: "silent" },
      limits: { ...DEFAULT_LIMITS, drainMs: 5000, requestEvents: 100, ...limits },
    },
    log,
    makeLogger("silent", "A"),
  );
  closing.push(() => server.close());
  return server;
}

function streamTo({ address }: RunningServer): PublisherStream {
  const stream = new PublisherStream(address);
  closing.push(() => stream.close());
  return stream;
}

async function values(): Promise<string[]> {
  const reader = log.openReader(orders, 0);
  const fetched = await reader.fetch({ offset: 0, epoch: -1 }, 1 << 30, 0);
  if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
  return recordsOf(fetched, 0).records.map(({ value }) => String(value));
}

test("P1: events are appended as they come and answered in order; every stream begins at 1", async () => {
  const server = await start();
  for (const text of ["a", "b"]) {
    const stream = streamTo(server).open("").events(1, `${text}1`, `${text}2`);
    stream.events(3, `${text}3`).end();
    expect(await stream.answers(3)).toEqual(["1: position", "2: position", "3: position"]);
    expect(await stream.opened()).toEqual({ lastNumber: 0n, lastInstance: "" });
    await stream.ends();
  }
  expect(await values()).toEqual(["a1", "a2", "a3", "b1", "b2", "b3"]);
});

test("nothing is kept of it: no topic of last numbers is made", async () => {
  const stream = streamTo(await start())
    .open("")
    .events(1, "a");
  await stream.answers(1);
  const found = await log.admin.describeTopics(["_throughline.local.publishers"]);
  expect(found.kind === "done" && found.value.size).toBe(0);
});

test("P10: a bad event takes its number, and harms no other", async () => {
  const large = "x".repeat(1001);
  const header = { headers: [{ key: "tl-x", value: Buffer.alloc(0) }] };
  const stream = streamTo(await start())
    .open("")
    .events(1, "a", large, "b", header)
    .events(5, "c");
  expect(await stream.answers(5)).toEqual([
    ...["1: position", "2: PAYLOAD_TOO_LARGE", "3: position", "4: INVALID_REQUEST", "5: position"],
  ]);
  expect(await values()).toEqual(["a", "b", "c"]);
});

test.each([
  [1, "repeats"],
  [4, "jumps"],
])("a number (%i) that %s ends the stream after the answers to all before it", async (number) => {
  const stream = streamTo(await start())
    .open("")
    .events(1, "a", "b")
    .events(number, "wrong")
    .events(3, "after it");
  expect(await stream.fails()).toMatchObject({
    name: "INVALID_REQUEST",
    message: `first_number: is ${number}; the next number is 3.`,
  });
  expect(await stream.answers(2)).toEqual(["1: position", "2: position"]);
  expect(await values()).toEqual(["a", "b"]);
});

test("P10: a topic that may not be published to ends the stream before opened", async () => {
  const server = await start();
  const ends = async (topic: string) => (await streamTo(server).open("", topic).fails()).name;
  expect(await ends("ledger")).toBe("COMMIT_TOPIC");
  expect(await ends("nowhere")).toBe("TOPIC_NOT_FOUND");
});

test("P7: a gateway that drains answers all that it has read, reads no more, and ends with DRAINING", async () => {
  const server = await start();
  const stream = streamTo(server).open("").events(1, "a");
  await stream.answers(1);
  held = [];
  stream.events(2, "b");
  while (held.length === 0) await new Promise((resolve) => setImmediate(resolve));
  server.beginDrain();
  stream.events(3, "c");
  const second = streamTo(server).open("");
  expect((await second.fails()).name).toBe("DRAINING");
  expect(stream.down.filter(({ $case }) => $case === "results")).toHaveLength(1);
  for (const deliver of held.splice(0)) deliver();
  expect((await stream.fails()).name).toBe("DRAINING");
  expect(await stream.answers(2)).toEqual(["1: position", "2: position"]);
  held = undefined;
  expect(await values()).toEqual(["a", "b"]);
});

test("P7: the library goes on elsewhere when its gateway drains: all is in the topic, once and in order", async () => {
  const [a, b] = [await start(), await start()];
  const client = new ThroughlineClient([a.address, b.address]);
  closing.push(() => client.close());
  const publish = (i: number) =>
    client.publish("orders", [
      { key: undefined, headers: [], type: "", timeMs: undefined, payload: Buffer.from(`${i}`) },
    ]);
  const calls: ReturnType<typeof publish>[] = [];
  for (let i = 0; i < 500; i++) {
    calls.push(publish(i));
    if (i === 250) a.beginDrain();
    if (i % 10 === 0) await calls[Math.max(0, i - 20)];
  }
  const results = (await Promise.all(calls)).flat();
  expect(results.map(({ result }) => result?.$case)).toEqual(calls.map(() => "position"));
  expect(await values()).toEqual(calls.map((_, i) => `${i}`));
});

test("a pod door that drains serves its app's publishers to the end", async () => {
  const server = await start({}, "pod");
  const stream = streamTo(server).open("").events(1, "a");
  await stream.answers(1);
  server.beginDrain();
  stream.events(2, "b");
  expect(await stream.answers(2)).toEqual(["1: position", "2: position"]);
});

test("where connections have an age, a stream ends in order within their grace", async () => {
  // Half of the grace is for what was sent before.
  const stream = streamTo(await start({ connectionAgeMs: 60_000, drainMs: 4000 })).open("");
  stream.events(1, "a");
  expect(await stream.answers(1)).toEqual(["1: position"]);
  expect((await stream.fails()).name).toBe("DRAINING");
});

test("heartbeats come while there is nothing else to say", async () => {
  const stream = streamTo(await start()).open("", "orders", "", 100);
  await stream.opened();
  await stream.heartbeats(2);
});
