/** The catalog: read back whole, written by one, never misread. */
import { beforeEach, describe, expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { abandonedKey, CatalogGone } from "../../operator/catalog-reader.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { infoIn, operatorOn, owner, topic } from "./reconcile-bed.ts";

let log: MemoryLog;
let catalog: CatalogWriter;
let reconciler: Reconciler;

beforeEach(async () => {
  log = new MemoryLog();
  await nextOperator();
});

async function nextOperator(): Promise<void> {
  ({ catalog, reconciler } = await operatorOn(log));
}

const infoOf = (name: string) => infoIn(log, name);

test("a record that may be in the log is written over, whatever this operator believes", async () => {
  await reconciler.apply(topic({}), owner);
  // The new partitions reached the log, the answer did not reach us.
  const record = catalog.records.get("shop/orders") as CatalogRecord;
  const value = Buffer.from(CatalogRecord.encode({ ...record, partitions: 9 }).finish());
  const key = Buffer.from("shop/orders");
  log.appendNow("_throughline.test.catalog", 0, [{ key, value, headers: [], timeMs: 1 }]);
  log.fail("cut");
  await expect(catalog.put("shop/orders", { ...record, partitions: 9 })).rejects.toThrow("cut");
  log.heal();
  await catalog.put("shop/orders", record);
  await nextOperator();
  expect(catalog.records.get("shop/orders")?.partitions).toBe(1);
});

test("a mark that may be taken back in the log is made anew, whatever this operator believes", async () => {
  await catalog.begin("shop/new", "shop.new");
  log.failNextAppend({ kind: "unknown", reason: "no answer" });
  await expect(catalog.abandon("shop/new")).rejects.toThrow("no answer");
  const key = Buffer.from(abandonedKey("shop/new"));
  log.appendNow("_throughline.test.catalog", 0, [{ key, value: null, headers: [], timeMs: 1 }]);
  await catalog.begin("shop/new", "shop.new");
  await nextOperator();
  expect([...catalog.begun]).toEqual([["shop/new", "shop.new"]]);
});

test("a catalog that cannot be opened fences nobody", async () => {
  log.failNextAppend({ kind: "unavailable", reason: "away" });
  await expect(CatalogWriter.open(log, "test", () => 2)).rejects.toThrow("away");
  expect((await reconciler.apply(topic({}), owner)).ready).toBe(true);
});

test.each([
  ["wrote over", { partitions: 9 }],
  ["took away", undefined],
])("a record that somebody %s is seen on the next look, and put right", async (_what, over) => {
  await reconciler.apply(topic({}), owner);
  const record = catalog.records.get("shop/orders") as CatalogRecord;
  const { topicId } = await reconciler.apply(topic({}), owner);
  const value = over ? Buffer.from(CatalogRecord.encode({ ...record, ...over }).finish()) : null;
  const key = Buffer.from("shop/orders");
  log.appendNow("_throughline.test.catalog", 0, [{ key, value, headers: [], timeMs: 1 }]);
  await catalog.reread();
  expect(catalog.records.get("shop/orders")?.partitions).toBe(over?.partitions);
  const recorded = { topicId, adopted: false };
  expect((await reconciler.apply(topic({}), { ...owner, recorded })).ready).toBe(true);
  await nextOperator();
  expect(catalog.records.get("shop/orders")).toMatchObject({ partitions: 1, adopted: false });
});

test("what is being written while the catalog is read again is not seen as somebody's older word", async () => {
  await reconciler.apply(topic({}), owner);
  const record = catalog.records.get("shop/orders") as CatalogRecord;
  const put = (partitions: number) => catalog.put("shop/orders", { ...record, partitions });
  await Promise.all([put(2), catalog.reread(), put(3), catalog.reread(), put(4)]);
  expect(catalog.records.get("shop/orders")?.partitions).toBe(4);
  await nextOperator();
  expect(catalog.records.get("shop/orders")?.partitions).toBe(4);
});

test("a catalog that somebody deleted is gone, and said so", async () => {
  log.topics.remove("_throughline.test.catalog");
  await expect(catalog.reread()).rejects.toThrow(CatalogGone);
});

describe("the catalog", () => {
  const record = (over: Partial<CatalogRecord>): Buffer =>
    Buffer.from(
      CatalogRecord.encode({
        ...{ formatVersion: 1, namespace: "shop", name: "orders", ownerUid: "u", state: 1 },
        ...{ ownerGeneration: 1n, kafkaTopic: "shop.orders", topicId: Buffer.alloc(16) },
        ...{ partitions: 1, ordering: 1, outbox: "", maxEventBytes: 0, clusterUid: "c1" },
        ...{
          publishNamespaces: [],
          subscribeNamespaces: [],
          takenAtMs: 0n,
          adopted: false,
          ...over,
        },
      }).finish(),
    );
  const holding = (value: Buffer): void => {
    const key = Buffer.from("shop/orders");
    log.appendNow("_throughline.test.catalog", 0, [{ key, value, headers: [], timeMs: 1 }]);
  };

  test("of another cluster is refused by its name; its own, and an empty one, are taken", async () => {
    catalog = await CatalogWriter.open(log, "test", () => 2, "c1");
    reconciler = new Reconciler(log, catalog);
    await reconciler.apply(topic({}), owner);
    await expect(CatalogWriter.open(log, "test", () => 3, "c2")).rejects.toThrow(
      /belongs to "c1" .* this is "c2"/,
    );
    // The refused one has fenced nobody.
    await reconciler.apply(topic({ partitions: 2 }), owner);
    expect(catalog.records.get("shop/orders")?.partitions).toBe(2);
    expect((await CatalogWriter.open(log, "test", () => 4, "c1")).records.size).toBe(1);
  });

  test.each([
    ["a newer release's record", { formatVersion: 2 }, /newer release/],
    ["a record without a format", { formatVersion: 0 }, /damaged record "shop\/orders"/],
  ])("%s is not overlooked", async (_what, over, message) => {
    holding(record(over));
    await expect(CatalogWriter.open(log, "test", () => 2)).rejects.toThrow(message);
  });

  test("a damaged record is not overlooked", async () => {
    holding(Buffer.from([0xff]));
    await expect(CatalogWriter.open(log, "test", () => 2)).rejects.toThrow(/damaged record/);
  });

  test("that a broker made by itself is compacted from now on", async () => {
    log.createTopicNow("_throughline.auto.catalog", 1);
    await CatalogWriter.open(log, "auto", () => 1);
    const settings = await log.admin.settings("_throughline.auto.catalog");
    expect(settings.kind === "done" && settings.value["cleanup.policy"]).toBe("compact");
  });

  test("goes with its deployment, by id", async () => {
    await catalog.delete();
    expect(await infoOf("_throughline.test.catalog")).toBeUndefined();
  });

  test("with several partitions is refused", async () => {
    log.createTopicNow("_throughline.auto.catalog", 3);
    await expect(CatalogWriter.open(log, "auto", () => 1)).rejects.toThrow(/must have one/);
  });
});
