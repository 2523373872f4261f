/** Bad Topics: one clear error that names the field and the fix. */
import { expect, test } from "@jest/globals";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import { TopicValidator } from "../../operator/validate.ts";

const validator = new TopicValidator();

function errorsOf(spec: object, old?: TopicSpec): string[] {
  const result = validator.validate(
    {
      apiVersion: "throughline.dev/v1alpha1",
      kind: "Topic",
      metadata: { name: "orders", namespace: "shop" },
      spec,
    },
    old,
  );
  return "errors" in result ? result.errors : [];
}

test("a full and an empty spec are accepted", () => {
  expect(errorsOf({})).toEqual([]);
  expect(
    errorsOf({
      kafkaTopic: "shop.orders",
      ordering: "Key",
      partitions: 6,
      replicas: 3,
      retention: { time: "7d", size: "10Gi" },
      config: { "min.insync.replicas": "2" },
      deletionPolicy: "Delete",
      limits: { maxEventBytes: "1Mi" },
      access: { publish: ["a"], subscribe: ["b"] },
    }),
  ).toEqual([]);
});

test.each<[string, object, RegExp]>([
  ["an unknown field", { partitionz: 3 }, /unknown field "partitionz"/],
  ["partitions of zero", { partitions: 0 }, /spec\.partitions/],
  ["a bad quantity", { retention: { time: "seven" } }, /spec\.retention\.time/],
  ["an internal name", { kafkaTopic: "_throughline.x" }, /internal/],
  ["an illegal name", { kafkaTopic: "a b" }, /spec\.kafkaTopic/],
  ["compaction", { config: { "cleanup.policy": "compact" } }, /compact/],
  ["two partitions in total order", { ordering: "Total", partitions: 2 }, /exactly one partition/],
  ["Commit without an outbox", { ordering: "Commit" }, /spec\.outbox/],
  ["an outbox without Commit", { outbox: "o" }, /spec\.outbox/],
])("%s is refused by name", (_what, spec, message) => {
  expect(errorsOf(spec).join("\n")).toMatch(message);
});

test.each<[string, TopicSpec, TopicSpec, RegExp]>([
  ["fewer partitions", { partitions: 6 }, { partitions: 3 }, /never shrink/],
  ["another Kafka topic", { kafkaTopic: "a" }, { kafkaTopic: "b" }, /immutable/],
  ["another ordering", { ordering: "Key" }, { ordering: "Total" }, /immutable/],
])("a change to %s is refused", (_what, old, spec, message) => {
  expect(errorsOf(spec, old).join("\n")).toMatch(message);
});

test("more partitions are accepted", () => {
  expect(errorsOf({ partitions: 9 }, { partitions: 6 })).toEqual([]);
});
