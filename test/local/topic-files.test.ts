/**
 * A directory as the source of Topics. P9 and P10: bad input gets a clear error and changes nothing, the
 * other Topics are unharmed, and no data goes that its owner did not ask to delete.
 */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { type TOPIC_FILES_TIMING, TopicFiles } from "../../local/topic-files.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler, type TopicStatus } from "../../operator/reconcile.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";

let timing: typeof TOPIC_FILES_TIMING;
let scratch: string;
let directory: string;
let log: MemoryLog;
let files: TopicFiles;
let statuses: Map<string, TopicStatus>;
let errors: string[];
let deleted: string[];
let watching: (() => void)[];

beforeEach(() => {
  timing = { settleMs: 5, confirmMs: 20, retryMs: 20, resyncMs: 60_000 };
  scratch = mkdtempSync(join(tmpdir(), "throughline-topics-"));
  directory = join(scratch, "topics");
  mkdirSync(directory);
  log = new MemoryLog();
  statuses = new Map();
  errors = [];
  deleted = [];
  watching = [];
});

afterEach(async () => {
  await files?.close();
  rmSync(scratch, { recursive: true, force: true });
});

/** What a new process does: it reads the state file and the catalog. */
async function start(): Promise<void> {
  const catalog = await CatalogWriter.open(log, "test", () => 1);
  const tell = (): void => {
    for (const look of watching) look();
  };
  files = new TopicFiles({
    directory,
    stateFile: join(scratch, "topics.json"),
    clusterUid: "test",
    reconciler: new Reconciler(log, catalog, () => true),
    timing,
    onStatus: (name, status) => {
      statuses.set(name, status);
      tell();
    },
    onDeleted: (name, policy) => {
      statuses.delete(name);
      deleted.push(`${name} ${policy}`);
      tell();
    },
    onError: (error) => {
      errors.push(error);
      tell();
    },
  });
  await files.start();
}

/** Resolves when what was told makes it so. */
function until(so: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (so()) resolve();
    };
    watching.push(look);
    look();
  });
}

function write(file: string, content: string | Buffer): void {
  writeFileSync(join(scratch, "part"), content);
  renameSync(join(scratch, "part"), join(directory, file));
}

function remove(file: string): void {
  rmSync(join(directory, file));
}

/** JSON is YAML. */
function yaml(name: string, spec: object = {}): string {
  const metadata = { name, namespace: "shop" };
  return JSON.stringify({ apiVersion: "throughline.dev/v1alpha1", kind: "Topic", metadata, spec });
}

function ready(name: string): boolean {
  return statuses.get(`shop/${name}`)?.ready === true;
}

async function infoOf(name: string) {
  const found = await log.admin.describeTopics([name]);
  return found.kind === "done" ? found.value.get(name) : undefined;
}

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
describe.each<[string, string | Buffer, RegExp]>([
  ["bad YAML", "metadata: {name: [", /^bad\.yaml: is not YAML: .* at line 1/],
  [
    "a duplicate key",
    "kind: Topic\nkind: Topic\n",
    /^bad\.yaml: is not YAML: Map keys must be uniq/,
  ],
  ["not UTF-8", Buffer.from([0x6b, 0xff, 0xfe]), /^bad\.yaml: is not UTF-8 text; save it as UTF-8/],
  ["a huge file", "#".repeat((1 << 20) + 1), /^bad\.yaml: it has 1048577 bytes, more than 1 MiB/],
  ["a scalar", "orders\n", /^bad\.yaml: the document: must be object/],
  ["a list", "- orders\n", /^bad\.yaml: the document: must be object/],
  ["an alias bomb", bomb(), /^bad\.yaml: cannot be taken: Excessive alias count/],
  ["nesting without end", "[".repeat(100_000), /^bad\.yaml: /],
  [
    "another kind",
    "apiVersion: throughline.dev/v1alpha1\nkind: Outbox\nmetadata: {}\n",
    /^bad\.yaml: kind: must be Topic\.$/,
  ],
  [
    "no namespace",
    yaml("bad").replace(',"namespace":"shop"', ""),
    /^bad\.yaml: metadata: must have required property 'namespace'/,
  ],
  [
    "metadata that is null",
    "apiVersion: throughline.dev/v1alpha1\nkind: Topic\nmetadata:\n",
    /^bad\.yaml: metadata: must be object/,
  ],
  [
    "an unknown field",
    yaml("bad", { partitionz: 3 }),
    /^bad\.yaml: spec: unknown field "partitionz"/,
  ],
  ["an illegal name", yaml("bad", { kafkaTopic: "a b" }), /^bad\.yaml: spec\.kafkaTopic: "a b"/],
  [
    "an internal name",
    yaml("bad", { kafkaTopic: "_throughline.x" }),
    /^bad\.yaml: .* are internal/,
  ],
  [
    "compaction",
    yaml("bad", { config: { "cleanup.policy": "compact,delete" } }),
    /^bad\.yaml: spec\.config: cleanup\.policy compact/,
  ],
])("%s", (_what, content, message) => {
  test("is one error, changes nothing, and its correction is enough", async () => {
    timing.confirmMs = 0;
    write("good.yaml", yaml("good", { deletionPolicy: "Delete" }));
    await start();
    const id = (await infoOf("shop.good"))?.id;
    write("bad.yaml", content);
    await until(() => errors.length > 0);
    write("more.yaml", yaml("more"));
    await until(() => ready("more"));
    expect(errors).toEqual([expect.stringMatching(message)]);
    expect([...statuses.keys()]).toEqual(["shop/good", "shop/more"]);
    expect((await infoOf("shop.good"))?.id).toBe(id);
    write("bad.yaml", yaml("bad"));
    await until(() => ready("bad"));
    expect(deleted).toEqual([]);
  });
});

test.each<[string, TopicSpec, TopicSpec, RegExp]>([
  ["shrinking partitions", { partitions: 3 }, { partitions: 2 }, /never shrink/],
  ["another Kafka topic", { kafkaTopic: "shop.a" }, { kafkaTopic: "shop.b" }, /immutable/],
  ["another ordering", { ordering: "Key" }, { ordering: "Total" }, /immutable/],
  ["what cannot be read", {}, { retention: { time: "soon" } }, /spec\.retention\.time: "soon"/],
])(
  "an edit to %s is refused, and the Topic stays as it was",
  async (_what, first, second, message) => {
    // What would be deleted would be so at the first look.
    timing.confirmMs = 0;
    write("orders.yaml", yaml("orders", first));
    await start();
    const before = statuses.get("shop/orders");
    write("orders.yaml", yaml("orders", second));
    await until(() => errors.length > 0);
    expect(errors).toEqual([expect.stringMatching(message)]);
    expect(errors[0]).toMatch(/Topic shop\/orders stays as it was\.$/);
    await until(() => ready("orders"));
    expect(statuses.get("shop/orders")).toEqual(before);
    write("orders.yaml", yaml("orders", { ...first, retention: { time: "1d" } }));
    // The last in the order of files: when it is Ready, all were looked at.
    write("zero.yaml", yaml("zero"));
    await until(() => ready("zero"));
    const settings = await log.admin.settings(before?.kafkaTopic as string);
    expect(settings.kind === "done" && settings.value["retention.ms"]).toBe("86400000");
    expect(deleted).toEqual([]);
  },
);

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

/** A billion laughs: ten levels of ten. */
function bomb(): string {
  const levels = Array.from({ length: 9 }, (_, i) => {
    const aliases = Array.from({ length: 10 }, () => `*a${i}`).join(", ");
    return `a${i + 1}: &a${i + 1} [${aliases}]`;
  });
  return `a0: &a0 [x, x]\n${levels.join("\n")}\n`;
}
