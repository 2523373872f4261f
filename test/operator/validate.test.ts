/** Bad Topics: one clear error that names the field and the fix. */
import { expect, test } from "@jest/globals";
import { bytesOf, millisecondsOf } from "../../operator/quantities.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import { settingsOf } from "../../operator/topic-spec.ts";
import { TopicValidator } from "../../operator/validate.ts";
import { REFUSED, REFUSED_CHANGES } from "./refused-specs.ts";

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

test.each(REFUSED)("%s is refused by name", (_what, spec, message) => {
  expect(errorsOf(spec).join("\n")).toMatch(message);
});

test.each(REFUSED_CHANGES)("a change to %s is refused", (_what, old, spec, message) => {
  expect(errorsOf(spec, old).join("\n")).toMatch(message);
});

test("more partitions are accepted", () => {
  expect(errorsOf({ partitions: 9 }, { partitions: 6 })).toEqual([]);
});

test.each([
  ["10Gi", 10 * 2 ** 30],
  ["999Ti", 999 * 2 ** 40],
  ["999999999999999", 999_999_999_999_999],
])("the size %s is exact", (size, bytes) => {
  expect(errorsOf({ retention: { size } })).toEqual([]);
  expect(bytesOf(size)).toBe(bytes);
  expect(String(bytes)).toMatch(/^\d+$/);
});

test("the longest time fits into Kafka's 64 bits, written in digits", () => {
  const time = "99999999d";
  expect(errorsOf({ retention: { time } })).toEqual([]);
  expect(String(millisecondsOf(time))).toMatch(/^\d{1,18}$/);
});

test("the largest event fits into Kafka's int32 with its room", () => {
  for (const maxEventBytes of ["999Mi", "999999Ki", "999999999"]) {
    expect(errorsOf({ limits: { maxEventBytes } })).toEqual([]);
    const topic = { metadata: { name: "a", namespace: "b" }, spec: { limits: { maxEventBytes } } };
    expect(Number(settingsOf(topic)["max.message.bytes"])).toBeLessThan(2 ** 31);
  }
});

test.each([
  ["a scalar", "orders", /the document: must be object/],
  ["a list", [], /the document: must be object/],
  ["another kind", { apiVersion: "v1", kind: "ConfigMap", metadata: {} }, /kind: must be Topic/],
  [
    "no namespace",
    { apiVersion: "throughline.dev/v1alpha1", kind: "Topic", metadata: { name: "orders" } },
    /metadata: must have required property 'namespace'/,
  ],
  [
    "a name that is none",
    {
      apiVersion: "throughline.dev/v1alpha1",
      kind: "Topic",
      metadata: { name: "Orders!", namespace: "shop" },
    },
    /metadata\.name: "Orders!"/,
  ],
])("%s is refused", (_what, document, message) => {
  const result = validator.validate(document);
  expect("errors" in result && result.errors.join("\n")).toMatch(message);
});
