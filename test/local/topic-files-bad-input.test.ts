import { describe, expect, test } from "@jest/globals";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import {
  deleted,
  errors,
  infoOf,
  log,
  ready,
  start,
  statuses,
  timing,
  until,
  write,
  yaml,
} from "./topic-files-bed.ts";

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

/** A billion laughs: ten levels of ten. */
function bomb(): string {
  const levels = Array.from({ length: 9 }, (_, i) => {
    const aliases = Array.from({ length: 10 }, () => `*a${i}`).join(", ");
    return `a${i + 1}: &a${i + 1} [${aliases}]`;
  });
  return `a0: &a0 [x, x]\n${levels.join("\n")}\n`;
}
