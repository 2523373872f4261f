/** Specs that are refused at apply, by the rules as they run here and by a real API server. */
import type { TopicSpec } from "../../operator/topic-schema.ts";

/** What is wrong, the spec, what a Topic file's author is told, and the field that the API server names. */
export const REFUSED: readonly (readonly [string, object, RegExp, string])[] = [
  ["an unknown field", { partitionz: 3 }, /unknown field "partitionz"/, "spec.partitionz"],
  ["partitions of zero", { partitions: 0 }, /spec\.partitions/, "spec.partitions"],
  [
    "a bad quantity",
    { retention: { time: "seven" } },
    /spec\.retention\.time: "seven" .* such as 7d/,
    "spec.retention.time",
  ],
  [
    "a time past what Kafka keeps",
    { retention: { time: "999999999999d" } },
    /spec\.retention\.time/,
    "spec.retention.time",
  ],
  [
    "a size past what Kafka keeps",
    { retention: { size: "99999999Ti" } },
    /spec\.retention\.size/,
    "spec.retention.size",
  ],
  [
    "an event larger than Kafka's int32",
    { limits: { maxEventBytes: "2Gi" } },
    /maxEventBytes: "2Gi"/,
    "spec.limits.maxEventBytes",
  ],
  [
    "a number where Kafka has text",
    { config: { "flush.ms": 5 } },
    /flush\.ms: must be string; put/,
    "spec.config.flush.ms",
  ],
  ["a name of two dots", { kafkaTopic: ".." }, /does not take/, "spec.kafkaTopic"],
  [
    "a setting that has a field",
    { config: { "retention.ms": "5" } },
    /use spec\.retention/,
    "spec.config",
  ],
  ["an internal name", { kafkaTopic: "_throughline.x" }, /internal/, "spec.kafkaTopic"],
  ["an illegal name", { kafkaTopic: "a b" }, /spec\.kafkaTopic/, "spec.kafkaTopic"],
  ["compaction", { config: { "cleanup.policy": "compact" } }, /compact/, "spec.config"],
  [
    "two partitions in total order",
    { ordering: "Total", partitions: 2 },
    /exactly one partition/,
    "spec.partitions",
  ],
  ["Commit without an outbox", { ordering: "Commit" }, /spec\.outbox/, "spec.outbox"],
  ["an outbox without Commit", { outbox: "o" }, /spec\.outbox/, "spec.outbox"],
];

/** To what a change is refused, the spec before and after, what is told, and the field. */
export const REFUSED_CHANGES: readonly (readonly [string, TopicSpec, TopicSpec, RegExp, string])[] =
  [
    ["fewer partitions", { partitions: 6 }, { partitions: 3 }, /never shrink/, "spec.partitions"],
    [
      "another Kafka topic",
      { kafkaTopic: "a" },
      { kafkaTopic: "b" },
      /immutable/,
      "spec.kafkaTopic",
    ],
    ["another ordering", { ordering: "Key" }, { ordering: "Total" }, /immutable/, "spec.ordering"],
  ];
