/**
 * The Topic resource, once: the structural schema and the CEL rules that the CRD carries and that
 * `validate.ts` runs here, and the TypeScript type of what they admit.
 */

const GROUP = "throughline.dev";
export const API_VERSION = `${GROUP}/v1alpha1`;

export interface TopicSpec {
  readonly kafkaTopic?: string;
  readonly ordering?: "Key" | "Total" | "Commit";
  readonly partitions?: number;
  readonly replicas?: number;
  readonly retention?: { readonly time?: string; readonly size?: string };
  readonly config?: Readonly<Record<string, string>>;
  readonly deletionPolicy?: "Retain" | "Delete";
  readonly limits?: { readonly maxEventBytes?: string };
  readonly access?: {
    readonly publish?: readonly string[];
    readonly subscribe?: readonly string[];
  };
  readonly outbox?: string;
}

/** A CEL rule over `self`; with `oldSelf` it is checked on changes only. */
export interface CelRule {
  readonly rule: string;
  readonly message: string;
}

const KAFKA_NAME = "^[a-zA-Z0-9._-]+$";
const QUANTITY = "^[1-9][0-9]*(Ki|Mi|Gi|Ti)?$";
const namespaces = {
  type: "array",
  maxItems: 100,
  items: { type: "string", pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", maxLength: 63 },
} as const;

export const TOPIC_SPEC_SCHEMA = {
  type: "object",
  description: "What the stream should be. Everything is optional.",
  properties: {
    kafkaTopic: {
      type: "string",
      description: 'Kafka topic; immutable. Default: "<namespace>.<name>".',
      pattern: KAFKA_NAME,
      minLength: 1,
      maxLength: 249,
    },
    ordering: {
      type: "string",
      enum: ["Key", "Total", "Commit"],
      description:
        "Key: events of one key in order. Total: one partition, all in order. Commit: one partition, written by a sequencer in commit order. Immutable.",
    },
    partitions: {
      type: "integer",
      minimum: 1,
      maximum: 10000,
      description:
        "May grow (ordering Key only; keys then move to other partitions), never shrink.",
    },
    replicas: {
      type: "integer",
      minimum: 1,
      maximum: 32767,
      description: "Default: the broker's.",
    },
    retention: {
      type: "object",
      properties: {
        time: { type: "string", pattern: "^[1-9][0-9]*(s|m|h|d)$", description: "Such as 7d." },
        size: { type: "string", pattern: QUANTITY, description: "Per partition, such as 10Gi." },
      },
    },
    config: {
      type: "object",
      description: "Kafka topic settings; a setting removed here returns to the broker's default.",
      maxProperties: 50,
      additionalProperties: { type: "string", maxLength: 10000 },
    },
    deletionPolicy: {
      type: "string",
      enum: ["Retain", "Delete"],
      description: "What happens to the Kafka topic when this Topic is deleted. Default: Retain.",
    },
    limits: {
      type: "object",
      properties: {
        maxEventBytes: { type: "string", pattern: QUANTITY, description: "Default: 1Mi." },
      },
    },
    access: {
      type: "object",
      description: "Other namespaces that may use this Topic; its own always may.",
      properties: { publish: namespaces, subscribe: namespaces },
    },
    outbox: {
      type: "string",
      minLength: 1,
      maxLength: 253,
      description: "Outbox that feeds this Topic; ordering Commit only. Immutable.",
    },
  },
} as const;

export const TOPIC_RULES: readonly CelRule[] = [
  {
    rule: "!has(self.kafkaTopic) || !self.kafkaTopic.startsWith('_')",
    message: "spec.kafkaTopic: names that start with _ are internal; choose another.",
  },
  {
    rule: "!has(self.config) || !('cleanup.policy' in self.config) || !self.config['cleanup.policy'].contains('compact')",
    message:
      "spec.config: cleanup.policy compact removes events that clients count on; use retention.",
  },
  {
    rule: "!has(self.config) || !('retention.ms' in self.config || 'retention.bytes' in self.config || 'max.message.bytes' in self.config)",
    message:
      "spec.config: use spec.retention and spec.limits for retention.ms, retention.bytes and max.message.bytes.",
  },
  {
    rule: "!has(self.ordering) || self.ordering == 'Key' || !has(self.partitions) || self.partitions == 1",
    message: "spec.partitions: ordering Total and Commit have exactly one partition.",
  },
  {
    rule: "(has(self.ordering) && self.ordering == 'Commit') == has(self.outbox)",
    message: "spec.outbox: ordering Commit needs an outbox, and only ordering Commit has one.",
  },
  {
    rule: "(has(self.kafkaTopic) ? self.kafkaTopic : '') == (has(oldSelf.kafkaTopic) ? oldSelf.kafkaTopic : '')",
    message: "spec.kafkaTopic: is immutable; make a new Topic instead.",
  },
  {
    rule: "(has(self.ordering) ? self.ordering : 'Key') == (has(oldSelf.ordering) ? oldSelf.ordering : 'Key')",
    message: "spec.ordering: is immutable; make a new Topic instead.",
  },
  {
    rule: "(has(self.outbox) ? self.outbox : '') == (has(oldSelf.outbox) ? oldSelf.outbox : '')",
    message: "spec.outbox: is immutable; make a new Topic instead.",
  },
  {
    rule: "(has(self.partitions) ? self.partitions : 1) >= (has(oldSelf.partitions) ? oldSelf.partitions : 1)",
    message: "spec.partitions: may grow, never shrink; Kafka cannot remove partitions.",
  },
];

/** Whether the rule compares with the spec before the change. */
export function isTransition(rule: CelRule): boolean {
  return rule.rule.includes("oldSelf");
}
