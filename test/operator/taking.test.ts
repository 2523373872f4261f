/** P9: which Topic may have which Kafka topic: adoption, age, other deployments, and a catalog that was lost. */
import { beforeEach, describe, expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { allowedNames } from "../../operator/allowed-names.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { OtherDeployments } from "../../operator/other-deployments.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicResource } from "../../operator/validate.ts";
import type { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { accepting, infoIn, operatorOn, owner, topic } from "./reconcile-bed.ts";

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

describe("adoption", () => {
  const allowing = (...entries: string[]): Reconciler =>
    new Reconciler(log, catalog, { allowed: allowedNames(entries) });

  test("takes a topic that exists where the allow-list names it for the namespace, and nowhere else", async () => {
    const theirs = log.createTopicNow("legacy.orders", 2);
    const wanted = topic({ kafkaTopic: "legacy.orders", partitions: 2 });
    expect(await allowing("bank/legacy.*").apply(wanted, owner)).toMatchObject({
      reason: "NameNotAllowed",
    });
    await log.admin.changeSettings("legacy.orders", { "max.message.bytes": "1114112" }, []);
    expect(await allowing("shop/legacy.*").apply(wanted, owner)).toMatchObject({
      ...{ ready: true, topicId: theirs.id, adopted: true },
    });
    expect(catalog.records.get("shop/orders")?.adopted).toBe(true);
  });

  test("ends no setting that the spec does not name: retention that falls away would delete events", async () => {
    log.createTopicNow("shop.orders", 1);
    const forEver = { "retention.ms": "-1", "cleanup.policy": "compact" };
    await log.admin.changeSettings("shop.orders", forEver, []);
    const refused = await allowing("shop/*").apply(topic({}), owner);
    expect(refused).toMatchObject({ ready: false, reason: "SettingsDiffer", topicId: "" });
    expect(refused.message).toContain("retention.ms=-1, cleanup.policy=compact");
    expect(await log.admin.settings("shop.orders")).toMatchObject({ value: forEver });
    await log.admin.changeSettings("shop.orders", {}, ["cleanup.policy"]);
    const declared = topic({ retention: { time: "30d" } });
    expect(await allowing("shop/*").apply(declared, owner)).toMatchObject({ ready: true });
  });

  test("keeps Retain until a second step names the id, also over a new operator", async () => {
    const theirs = log.createTopicNow("shop.orders", 1);
    const spec = { deletionPolicy: "Delete" } as const;
    const status = await allowing("shop.orders").apply(topic(spec), owner);
    expect(status.message).toContain(`throughline.dev/delete-adopted: ${theirs.id}`);
    await nextOperator();
    expect(await reconciler.apply(topic(spec), owner)).toMatchObject({ adopted: true });
    await reconciler.delete("shop/orders", "Delete", "0".repeat(32));
    expect(await infoOf("shop.orders")).toBeDefined();
    expect(catalog.records.get("shop/orders")?.state).toBe(3);
    // Retained, the same name takes it back, and it is as it was.
    expect(await reconciler.apply(topic(spec), owner)).toMatchObject({ adopted: true });
    await reconciler.delete("shop/orders", "Delete", theirs.id);
    expect(await infoOf("shop.orders")).toBeUndefined();
  });

  test("is remembered by the status where an older release dropped it from the record", async () => {
    const theirs = log.createTopicNow("shop.orders", 1);
    await allowing("shop.orders").apply(topic({}), owner);
    const record = catalog.records.get("shop/orders") as CatalogRecord;
    await catalog.put("shop/orders", { ...record, adopted: false });
    const recorded = { topicId: theirs.id, adopted: true };
    expect(await reconciler.apply(topic({}), { ...owner, recorded })).toMatchObject({
      ...{ ready: true, adopted: true },
    });
    await reconciler.delete("shop/orders", "Delete");
    expect(await infoOf("shop.orders")).toBeDefined();
  });

  test("takes a retained topic over from its first owner, who then has a conflict", async () => {
    const first = await reconciler.apply(topic({ kafkaTopic: "shop.all" }), owner);
    await reconciler.delete("shop/orders", "Retain");
    const other = topic({ kafkaTopic: "shop.all" }, "other");
    expect(await allowing("shop/shop.all").apply(other, owner)).toMatchObject({
      ...{ ready: true, topicId: first.topicId, adopted: true },
    });
    expect([...catalog.records.keys()]).toEqual(["shop/other"]);
    await nextOperator();
    expect(await reconciler.apply(other, owner)).toMatchObject({ ready: true });
    expect(await reconciler.apply(topic({ kafkaTopic: "shop.all" }), owner)).toMatchObject({
      ...{ ready: false, reason: "Conflict", topicId: "" },
    });
  });

  test("that was interrupted between the two records is finished by the next operator", async () => {
    await reconciler.apply(topic({ kafkaTopic: "shop.all" }), owner);
    await reconciler.delete("shop/orders", "Retain");
    const other = topic({ kafkaTopic: "shop.all" }, "other");
    const remove = catalog.remove.bind(catalog);
    catalog.remove = async () => {
      throw new Error("killed");
    };
    expect(await allowing("shop/shop.all").apply(other, owner)).toMatchObject({ ready: false });
    catalog.remove = remove;
    expect(catalog.records.size).toBe(2);
    await nextOperator();
    expect(await reconciler.apply(other, owner)).toMatchObject({ ready: true });
    expect([...catalog.records.keys()]).toEqual(["shop/other"]);
  });
});

test("of two new Topics that name one Kafka topic the older has it, whoever comes first", async () => {
  const spec = { kafkaTopic: "shop.all" };
  const [old, young] = [topic(spec, "old"), topic(spec, "young")];
  const refused = await reconciler.apply(young, { ...owner, older: [old] });
  expect(refused).toMatchObject({ ready: false, reason: "Conflict" });
  expect(refused.message).toContain("Topic shop/old too, which is older");
  expect(await reconciler.apply(old, owner)).toMatchObject({ ready: true });
  expect(await reconciler.apply(young, owner)).toMatchObject({ reason: "Conflict" });
});

test("an older Topic that may not have the name, or has another already, keeps nobody waiting", async () => {
  const stranger: TopicResource = {
    metadata: { name: "x", namespace: "bank" },
    spec: { kafkaTopic: "shop.orders" },
  };
  await reconciler.apply(topic({}, "has"), owner);
  const renamed = topic({ kafkaTopic: "shop.orders" }, "has");
  expect(await reconciler.apply(topic({}), { ...owner, older: [stranger, renamed] })).toMatchObject(
    { ready: true },
  );
});

describe("other deployments on the same Kafka", () => {
  const wanted = topic({ kafkaTopic: "shared" });
  const allowed = allowedNames(["shared"]);

  async function deployment(id: string, now = 1) {
    const its = await CatalogWriter.open(log, id, () => now);
    const others = new OtherDeployments(log, id);
    return { its, others, reconciler: new Reconciler(log, its, { allowed, others }) };
  }

  test("what one holds is a conflict for another, with its name, and goes over when it is free", async () => {
    const [one, two] = [await deployment("one"), await deployment("two")];
    expect(await one.reconciler.apply(wanted, owner)).toMatchObject({ ready: true });
    const refused = await two.reconciler.apply(wanted, owner);
    expect(refused).toMatchObject({ ready: false, reason: "Conflict", topicId: "" });
    expect(refused.message).toContain('held by Topic shop/orders of deployment "one"');
    expect(two.its.records.size).toBe(0);
    await one.reconciler.delete("shop/orders", "Retain");
    expect((await two.reconciler.apply(wanted, owner)).message).toContain("is retained for");
    await one.its.delete();
    expect(await two.reconciler.apply(wanted, owner)).toMatchObject({ ready: true, adopted: true });
  });

  test("of two that adopt at the same moment the older record keeps it", async () => {
    log.createTopicNow("shared", 1);
    const [one, two] = [await deployment("one", 7), await deployment("two", 5)];
    // Both have looked before either has written: what they do next is in lockstep.
    let arrived = 0;
    const met = Promise.withResolvers<void>();
    for (const { its } of [one, two]) {
      const put = its.put.bind(its);
      its.put = async (...given) => {
        if (++arrived === 2) met.resolve();
        await met.promise;
        return put(...given);
      };
    }
    const both = [one, two].map((each) => each.reconciler.apply(wanted, owner));
    await Promise.all(both);
    const again = [];
    for (const each of [one, two]) again.push((await each.reconciler.apply(wanted, owner)).ready);
    expect(again).toEqual([false, true]);
    expect([one.its.records.size, two.its.records.size]).toEqual([0, 1]);
  });

  test("a catalog that cannot be read holds up what would be taken, and nothing else", async () => {
    const [one, two] = [await deployment("one"), await deployment("two")];
    await two.reconciler.apply(topic({}, "mine"), owner);
    const value = Buffer.from([0xff]);
    const damaged = { key: Buffer.from("a/b"), value, headers: [], timeMs: 1 };
    log.appendNow("_throughline.one.catalog", 0, [damaged]);
    expect((await two.reconciler.apply(wanted, owner)).message).toContain("damaged record");
    expect(await infoOf("shared")).toBeUndefined();
    expect(await two.reconciler.apply(topic({}, "mine"), owner)).toMatchObject({ ready: true });
    await one.its.close();
  });
});

describe("a catalog that was lost", () => {
  const apply = (recorded: { topicId: string; adopted: boolean }, annotated = topic({})) =>
    reconciler.apply(annotated, { ...owner, recorded });

  beforeEach(async () => {
    await reconciler.apply(topic({}), owner);
    await catalog.delete();
    await nextOperator();
  });

  test("is written anew by what the statuses say: the same Kafka topic is no stranger's", async () => {
    const topicId = (await infoOf("shop.orders"))?.id as string;
    expect(await apply({ topicId, adopted: false })).toMatchObject({ ready: true, topicId });
    await reconciler.delete("shop/orders", "Delete");
    expect(await infoOf("shop.orders")).toBeUndefined();
  });

  test("hides no loss: a Kafka topic that is gone too is not made anew", async () => {
    const topicId = (await infoOf("shop.orders"))?.id as string;
    log.topics.remove("shop.orders");
    expect(await apply({ topicId, adopted: false })).toMatchObject({
      ...{ ready: false, reason: "DataLost", topicId },
    });
    expect(await infoOf("shop.orders")).toBeUndefined();
    expect(catalog.records.get("shop/orders")?.state).toBe(2);
    const accepted = await apply({ topicId, adopted: false }, accepting(topic({}), topicId));
    expect(accepted).toMatchObject({ ready: true, adopted: false });
  });
});
