/** The client of named publishers against real doors on the log in memory. */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { NamedPublisherOptions, NumberedResult } from "../../client/named-publisher.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { makeLogger } from "../../process/logger.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { catalogTopicName } from "../../sidecar/catalog-follower.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";
import { PublisherStream } from "./publisher-stream.ts";

let log: MemoryLog;
let orders: TopicInfo;
const closing: (() => unknown)[] = [];

beforeEach(() => {
  log = new MemoryLog();
  const catalog = log.createTopicNow(catalogTopicName("local"), 1);
  orders = log.createTopicNow("shop.orders", 1);
  const value = CatalogRecord.encode({
    ...{ formatVersion: 1, namespace: "shop", name: "orders", ownerUid: "u", ownerGeneration: 1n },
    ...{ state: 1, kafkaTopic: orders.name, topicId: Buffer.from(orders.id, "hex") },
    ...{ partitions: 1, ordering: 1, outbox: "", maxEventBytes: 1000 },
    ...{ publishNamespaces: [], subscribeNamespaces: [], clusterUid: "" },
    ...{ takenAtMs: 0n, adopted: false },
  }).finish();
  const key = Buffer.from("shop/orders");
  log.appendNow(catalog.name, 0, [{ key, value: Buffer.from(value), headers: [], timeMs: 1 }]);
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await log.close();
});

async function start(listen = "127.0.0.1:0", requestBytes = 4 << 20): Promise<RunningServer> {
  const server = await startServer(
    {
      ...{ listen, healthListen: undefined, shape: "gateway", tls: undefined },
      ...{ kafka: { brokers: [], tls: undefined, sasl: undefined }, deploymentId: "local" },
      ...{
        clusterUid: undefined,
        sessionStore: undefined,
        namespace: "shop",
        serverName: "A",
        logLevel: "silent",
      },
      limits: { ...DEFAULT_LIMITS, drainMs: 5000, requestBytes },
    },
    log,
    makeLogger("silent", "A"),
  );
  closing.push(() => server.close());
  return server;
}

function publisher(servers: readonly RunningServer[], over: Partial<NamedPublisherOptions> = {}) {
  const client = new ThroughlineClient(servers.map(({ address }) => address));
  const made = client.namedPublisher({ topic: "orders", name: "p", ...over });
  closing.push(
    () => client.close(),
    () => made.close(),
  );
  return made;
}

function events(...payloads: string[]) {
  return payloads.map((text) => ({
    ...{ key: undefined, headers: [], type: "", timeMs: undefined },
    payload: Buffer.from(text),
  }));
}

function told(results: readonly NumberedResult[]): string[] {
  return results.map((result) =>
    "error" in result
      ? result.error.error
      : `${result.number}${result.position ? "" : " somewhere"}`,
  );
}

async function values(): Promise<string[]> {
  const reader = log.openReader(orders, 0);
  const fetched = await reader.fetch({ offset: 0, epoch: -1 }, 1 << 30, 0);
  if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
  return recordsOf(fetched, 0).records.map(({ value }) => String(value));
}

test("events of many calls are numbered in order, ahead of their answers", async () => {
  const one = publisher([await start()]);
  const calls = Array.from({ length: 50 }, (_, i) => one.publish(events(`${i}a`, `${i}b`)));
  const results = told((await Promise.all(calls)).flat());
  expect(results).toEqual(Array.from({ length: 100 }, (_, i) => String(i + 1)));
  expect(await values()).toEqual(Array.from({ length: 50 }, (_, i) => [`${i}a`, `${i}b`]).flat());
  expect(await one.lastNumber()).toBe(100n);
  expect(await one.publish([])).toEqual([]);
});

test("one event refused harms no other: those behind it are sent again, one number lower", async () => {
  const one = publisher([await start()]);
  const large = "x".repeat(1001);
  const first = one.publish(events("a", large, "b"));
  const second = one.publish(events(large, "c"));
  expect(told(await first)).toEqual(["1", "PAYLOAD_TOO_LARGE", "2"]);
  expect(told(await second)).toEqual(["PAYLOAD_TOO_LARGE", "3"]);
  expect(await values()).toEqual(["a", "b", "c"]);
});

test.each([[true], [false]])(
  "an unknown outcome (written: %p) is resolved by the last number, not by sending again",
  async (written) => {
    const breaks: string[] = [];
    const onBreak = ({ error }: { error: string }): number => breaks.push(error);
    const one = publisher([await start(), await start()], { onBreak });
    await one.publish(events("a"));
    log.failNextTransaction({ kind: "unknown", reason: "no answer" }, written);
    expect(told(await one.publish(events("b", "c")))).toEqual(
      written ? ["2 somewhere", "3 somewhere"] : ["2", "3"],
    );
    expect(breaks).toEqual(["KAFKA_UNAVAILABLE"]);
    expect(await values()).toEqual(["a", "b", "c"]);
  },
);

test("its server drains, then the other is gone too and comes back: it goes on by itself", async () => {
  const [a, b] = [await start(), await start()];
  const one = publisher([a, b]);
  await one.publish(events("a"));
  const drained = a.drain();
  expect(told(await one.publish(events("b")))).toEqual(["2"]);
  await drained;
  await b.close();
  const waiting = one.publish(events("c"));
  await start(b.address);
  expect(told(await waiting)).toEqual(["3"]);
  expect(await values()).toEqual(["a", "b", "c"]);
});

test("a newer publisher of the name ends it for good", async () => {
  const servers = [await start(), await start()];
  const older = publisher(servers);
  await older.publish(events("a"));
  const newer = publisher(servers.toReversed());
  expect(await newer.lastNumber()).toBe(1n);
  await newer.publish(events("b"));
  await expect(older.publish(events("zombie"))).rejects.toMatchObject({
    ...{ error: "PUBLISHER_SUPERSEDED", retryable: false },
  });
  await expect(older.publish(events("zombie"))).rejects.toMatchObject({
    error: "PUBLISHER_SUPERSEDED",
  });
  expect(await values()).toEqual(["a", "b"]);
});

test("another wrote under the name while it was cut off: it ends rather than take those for its own", async () => {
  const [a, b] = [await start(), await start()];
  const one = publisher([a, b]);
  await one.publish(events("a"));
  const other = new PublisherStream(b.address).open("p").events(2, "other");
  await other.answers(1);
  await a.close();
  await expect(one.publish(events("b"))).rejects.toMatchObject({
    error: "PUBLISHER_SUPERSEDED",
    message: expect.stringContaining("Another publisher wrote number 2"),
  });
  other.close();
  expect(await values()).toEqual(["a", "other"]);
});

test("an event that no server takes ends it with the limit's error, not with retries", async () => {
  const one = publisher([await start("127.0.0.1:0", 64 << 10)]);
  await expect(one.publish(events("x".repeat(100_000)))).rejects.toMatchObject({
    ...{ error: "PAYLOAD_TOO_LARGE", retryable: false },
  });
});

test("closed, by call or signal: what waits ends with CLOSED, and so does what comes", async () => {
  const server = await start();
  const stop = new AbortController();
  const one = publisher([server], { signal: stop.signal });
  await one.publish(events("a"));
  log.fail("away");
  const waiting = one.publish(events("b"));
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ error: "CLOSED" });
  await expect(one.publish(events("c"))).rejects.toMatchObject({ error: "CLOSED" });
  await expect(one.lastNumber()).rejects.toMatchObject({ error: "CLOSED" });
  log.heal();
});

test("a name that is not allowed, or a topic that is not there, is told by the first call", async () => {
  const server = await start();
  const bad = publisher([server], { name: "a/b" });
  await expect(bad.lastNumber()).rejects.toMatchObject({ error: "INVALID_REQUEST" });
  const nowhere = publisher([server], { topic: "nothing" });
  await expect(nowhere.publish(events("a"))).rejects.toMatchObject({ error: "TOPIC_NOT_FOUND" });
});
