/**
 * PublishStream over real gRPC on the log in memory: numbers that repeat, jump and go backward, bad input,
 * two streams of one name, failures of Kafka (P10).
 */
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { makeLogger } from "../../process/logger.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { catalogTopicName } from "../../sidecar/catalog-follower.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";
import { PublisherStream, told } from "./publisher-stream.ts";

const CONFIG: Config = {
  ...{ listen: "127.0.0.1:0", healthListen: undefined, shape: "gateway", tls: undefined },
  ...{ kafka: { brokers: [], tls: undefined, sasl: undefined }, deploymentId: "local" },
  ...{
    clusterUid: undefined,
    sessionStore: undefined,
    namespace: "shop",
    serverName: "A",
    logLevel: "silent",
  },
  limits: { ...DEFAULT_LIMITS, drainMs: 5000, requestEvents: 100 },
};
const NUMBERS = "_throughline.local.publishers";

let log: MemoryLog;
let catalog: TopicInfo;
let orders: TopicInfo;
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  log = new MemoryLog();
  catalog = log.createTopicNow(catalogTopicName("local"), 1);
  orders = log.createTopicNow("shop.orders", 2);
  record("orders", orders);
  record("ledger", log.createTopicNow("shop.ledger", 1), { ordering: 3 });
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await log.close();
});

function record(name: string, topic: TopicInfo, over: Partial<CatalogRecord> = {}): void {
  const value = CatalogRecord.encode({
    ...{ formatVersion: 1, namespace: "shop", name, ownerUid: "u", ownerGeneration: 1n },
    ...{ state: 1, kafkaTopic: topic.name, topicId: Buffer.from(topic.id, "hex") },
    ...{ partitions: topic.partitions, ordering: 1, outbox: "", maxEventBytes: 1000 },
    ...{ publishNamespaces: [], subscribeNamespaces: [], clusterUid: "" },
    ...{ takenAtMs: 0n, adopted: false, ...over },
  }).finish();
  const key = Buffer.from(`shop/${name}`);
  log.appendNow(catalog.name, 0, [{ key, value: Buffer.from(value), headers: [], timeMs: 1 }]);
}

async function start(over: Partial<Config> = {}): Promise<RunningServer> {
  const server = await startServer({ ...CONFIG, ...over }, log, makeLogger("silent", "A"));
  closing.push(() => server.close());
  return server;
}

function streamTo({ address }: RunningServer): PublisherStream {
  const stream = new PublisherStream(address);
  closing.push(() => stream.close());
  return stream;
}

/** What subscribers would get of a topic, by partition. */
async function values(topic: TopicInfo): Promise<string[]> {
  const found: string[] = [];
  for (let partition = 0; partition < topic.partitions; partition++) {
    const reader = log.openReader(topic, partition);
    const fetched = await reader.fetch({ offset: 0, epoch: -1 }, 1 << 30, 0);
    if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
    found.push(...recordsOf(fetched, 0).records.map(({ value }) => String(value)));
    reader.close();
  }
  return found;
}

test("numbers from 1, pipelined before opened, answered in order with positions; the end ends it", async () => {
  const server = await start();
  const stream = streamTo(server).open().events(1, "a", "b").events(3, "c").end();
  expect(await stream.answers(3)).toEqual(["1: position", "2: position", "3: position"]);
  await stream.ends();
  expect(await stream.opened()).toEqual({ lastNumber: 0n, lastInstance: "" });
  expect(await values(orders)).toEqual(["a", "b", "c"]);
});

test("a stream opened anew, on another server, goes on after the last number and its instance", async () => {
  const first = streamTo(await start())
    .open("p", "orders", "mine")
    .events(1, "a", "b");
  await first.answers(2);
  const second = streamTo(await start()).open();
  expect(await second.opened()).toEqual({ lastNumber: 2n, lastInstance: "mine" });
  second.events(3, "c");
  expect(await second.answers(1)).toEqual(["3: position"]);
  expect(await values(orders)).toEqual(["a", "b", "c"]);
});

test("heartbeats come while there is nothing else to say, before opened too; only where they are asked for", async () => {
  const server = await start();
  const plain = streamTo(server).open("plain");
  await plain.opened();
  let goOn = (): void => {};
  const { openTransactionalWriter } = log;
  jest.spyOn(log, "openTransactionalWriter").mockImplementationOnce(async (id) => {
    await new Promise<void>((resolve) => {
      goOn = resolve;
    });
    return openTransactionalWriter.call(log, id);
  });
  const stream = streamTo(server).open("p", "orders", "", 100);
  await stream.heartbeats(2);
  expect(stream.down.some(({ $case }) => $case === "opened")).toBe(false);
  goOn();
  await stream.opened();
  await stream.heartbeats(2);
  stream.events(1, "a");
  expect(await stream.answers(1)).toEqual(["1: position"]);
  await stream.heartbeats(1);
  expect(plain.down.map(({ $case }) => $case)).toEqual(["opened"]);
  for (const heartbeatMs of [99, 60_001]) {
    const bad = await streamTo(server).open("bad", "orders", "", heartbeatMs).fails();
    expect(bad).toMatchObject({
      name: "INVALID_REQUEST",
      message: expect.stringContaining("heartbeat_ms"),
    });
  }
});

test("repeated, backward and jumping numbers: nothing is appended for them, each has its answer", async () => {
  const stream = streamTo(await start())
    .open()
    .events(1, "a", "b", "c");
  await stream.answers(3);
  stream.events(2, "b", "c", "d").events(1, "a").events(7, "x", "y").events(5, "e");
  expect((await stream.answers(10)).slice(3)).toEqual([
    "2: there",
    "3: there",
    "4: position",
    "1: there",
    "7: NUMBER_JUMPED",
    "8: NUMBER_JUMPED",
    "5: position",
  ]);
  const jumped = stream.down.find(
    ({ $case, value }) =>
      $case === "results" && value.results.some((result) => told(result) === "NUMBER_JUMPED"),
  );
  expect(JSON.stringify(jumped, (_, v) => (typeof v === "bigint" ? Number(v) : v))).toContain(
    "number 7: the next number is 5.",
  );
  expect(await values(orders)).toEqual(["a", "b", "c", "d", "e"]);
});

test("an event refused for itself takes no number: those after it jump, and the next one takes it", async () => {
  const stream = streamTo(await start()).open();
  stream.events(1, "a", "x".repeat(1001), "c").events(2, { headers: [header("tl-x")] }, "d");
  expect(await stream.answers(5)).toEqual([
    "1: position",
    "2: PAYLOAD_TOO_LARGE",
    "3: NUMBER_JUMPED",
    "2: INVALID_REQUEST",
    "3: NUMBER_JUMPED",
  ]);
  stream.events(2, "b");
  expect((await stream.answers(6)).at(-1)).toBe("2: position");
  expect(await values(orders)).toEqual(["a", "b"]);
});

test("what only Kafka refuses is halved until it is alone; the others are not harmed", async () => {
  record("orders", orders, { maxEventBytes: 2_000_000 });
  const stream = streamTo(await start()).open();
  await stream.opened();
  stream.events(1, "a", "b", "x".repeat(1_100_000), "d").events(3, "c");
  expect(await stream.answers(5)).toEqual([
    "1: position",
    "2: position",
    "3: PAYLOAD_TOO_LARGE",
    "4: NUMBER_JUMPED",
    "3: position",
  ]);
  expect(await values(orders)).toEqual(["a", "b", "c"]);
});

test.each<[string, (stream: PublisherStream) => PublisherStream, string, string]>([
  ["events first", (s) => s.events(1, "a"), "INVALID_REQUEST", "first message"],
  ["an end first", (s) => s.end(), "INVALID_REQUEST", "before it was opened"],
  ["no kind", (s) => s.send(undefined), "INVALID_REQUEST", "open or events"],
  ["open twice", (s) => s.open().open(), "INVALID_REQUEST", "opened once"],
  ["a publisher's name with a slash", (s) => s.open("a/b"), "INVALID_REQUEST", "publisher: "],
  ["a long name", (s) => s.open("a".repeat(129)), "INVALID_REQUEST", "publisher: "],
  [
    "a long instance",
    (s) => s.open("p", "orders", "i".repeat(65)),
    "INVALID_REQUEST",
    "instance: ",
  ],
  [
    "an instance with control characters",
    (s) => s.open("p", "orders", "a\nb"),
    "INVALID_REQUEST",
    "instance: ",
  ],
  ["an unknown topic", (s) => s.open("p", "nothing"), "TOPIC_NOT_FOUND", "shop/nothing"],
  ["a bad topic", (s) => s.open("p", "a b"), "INVALID_REQUEST", "topic: "],
  ["a Commit topic", (s) => s.open("p", "ledger"), "COMMIT_TOPIC", "outbox"],
  ["number 0", (s) => s.open().events(0, "a"), "INVALID_REQUEST", "first_number: "],
  ["number 2^53", (s) => s.open().events(2 ** 53, "a"), "INVALID_REQUEST", "first_number: "],
  [
    "too many events",
    (s) => s.open().events(1, ...Array.from({ length: 101 }, () => "a")),
    "INVALID_REQUEST",
    "--request-events",
  ],
])("P10: %s: a typed error, and nothing is appended", async (_what, talk, name, words) => {
  const stream = talk(streamTo(await start()));
  expect(await stream.fails()).toMatchObject({
    ...{ name, retryable: false, message: expect.stringContaining(words) },
  });
  expect(await values(orders)).toEqual([]);
});

test("what came before bad input is answered first", async () => {
  const stream = streamTo(await start())
    .open()
    .events(1, "a", "b")
    .events(0, "x");
  expect((await stream.fails()).name).toBe("INVALID_REQUEST");
  expect(await stream.answers(2)).toEqual(["1: position", "2: position"]);
});

test("the newest stream of a name wins, on one server at once", async () => {
  const server = await start();
  const older = streamTo(server).open().events(1, "a");
  await older.answers(1);
  const newer = streamTo(server).open();
  expect(await older.fails()).toMatchObject({ name: "PUBLISHER_SUPERSEDED", retryable: false });
  expect((await newer.opened()).lastNumber).toBe(1n);
  newer.events(2, "b");
  await newer.answers(1);
  expect(await values(orders)).toEqual(["a", "b"]);
});

test("the newest stream of a name wins, on two servers with the older one's next events", async () => {
  const older = streamTo(await start())
    .open()
    .events(1, "a");
  await older.answers(1);
  const newer = streamTo(await start())
    .open()
    .events(2, "b");
  await newer.answers(1);
  older.events(2, "zombie");
  expect((await older.fails()).name).toBe("PUBLISHER_SUPERSEDED");
  expect(await values(orders)).toEqual(["a", "b"]);
});

test("names, topics and namespaces do not share numbers", async () => {
  const server = await start();
  const other = log.createTopicNow("shop.returns", 1);
  record("returns", other, { publishNamespaces: ["crm"] });
  for (const stream of [
    streamTo(server).open("a"),
    streamTo(server).open("b"),
    streamTo(await start({ namespace: "crm" })).open("a", "shop/returns"),
  ]) {
    stream.events(1, "x");
    expect(await stream.answers(1)).toEqual(["1: position"]);
  }
  const foreign = streamTo(await start({ namespace: "crm" })).open("a", "shop/orders");
  expect((await foreign.fails()).name).toBe("NOT_PERMITTED");
});

test.each([[true], [false]])(
  "a commit whose outcome is unknown (written: %p) ends the stream; opening anew says what became of it",
  async (written) => {
    const server = await start();
    const stream = streamTo(server).open().events(1, "a");
    await stream.answers(1);
    log.failNextTransaction({ kind: "unknown", reason: "no answer" }, written);
    stream.events(2, "b");
    expect(await stream.fails()).toMatchObject({
      ...{ name: "KAFKA_UNAVAILABLE", retryable: true },
      message: expect.stringContaining("last_number says"),
    });
    const again = streamTo(server).open();
    expect((await again.opened()).lastNumber).toBe(written ? 2n : 1n);
    again.events(2, "b");
    expect(await again.answers(1)).toEqual([written ? "2: there" : "2: position"]);
    expect(await values(orders)).toEqual(["a", "b"]);
  },
);

test.each([
  [{ kind: "unavailable", reason: "no leader" }, "KAFKA_UNAVAILABLE", true],
  [{ kind: "unauthorised", reason: "no WRITE" }, "KAFKA_REFUSED", false],
  [{ kind: "gone", topic: "shop.orders" }, "TOPIC_NOT_FOUND", false],
  [{ kind: "gone", topic: NUMBERS }, "KAFKA_UNAVAILABLE", true],
] as const)("Kafka's answer %j ends the stream as %s", async (outcome, name, retryable) => {
  const stream = streamTo(await start()).open();
  await stream.opened();
  log.failNextTransaction(outcome);
  stream.events(1, "a");
  expect(await stream.fails()).toMatchObject({ name, retryable });
  expect(await values(orders)).toEqual([]);
});

test("Kafka refuses the id, or is away: the opening says so", async () => {
  const server = await start();
  await streamTo(server).open("first").opened();
  log.fail("nobody answers");
  const stream = streamTo(server).open();
  expect((await stream.fails()).name).toBe("KAFKA_UNAVAILABLE");
  log.heal();
  await streamTo(server).open().opened();
});

test("a topic that was made anew ends the stream, and begins again at 1", async () => {
  const server = await start();
  const stream = streamTo(server).open().events(1, "a");
  await stream.answers(1);
  orders = log.recreate("shop.orders");
  record("orders", orders);
  let number = 2;
  const failing = stream.fails();
  // The catalog is followed: until it is read the log itself says that the topic is gone.
  stream.events(number++, "b");
  expect(await failing).toMatchObject({ name: "TOPIC_NOT_FOUND", retryable: false });
  let last = -1n;
  while (last !== 0n) {
    const again = streamTo(server).open();
    last = (await again.opened()).lastNumber;
    again.close();
  }
  expect(await values(orders)).toEqual([]);
});

test("a record of a newer release is an error, and a topic of numbers that would forget is refused", async () => {
  const server = await start();
  const stream = streamTo(server).open().events(1, "a");
  await stream.answers(1);
  const value = Buffer.from('{"format":2}');
  for (let partition = 0; partition < 16; partition++) {
    const key = Buffer.from("shop/shop/orders/p");
    log.appendNow(NUMBERS, partition, [{ key, value, headers: [], timeMs: 1 }]);
  }
  const again = streamTo(server).open();
  expect(await again.fails()).toMatchObject({
    ...{ name: "LOG_CORRUPT", message: expect.stringContaining("format 2") },
  });
  log.topics.remove(NUMBERS);
  log.createTopicNow(NUMBERS, 1);
  const refused = streamTo(await start()).open();
  expect(await refused.fails()).toMatchObject({
    ...{ name: "KAFKA_REFUSED", message: expect.stringContaining("cleanup.policy=compact") },
  });
});

test("a gateway that drains ends its publishers' streams with DRAINING; new ones hear it too", async () => {
  const server = await start();
  const stream = streamTo(server).open().events(1, "a");
  await stream.answers(1);
  const drained = server.drain();
  expect(await stream.fails()).toMatchObject({ name: "DRAINING", retryable: true });
  await drained;
  expect(await values(orders)).toEqual(["a"]);
});

test("a pod door that drains serves its app's publisher until that leaves", async () => {
  const server = await start({ shape: "pod" });
  const stream = streamTo(server).open();
  await stream.opened();
  const drained = server.drain();
  stream.events(1, "a");
  expect(await stream.answers(1)).toEqual(["1: position"]);
  stream.end();
  await stream.ends();
  await drained;
});

function header(key: string) {
  return { key, value: Buffer.alloc(0) };
}
