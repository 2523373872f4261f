/** Topics of a real API server, by the operator as a process, into a real Kafka: the usual, as a person sees it. */
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import type { KubeTopic } from "../../operator/kube/topic-api.ts";
import { REFUSED, REFUSED_CHANGES } from "../operator/refused-specs.ts";
import { until } from "../story/waits.ts";
import { ask } from "./api-request.ts";
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
    expect(await bed.told("shop/orders", 1)).toEqual(["Warning PartitionsGrew"]);
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

describe("the API server refuses what breaks the rules, with the field", () => {
  const place = "/apis/throughline.dev/v1alpha1/namespaces/rules/topics";
  /** As kubectl asks. */
  const strictly = "fieldValidation=Strict&dryRun=All";
  const head = { apiVersion: "throughline.dev/v1alpha1", kind: "Topic" };

  beforeAll(() => bed.namespace("rules"));

  test.each(REFUSED)("%s", async (_what, spec, _told, field) => {
    const topic = { ...head, metadata: { name: "bad" }, spec };
    const { status, body } = await ask(bed.plane.kube, "POST", `${place}?${strictly}`, topic);
    expect([status, body.message]).toEqual([expect.any(Number), expect.stringContaining(field)]);
    expect([400, 422]).toContain(status);
  });

  test.each(REFUSED_CHANGES)("a change to %s", async (_what, before, after, told, field) => {
    const name = field.replace("spec.", "").toLowerCase();
    await bed.apply(`rules/${name}`, before);
    const patch = { spec: after };
    const type = "application/merge-patch+json";
    const path = `${place}/${name}?${strictly}`;
    const { status, body } = await ask(bed.plane.kube, "PATCH", path, patch, type);
    expect([status, body.message]).toEqual([422, expect.stringMatching(told)]);
    expect(body.message).toContain(field);
  });
});

test(
  "GitOps: applied again and again nothing changes; the operator has its status and its finalizer, a field one owner",
  async () => {
    await bed.namespace("gitops");
    bed.operator("gitops", "--namespaces", "gitops");
    const metadata = { name: "orders", namespace: "gitops" };
    const spec = { partitions: 2, deletionPolicy: "Delete" };
    const head = { apiVersion: "throughline.dev/v1alpha1", kind: "Topic" };
    const file = (of: object): string =>
      bed.file("orders.json", JSON.stringify({ ...head, ...of }));
    const flux = ["--server-side", "--field-manager=flux", "-f", file({ metadata, spec })];
    await bed.kubectl("apply", ...flux);
    await bed.untilReady("gitops/orders");
    const before = await bed.topic("gitops/orders");
    // It ends with 1, and rejects, where something would change.
    await bed.kubectl("diff", ...flux);
    await bed.kubectl("apply", ...flux);
    expect(await bed.topic("gitops/orders")).toEqual(before);
    const fields = managedFieldsOf(before).map(({ manager, subresource, fieldsV1 }) => [
      ...[manager, subresource ?? "", Object.keys(fieldsV1).sort()],
    ]);
    expect(fields.toSorted()).toEqual([
      ["flux", "", ["f:spec"]],
      ["throughline-operator", "", ["f:metadata"]],
      ["throughline-operator", "status", ["f:status"]],
    ]);
    // Another tool may have a field of its own, and is told of flux where it wants one of flux's.
    const other = ["--server-side", "--field-manager=argo", "-f"];
    const labelled = { ...metadata, labels: { team: "shop" } };
    await bed.kubectl("apply", ...other, file({ metadata: labelled }));
    const greedy = file({ metadata, spec: { partitions: 3 } });
    await expect(bed.kubectl("apply", ...other, greedy)).rejects.toThrow(/conflict.*"flux"/);
    expect((await bed.topic("gitops/orders")).spec).toEqual(spec);
  },
  SLOW_MS,
);

test(
  "a leader that was frozen thaws: it touches nothing that was made since, and ends with exit code 3",
  async () => {
    await bed.namespace("frozen");
    const frozen = bed.operator("frozen", "--namespaces", "frozen");
    await bed.apply("frozen/a", { deletionPolicy: "Delete" });
    await bed.untilReady("frozen/a");
    frozen.kill("SIGSTOP");
    // What the frozen one finds when it thaws is a deletion to do, of a name that has another topic by then.
    await bed.delete("frozen/a");
    bed.operator("frozen", "--namespaces", "frozen");
    await bed.untilGone("frozen/a");
    await bed.apply("frozen/a", { partitions: 2, deletionPolicy: "Delete" });
    await bed.untilReady("frozen/a");
    const made = await bed.kafkaTopic("frozen.a");
    const ending = once(frozen, "exit");
    frozen.kill("SIGCONT");
    expect(await ending).toEqual([3, null]);
    await bed.apply("frozen/b", {});
    await bed.untilReady("frozen/b");
    expect(await bed.kafkaTopic("frozen.a")).toEqual(made);
    expect((await bed.topic("frozen/a")).status?.topicId).toBe(made?.id);
  },
  SLOW_MS,
);

test(
  "two operators by mistake, of one deployment with a Lease each: the newer fences the older, which ends with exit code 3",
  async () => {
    await bed.namespace("mistake");
    const older = bed.operator("mistake", "--namespaces", "mistake", "--lease-name", "one");
    const ending = once(older, "exit");
    await bed.apply("mistake/a", {});
    await bed.untilReady("mistake/a");
    bed.operator("mistake", "--namespaces", "mistake", "--lease-name", "two");
    // It learns of the other when it writes.
    for (let i = 0; older.exitCode === null; i++) {
      await bed.apply(`mistake/t${i}`, {});
      await bed.untilReady(`mistake/t${i}`);
    }
    expect(await ending).toEqual([3, null]);
    await bed.apply("mistake/b", {});
    await bed.untilReady("mistake/b");
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

interface ManagedField {
  readonly manager: string;
  readonly subresource?: string;
  readonly fieldsV1: object;
}

function managedFieldsOf({ metadata }: KubeTopic): readonly ManagedField[] {
  return (metadata as { readonly managedFields?: readonly ManagedField[] }).managedFields ?? [];
}
