/**
 * A directory as the source of Topics. P9 and P10: bad input gets a clear error and changes nothing, the
 * other Topics are unharmed, and no data goes that its owner did not ask to delete.
 */
import { cpSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import {
  deleted,
  directory,
  errors,
  files,
  infoOf,
  log,
  ready,
  remove,
  scratch,
  start,
  statuses,
  timing,
  until,
  write,
  yaml,
} from "./topic-files-bed.ts";

test("adding, editing and removing a document is apply, edit and delete", async () => {
  await start();
  write("orders.yaml", yaml("orders", { partitions: 2 }));
  await until(() => ready("orders"));
  expect((await infoOf("shop.orders"))?.partitions).toBe(2);
  write("orders.yaml", yaml("orders", { partitions: 5 }));
  await until(() => statuses.get("shop/orders")?.partitions === 5);
  remove("orders.yaml");
  await until(() => deleted.length > 0);
  expect(deleted).toEqual(["shop/orders Retain"]);
  expect(await infoOf("shop.orders")).toBeDefined();
  write("orders.yaml", yaml("orders", { partitions: 5 }));
  await until(() => ready("orders"));
  expect(errors).toEqual([]);
});

test("one file may hold several Topics, and .yml, comments and empty documents are fine", async () => {
  write("all.yml", `# both\n---\n${yaml("a")}\n---\n# nothing\n---\n${yaml("b")}\n`);
  write("notes.txt", "not a Topic");
  write(".#all.yaml", "an editor's own");
  await start();
  expect([...statuses.keys()]).toEqual(["shop/a", "shop/b"]);
  expect(errors).toEqual([]);
});

test("deletionPolicy Delete deletes the Kafka topic, and only that one", async () => {
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
  write("other.yaml", yaml("other", { deletionPolicy: "Delete" }));
  await start();
  remove("orders.yaml");
  await until(() => deleted.length > 0);
  expect(deleted).toEqual(["shop/orders Delete"]);
  expect(await infoOf("shop.orders")).toBeUndefined();
  expect(await infoOf("shop.other")).toBeDefined();
});

test("a file that is away for a moment, as editors do it, deletes nothing", async () => {
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
  await start();
  const id = (await infoOf("shop.orders"))?.id;
  remove("orders.yaml");
  write("other.yaml", yaml("other"));
  // The look that finds "other" is the first that misses "orders".
  await until(() => ready("other"));
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete", partitions: 2 }));
  await until(() => statuses.get("shop/orders")?.partitions === 2);
  for (let partitions = 2; partitions < 8; partitions++) {
    write("other.yaml", yaml("other", { partitions }));
    await until(() => statuses.get("shop/other")?.partitions === partitions);
  }
  // Away again: the time that it was away before does not count.
  remove("orders.yaml");
  write("more.yaml", yaml("more"));
  await until(() => ready("more"));
  expect(deleted).toEqual([]);
  expect((await infoOf("shop.orders"))?.id).toBe(id);
});

test("a renamed file is the same Topic", async () => {
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
  await start();
  renameSync(join(directory, "orders.yaml"), join(directory, "renamed.yaml"));
  write("other.yaml", yaml("other"));
  await until(() => ready("other"));
  expect(deleted).toEqual([]);
  expect(await infoOf("shop.orders")).toBeDefined();
});

describe("over a restart", () => {
  test("what may not change still may not", async () => {
    write("orders.yaml", yaml("orders", { partitions: 6 }));
    await start();
    await files.close();
    write("orders.yaml", yaml("orders", { partitions: 3 }));
    await start();
    expect(errors).toEqual([
      "orders.yaml: spec.partitions: may grow, never shrink; Kafka cannot remove partitions. Topic shop/orders stays as it was.",
    ]);
    expect(statuses.get("shop/orders")).toMatchObject({ ready: true, partitions: 6 });
  });

  test("a file that was removed while nothing ran is a deletion", async () => {
    write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
    await start();
    await files.close();
    remove("orders.yaml");
    await start();
    await until(() => deleted.length > 0);
    expect(await infoOf("shop.orders")).toBeUndefined();
  });

  test("a Topic that was deleted is forgotten: the file may come back as another", async () => {
    write("orders.yaml", yaml("orders", { partitions: 6, deletionPolicy: "Delete" }));
    await start();
    remove("orders.yaml");
    await until(() => deleted.length > 0);
    await files.close();
    write("orders.yaml", yaml("orders", { partitions: 3 }));
    await start();
    expect(statuses.get("shop/orders")).toMatchObject({ ready: true, partitions: 3 });
  });

  test.each([
    ["is not JSON", "{"],
    ["has not what it should", '[["shop/orders", {"topic": {}}]]'],
  ])("a state file that %s is one clear error, and nothing is deleted", async (_what, content) => {
    write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
    await start();
    await files.close();
    remove("orders.yaml");
    writeFileSync(join(scratch, "topics.json"), content);
    await expect(start()).rejects.toThrow(/state file .*topics\.json is damaged.*Restore it; or/);
    expect(await infoOf("shop.orders")).toBeDefined();
  });
});

/** Each beside a good Topic, before and after: one clear error, and that Topic is unharmed. */
test("a Topic that has no Kafka topic yet may change what is immutable later", async () => {
  log.createTopicNow("taken", 1);
  write("orders.yaml", yaml("orders", { kafkaTopic: "taken" }));
  await start();
  expect(statuses.get("shop/orders")).toMatchObject({ reason: "NotOurs" });
  write("orders.yaml", yaml("orders", { kafkaTopic: "free" }));
  await until(() => ready("orders"));
  expect(errors).toEqual([]);
});

test("two Topics for one Kafka topic: the first keeps it, the other says who holds it and waits", async () => {
  write("first.yaml", yaml("first", { kafkaTopic: "shop.all", deletionPolicy: "Delete" }));
  await start();
  write("another.yaml", yaml("another", { kafkaTopic: "shop.all" }));
  await until(() => statuses.has("shop/another"));
  expect(statuses.get("shop/another")).toMatchObject({
    reason: "Conflict",
    message: expect.stringContaining('"shop.all" is held by Topic shop/first'),
  });
  expect(ready("first")).toBe(true);
  remove("first.yaml");
  await until(() => ready("another"));
});

test.each(["copy.yaml", "zopy.yaml"])(
  "one Topic in two files: the file in force keeps it, and %s takes over when it goes",
  async (copy) => {
    write("orders.yaml", yaml("orders", { partitions: 2 }));
    await start();
    write(copy, yaml("orders", { partitions: 4 }));
    await until(() => errors.length > 0);
    expect(errors).toEqual([
      `${copy}: Topic shop/orders is in orders.yaml already; remove one of them.`,
    ]);
    write("zero.yaml", yaml("zero"));
    await until(() => ready("zero"));
    expect(statuses.get("shop/orders")?.partitions).toBe(2);
    remove("orders.yaml");
    await until(() => statuses.get("shop/orders")?.partitions === 4);
    expect(deleted).toEqual([]);
  },
);

test("while a file cannot be read nothing is deleted, and it is said; then it is", async () => {
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
  write("broken.yaml", yaml("inside", { deletionPolicy: "Delete" }));
  await start();
  write("broken.yaml", "kind: [");
  await until(() => errors.length === 1);
  remove("orders.yaml");
  await until(() => errors.length === 2);
  expect(errors[1]).toBe(
    "Topic shop/orders: no document has it any more; it is deleted when broken.yaml can be read.",
  );
  expect(await infoOf("shop.orders")).toBeDefined();
  // A link to nowhere cannot be read either, also by root.
  remove("broken.yaml");
  symlinkSync("nowhere", join(directory, "broken.yaml"));
  await until(() => errors.some((error) => error.includes("broken.yaml: cannot be read (ENOENT)")));
  expect(deleted).toEqual([]);
  remove("broken.yaml");
  await until(() => deleted.length === 2);
  expect(deleted.toSorted()).toEqual(["shop/inside Delete", "shop/orders Delete"]);
});

test.each([
  ["is a list", "- orders\n"],
  ["has no name", "apiVersion: throughline.dev/v1alpha1\nkind: Topic\n"],
])("a document that %s may be any Topic: nothing is deleted", async (_what, content) => {
  timing.confirmMs = 0;
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
  await start();
  write("renamed.yaml", content);
  remove("orders.yaml");
  await until(() => errors.length > 1);
  expect(errors[1]).toMatch(
    /^Topic shop\/orders: no document .* when renamed\.yaml can be read\.$/,
  );
  write("renamed.yaml", yaml("orders", { partitions: 2 }));
  await until(() => statuses.get("shop/orders")?.partitions === 2);
  expect(deleted).toEqual([]);
});

test("without its directory it does not start, and says what to do", async () => {
  rmSync(directory, { recursive: true });
  await expect(start()).rejects.toThrow(
    `The directory of Topic files ${directory} cannot be read (ENOENT); make it, or name another.`,
  );
});

test("a directory that goes away deletes nothing, and the one that comes is followed", async () => {
  timing.confirmMs = 0;
  write("orders.yaml", yaml("orders", { deletionPolicy: "Delete" }));
  await start();
  cpSync(directory, `${directory}.new`, { recursive: true });
  renameSync(directory, `${directory}.old`);
  await until(() => errors.length > 0);
  expect(errors).toEqual([expect.stringMatching(/^Topic files: ENOENT.*; trying again\.$/)]);
  renameSync(`${directory}.new`, directory);
  write("more.yaml", yaml("more"));
  await until(() => ready("more"));
  write("more.yaml", yaml("more", { partitions: 2 }));
  await until(() => statuses.get("shop/more")?.partitions === 2);
  expect(deleted).toEqual([]);
});

test("Kafka away: a new Topic says so, and is Ready when Kafka is back", async () => {
  await start();
  const { describeTopics } = log.topics;
  log.topics.describeTopics = async () => ({ kind: "unavailable", reason: "Kafka: no broker" });
  write("new.yaml", yaml("new"));
  await until(() => statuses.get("shop/new")?.reason === "KafkaUnavailable");
  log.topics.describeTopics = describeTopics;
  await until(() => ready("new"));
});

test("Kafka away: a deletion waits, says so, and is done when Kafka is back", async () => {
  write("old.yaml", yaml("old", { deletionPolicy: "Delete" }));
  await start();
  const { deleteTopic } = log.topics;
  log.topics.deleteTopic = async () => ({ kind: "unavailable", reason: "Kafka: no broker" });
  remove("old.yaml");
  await until(() => errors.length > 0);
  expect(errors).toEqual(["Topic shop/old cannot be deleted yet: Kafka: no broker"]);
  log.topics.deleteTopic = deleteTopic;
  await until(() => deleted.length > 0);
  expect(await infoOf("shop.old")).toBeUndefined();
});

test("a Kafka topic that somebody deleted is found without a change of a file", async () => {
  write("orders.yaml", yaml("orders"));
  timing.resyncMs = 20;
  await start();
  log.topics.remove("shop.orders");
  await until(() => statuses.get("shop/orders")?.reason === "DataLost");
});
