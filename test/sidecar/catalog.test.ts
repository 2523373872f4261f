import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { Logger } from "pino";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { makeLogger } from "../../process/logger.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import {
  CatalogFollower,
  catalogTopicName,
  readCatalogRecord,
} from "../../sidecar/catalog-follower.ts";
import { damageBatchAt } from "../kafka/damaged-log.ts";

const NAME = catalogTopicName("local");

function record(name: string, over: Partial<CatalogRecord> = {}): CatalogRecord {
  const [namespace = "", short = ""] = name.split("/");
  return {
    formatVersion: 1,
    namespace,
    name: short,
    ownerUid: "u",
    ownerGeneration: 1n,
    state: 1,
    kafkaTopic: `${namespace}.${short}`,
    topicId: Buffer.alloc(16, 7),
    partitions: 2,
    ordering: 1,
    outbox: "",
    maxEventBytes: 5000,
    publishNamespaces: ["web"],
    subscribeNamespaces: [],
    clusterUid: "c1",
    ...{ takenAtMs: 0n, adopted: false },
    ...over,
  };
}

let log: MemoryLog;
let follower: CatalogFollower | undefined;
let lines: string[];
let logger: Logger;
/** Everyone who waits for a log line, a change, or the first read looks again at each of them. */
let lookAgain: Set<() => void>;
/** Where each fetch of the follower began. */
let fetchedFrom: number[];
/** How often the follower waited before it tried again. */
let delays: number;
/** Ends of what the follower waits for half a minute: they come when a test says so. */
let longWaits: (() => void)[];

beforeEach(() => {
  delays = 0;
  longWaits = [];
  log = new MemoryLog();
  fetchedFrom = [];
  const openReader = log.openReader.bind(log);
  log.openReader = (topic, partition) => {
    const reader = openReader(topic, partition);
    const fetch: typeof reader.fetch = (position, ...most) => {
      fetchedFrom.push(position.offset);
      lookAll();
      return reader.fetch(position, ...most);
    };
    return { fetch, close: () => reader.close() };
  };
  lines = [];
  lookAgain = new Set();
  logger = makeLogger("info", "s", {
    write: (line) => {
      lines.push((JSON.parse(line) as { msg: string }).msg);
      lookAll();
    },
  });
});

afterEach(async () => {
  follower?.close();
  await log.close();
});

function lookAll(): void {
  for (const look of [...lookAgain]) look();
}

function until(holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!holds()) return;
      lookAgain.delete(look);
      resolve();
    };
    lookAgain.add(look);
    look();
  });
}

function follow(clusterUid?: string): CatalogFollower {
  const made = new CatalogFollower({
    log,
    deploymentId: "local",
    clusterUid,
    clock: {
      now: () => Date.now(),
      setTimer: (ms, fire) => {
        delays++;
        lookAll();
        if (ms >= 30_000) {
          longWaits.push(fire);
          return () => {};
        }
        const timer = setTimeout(fire, Math.min(ms, 5));
        return () => clearTimeout(timer);
      },
    },
    logger,
    onRead: () => {
      lookAll();
    },
  });
  made.onChange(() => {
    lookAll();
  });
  follower = made;
  return made;
}

async function makeCatalog(): Promise<TopicInfo> {
  const made = await log.admin.createTopic({
    name: NAME,
    partitions: 1,
    replicas: 1,
    settings: { "cleanup.policy": "compact" },
  });
  if (made.kind !== "done") throw new Error(made.reason);
  return made.value;
}

async function write(
  topic: TopicInfo,
  name: string,
  value: CatalogRecord | Buffer | null,
): Promise<void> {
  const bytes =
    value === null || Buffer.isBuffer(value)
      ? value
      : Buffer.from(CatalogRecord.encode(value).finish());
  await log.append(topic, 0, { key: Buffer.from(name), value: bytes, headers: [], timeMs: 1 });
}

/** What `ask` gives, or the name of the failure. */
function told<T>(ask: () => T): T | string {
  try {
    return ask();
  } catch (error) {
    return (error as { error: string }).error;
  }
}

test("before the catalog was read nothing is said to be not found", async () => {
  const catalog = follow();
  expect(told(() => catalog.get("shop/orders"))).toBe("KAFKA_UNAVAILABLE");
  expect(told(() => catalog.list())).toBe("KAFKA_UNAVAILABLE");
});

test("a catalog topic that is missing is waited for, and said once", async () => {
  const catalog = follow();
  await until(() => delays >= 4);
  await write(await makeCatalog(), "shop/orders", record("shop/orders"));
  await until(() => told(() => catalog.get("shop/orders")?.partitions) === 2);
  expect(lines.filter((line) => line === "waiting for the catalog")).toHaveLength(1);
});

test("the catalog is read whole, the last record of a key wins, and a removed one is gone", async () => {
  const topic = await makeCatalog();
  await write(topic, "shop/orders", record("shop/orders"));
  await write(topic, "shop/gone", record("shop/gone"));
  await write(
    topic,
    "shop/orders",
    record("shop/orders", { partitions: 9, state: 2, ordering: 3 }),
  );
  await write(topic, "shop/gone", null);
  const catalog = follow();
  await until(() => lines.includes("the catalog was read"));
  await until(() => told(() => catalog.get("shop/orders")?.partitions) === 9);
  expect(catalog.list()).toEqual([
    {
      name: "shop/orders",
      namespace: "shop",
      kafkaTopic: "shop.orders",
      topicId: "07".repeat(16),
      partitions: 9,
      ordering: "Commit",
      state: "DataLost",
      maxEventBytes: 5000,
      publishNamespaces: ["web"],
      subscribeNamespaces: [],
    },
  ]);
});

test("changes and removals reach listeners by name", async () => {
  const topic = await makeCatalog();
  await write(topic, "shop/orders", record("shop/orders"));
  const catalog = follow();
  await until(() => told(() => catalog.get("shop/orders")) !== "KAFKA_UNAVAILABLE");
  const changed: string[] = [];
  const stop = catalog.onChange((name) => changed.push(name));
  await write(topic, "shop/new", record("shop/new"));
  await write(topic, "shop/orders", null);
  await until(() => catalog.list().length === 1 && catalog.get("shop/new") !== undefined);
  expect(changed).toEqual(["shop/new", "shop/orders"]);
  stop();
});

test("a record that cannot be taken is refused in the log and removes nothing", async () => {
  const topic = await makeCatalog();
  await write(topic, "shop/orders", record("shop/orders"));
  const catalog = follow("c1");
  await until(() => told(() => catalog.get("shop/orders")) !== "KAFKA_UNAVAILABLE");
  await write(topic, "shop/orders", record("shop/orders", { formatVersion: 2, partitions: 50 }));
  await write(topic, "shop/orders", record("shop/orders", { clusterUid: "c2", partitions: 60 }));
  await write(topic, "shop/orders", Buffer.from([255, 255]));
  await write(topic, "shop/last", record("shop/last"));
  await until(() => catalog.get("shop/last") !== undefined);
  expect(catalog.get("shop/orders")?.partitions).toBe(2);
  expect(lines.filter((line) => line.startsWith("a catalog record is refused"))).toEqual([
    expect.stringContaining("format version 2"),
    expect.stringContaining('cluster "c2"'),
    expect.stringContaining("damaged"),
  ]);
});

test("a catalog topic made anew is read anew; what it does not name is there for a while, and then gone", async () => {
  const topic = await makeCatalog();
  await write(topic, "shop/orders", record("shop/orders"));
  await write(topic, "shop/old", record("shop/old"));
  const catalog = follow();
  await until(() => told(() => catalog.list().length) === 2);
  await log.admin.deleteTopic(topic.id);
  const anew = await makeCatalog();
  await until(() => lines.includes("the catalog is read anew"));
  // As long as no Topic is in it, it says nothing, whatever its operator has begun.
  fetchedFrom = [];
  const counts: number[] = [];
  catalog.onChange(() => counts.push(catalog.list().length));
  await write(anew, "opened", null);
  await write(anew, "begun shop/orders shop.orders", null);
  await until(() => fetchedFrom.at(-1) === 2);
  expect(catalog.list()).toHaveLength(2);
  await write(anew, "shop/orders", record("shop/orders", { partitions: 5 }));
  await until(() => catalog.get("shop/orders")?.partitions === 5);
  expect(catalog.list()).toHaveLength(2);
  for (const end of longWaits) end();
  expect(catalog.list()).toHaveLength(1);
  expect(counts).toEqual([2, 1]);
});

test("what a catalog that was made anew names in a record that cannot be taken stays", async () => {
  const topic = await makeCatalog();
  await write(topic, "shop/orders", record("shop/orders"));
  await write(topic, "shop/newer", record("shop/newer"));
  const catalog = follow();
  await until(() => told(() => catalog.list().length) === 2);
  await log.admin.deleteTopic(topic.id);
  const anew = await makeCatalog();
  await until(() => lines.includes("the catalog is read anew"));
  await write(anew, "shop/orders", record("shop/orders"));
  await until(() => longWaits.length === 1);
  await write(anew, "shop/newer", record("shop/newer", { formatVersion: 2 }));
  await until(() => lines.some((line) => line.startsWith("a catalog record is refused")));
  for (const end of longWaits) end();
  expect(catalog.list()).toHaveLength(2);
});

test("a damaged catalog is said and stays what it was; once mended it is followed again", async () => {
  const topic = await makeCatalog();
  await write(topic, "shop/orders", record("shop/orders"));
  const heal = damageBatchAt(log, 2);
  const catalog = follow();
  await until(() => told(() => catalog.get("shop/orders")) !== "KAFKA_UNAVAILABLE");
  await write(topic, "shop/before", record("shop/before"));
  await write(topic, "shop/orders", record("shop/orders", { partitions: 9 }));
  await until(() => lines.includes("waiting for the catalog") && delays > 3);
  expect(catalog.get("shop/before")?.partitions).toBe(2);
  expect(catalog.get("shop/orders")?.partitions).toBe(2);
  heal();
  await until(() => catalog.get("shop/orders")?.partitions === 9);
  expect(lines.filter((line) => /waiting|again/.test(line))).toEqual([
    "waiting for the catalog",
    "the catalog is followed again",
  ]);
});

test.each<[Partial<CatalogRecord>, string]>([
  [{ namespace: "other" }, "it describes"],
  [{ topicId: Buffer.alloc(3) }, "make no sense"],
  [{ partitions: 0 }, "make no sense"],
  [{ state: 0 }, "make no sense"],
  [{ ordering: 0 }, "make no sense"],
])("P10: a record of %j is refused with its reason", (over, why) => {
  const value = Buffer.from(CatalogRecord.encode(record("shop/orders", over)).finish());
  expect(readCatalogRecord("shop/orders", value, undefined)).toEqual({
    kind: "refused",
    why: expect.stringContaining(why),
  });
});
