/** Topics of a real API server, by the operator as a process, into a real Kafka: the usual, as a person sees it. */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { until } from "../story/waits.ts";
import { ended } from "./processes.ts";
import { isReady, SLOW_MS, TopicBed } from "./topic-bed.ts";

let bed: TopicBed;

beforeAll(async () => {
  bed = await TopicBed.start();
}, SLOW_MS);

afterEach(() => bed.killAll());

afterAll(() => bed?.stop(), SLOW_MS);

test(
  "kubectl apply of a Topic makes it in Kafka and Ready; growth, and deletion by policy, follow",
  async () => {
    await bed.namespace("shop");
    bed.operator("one", "--namespaces", "shop");
    await bed.apply("shop/orders", { partitions: 2, deletionPolicy: "Delete" });
    await bed.untilReady("shop/orders");
    const { id } = (await bed.kafkaTopic("shop.orders")) ?? {};
    const { status } = await bed.topic("shop/orders");
    expect(status).toMatchObject({
      ...{ kafkaTopic: "shop.orders", topicId: id, partitions: 2, replicas: 1 },
    });
    await bed.patch("shop/orders", { spec: { partitions: 3 } });
    await bed.until("shop/orders", (topic) => isReady(topic) && topic?.status?.partitions === 3);
    expect(await bed.kafkaTopic("shop.orders")).toMatchObject({ partitions: 3, id });
    expect(await bed.told("shop/orders", 2)).toEqual(["Normal Ready", "Warning PartitionsGrew"]);
    await bed.delete("shop/orders");
    await bed.untilGone("shop/orders");
    expect(await bed.kafkaTopic("shop.orders")).toBeUndefined();
  },
  SLOW_MS,
);

test(
  "kubectl answers whether it is well, waits for it, and explains the fields",
  async () => {
    await bed.namespace("people");
    bed.operator("people", "--namespaces", "people");
    await bed.apply("people/well", {});
    await bed.apply("people/ill", { replicas: 3 });
    const wait = ["wait", "-n", "people", "--for=condition=Ready", "--timeout=60s"];
    expect(await bed.kubectl(...wait, "topic/well")).toContain("condition met");
    await bed.untilReason("people/ill", "INVALID_REPLICATION_FACTOR");
    const rows = (await bed.kubectl("get", "topics", "-n", "people")).trim().split("\n");
    expect(
      rows.map((row) =>
        row
          .trim()
          .split(/\s{2,}/)
          .slice(0, 4),
      ),
    ).toEqual([
      ["NAME", "READY", "REASON", "KAFKA TOPIC"],
      ["ill", "False", "INVALID_REPLICATION_FACTOR", "people.ill"],
      ["well", "True", "Ready", "people.well"],
    ]);
    // A change is waited for, not met by what was so before it.
    await bed.killAll();
    await bed.patch("people/well", { spec: { partitions: 2 } });
    await expect(bed.kubectl(...wait, "--timeout=1s", "topic/well")).rejects.toThrow("timed out");
    expect(await bed.kubectl("explain", "topic.spec.retention.time")).toContain("such as 7d");
    expect(await bed.kubectl("explain", "topic")).toContain("throughline.dev/accept-loss");
  },
  SLOW_MS,
);

test(
  "the API server refuses what breaks the rules, with the field",
  async () => {
    await bed.namespace("rules");
    await expect(bed.apply("rules/bad", { ordering: "Total", partitions: 2 })).rejects.toThrow(
      /partitions/,
    );
    await expect(bed.apply("rules/bad", { partitions: 0 })).rejects.toThrow(/spec.partitions/);
    const compacted = { config: { "cleanup.policy": "compact" } };
    await expect(bed.apply("rules/bad", compacted)).rejects.toThrow(/use retention/);
  },
  SLOW_MS,
);

test(
  "an operator that is killed is followed by another, and the API server's restart is survived",
  async () => {
    await bed.namespace("pair");
    const first = bed.operator("two", "--namespaces", "pair");
    await bed.apply("pair/a", {});
    await bed.untilReady("pair/a");
    await bed.plane.restartApiServer();
    await bed.apply("pair/b", {});
    await bed.untilReady("pair/b");
    bed.operator("two", "--namespaces", "pair");
    await ended(first, "SIGKILL");
    await bed.apply("pair/c", {});
    await bed.untilReady("pair/c");
    expect((await bed.kafkaTopic("pair.c"))?.partitions).toBe(1);
  },
  SLOW_MS,
);

test(
  "settings that somebody changed in Kafka come back; what is paused is left as it is",
  async () => {
    await bed.namespace("drift");
    bed.operator("drift", "--namespaces", "drift");
    const spec = { config: { "min.insync.replicas": "1" } };
    await bed.apply("drift/a", spec);
    await bed.untilReady("drift/a");
    const drift = { "min.insync.replicas": "2", "flush.ms": "7" };
    await bed.annotate("drift/a", { "throughline.dev/pause": "true" });
    await bed.untilReason("drift/a", "Paused");
    await bed.log.admin.changeSettings("drift.a", drift, []);
    await bed.patch("drift/a", { spec: { partitions: 2 } });
    await bed.untilReason("drift/a", "Paused");
    expect((await bed.topic("drift/a")).status).toMatchObject({ partitions: 1 });
    expect((await bed.kafkaTopic("drift.a"))?.partitions).toBe(1);
    await bed.annotate("drift/a", { "throughline.dev/pause": null });
    await bed.until("drift/a", (topic) => isReady(topic) && topic?.status?.partitions === 2);
    const mended = { "min.insync.replicas": "1", "max.message.bytes": "1114112" };
    expect(await bed.log.admin.settings("drift.a")).toEqual({ kind: "done", value: mended });
    // Nobody tells the operator of this one: its own look finds it.
    await bed.log.admin.changeSettings("drift.a", drift, []);
    await until(async () => {
      const found = await bed.log.admin.settings("drift.a");
      return found.kind === "done" && !("flush.ms" in found.value);
    });
  },
  SLOW_MS,
);
