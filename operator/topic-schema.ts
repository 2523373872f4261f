/**
 * The Topic resource, once: the structural schema and the CEL rules that the CRD carries and that
 * `validate.ts` runs here, and the TypeScript type of what they admit.
 */

export const GROUP = "throughline.dev";
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

/** A CEL rule over the spec (`self`); with `oldSelf` it is checked on changes only. */
export interface CelRule {
  /** The field of the spec that the rule is about. */
  readonly field: keyof TopicSpec;
  readonly rule: string;
  readonly message: string;
}

/** Kafka's names are Topic names with the namespace before them, and end at 249 characters. */
export const MAX_NAME_LENGTH = 180;

const KAFKA_NAME = "^[a-zA-Z0-9._-]+$";
/** Digits are bounded so that every quantity is exact as a number and fits where Kafka keeps it. */
const DURATION = "^[1-9][0-9]{0,7}(s|m|h|d)$";
const QUANTITY =
  "^([1-9][0-9]{0,14}|[1-9][0-9]{0,11}Ki|[1-9][0-9]{0,8}Mi|[1-9][0-9]{0,5}Gi|[1-9][0-9]{0,2}Ti)$";
/** Below 1 Gi: Kafka's max.message.bytes is an int32. */
const EVENT_QUANTITY = "^([1-9][0-9]{0,8}|[1-9][0-9]{0,5}Ki|[1-9][0-9]{0,2}Mi)$";
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
      description:
        'Name of the Kafka topic: letters, digits, ".", "_" and "-". Default: "<namespace>.<name>". A name that does not begin with "<namespace>.", and a Kafka topic that exists already, need the operator\'s allow-list (--allowed-kafka-topics). Immutable.',
      pattern: KAFKA_NAME,
      minLength: 1,
      maxLength: 249,
    },
    ordering: {
      type: "string",
      enum: ["Key", "Total", "Commit"],
      description:
        "Key (default): events of one key in order. Total: one partition, all events in order. Commit: one partition, written by a sequencer in the order of database commits. Immutable.",
    },
    partitions: {
      type: "integer",
      minimum: 1,
      maximum: 10000,
      description:
        "Default: 1. May grow where ordering is Key (keys then move to other partitions, so that order per key holds from there on), never shrink.",
    },
    replicas: {
      type: "integer",
      minimum: 1,
      maximum: 32767,
      description:
        "Copies of each partition. Default: the broker's. Used when the Kafka topic is made; later a difference is said in status, and moving replicas is done with Kafka's own tools.",
    },
    retention: {
      type: "object",
      description: "How long events are kept; whichever ends first. Default: the broker's.",
      properties: {
        time: {
          type: "string",
          pattern: DURATION,
          maxLength: 20,
          description: "A whole number of s, m, h or d, such as 7d.",
        },
        size: {
          type: "string",
          pattern: QUANTITY,
          maxLength: 20,
          description:
            "Bytes per partition: a whole number, or one of Ki, Mi, Gi or Ti, such as 10Gi.",
        },
      },
    },
    config: {
      type: "object",
      description:
        "Kafka topic settings, values in quotes. A setting that is not here, nor made by another field, returns to the broker's default.",
      maxProperties: 50,
      additionalProperties: { type: "string", maxLength: 10000 },
    },
    deletionPolicy: {
      type: "string",
      enum: ["Retain", "Delete"],
      description:
        "What happens to the Kafka topic and its events when this Topic is deleted. Retain (default): they stay, and a Topic of the same name takes them back. Delete: they go; while Kafka cannot do it the deletion waits.",
    },
    limits: {
      type: "object",
      description: "Limits of a single event.",
      properties: {
        maxEventBytes: {
          type: "string",
          pattern: EVENT_QUANTITY,
          maxLength: 20,
          description:
            "Largest payload: a whole number of bytes, or of Ki or Mi, less than 1000Mi, such as 512Ki. Default: 1Mi.",
        },
      },
    },
    access: {
      type: "object",
      description: "Other namespaces that may use this Topic; its own always may.",
      properties: {
        publish: { ...namespaces, description: "Namespaces that may publish." },
        subscribe: { ...namespaces, description: "Namespaces that may subscribe." },
      },
    },
    outbox: {
      type: "string",
      minLength: 1,
      maxLength: 253,
      description:
        "Name of the Outbox that feeds this Topic; with ordering Commit, and only there. Immutable.",
    },
  },
} as const;

export const TOPIC_RULES: readonly CelRule[] = [
  {
    field: "kafkaTopic",
    rule: "!has(self.kafkaTopic) || !self.kafkaTopic.startsWith('_')",
    message: "names that start with _ are internal; choose another.",
  },
  {
    field: "kafkaTopic",
    rule: "!has(self.kafkaTopic) || (self.kafkaTopic != '.' && self.kafkaTopic != '..')",
    message: "Kafka does not take . and .. as names; choose another.",
  },
  {
    field: "config",
    rule: "!has(self.config) || !('cleanup.policy' in self.config) || !self.config['cleanup.policy'].contains('compact')",
    message: "cleanup.policy compact removes events that clients count on; use retention.",
  },
  {
    field: "config",
    rule: "!has(self.config) || !('retention.ms' in self.config || 'retention.bytes' in self.config || 'max.message.bytes' in self.config)",
    message:
      "use spec.retention and spec.limits for retention.ms, retention.bytes and max.message.bytes.",
  },
  {
    field: "partitions",
    rule: "!has(self.ordering) || self.ordering == 'Key' || !has(self.partitions) || self.partitions == 1",
    message: "ordering Total and Commit have exactly one partition.",
  },
  {
    field: "outbox",
    rule: "(has(self.ordering) && self.ordering == 'Commit') == has(self.outbox)",
    message: "ordering Commit needs an outbox, and only ordering Commit has one.",
  },
  {
    field: "kafkaTopic",
    rule: "(has(self.kafkaTopic) ? self.kafkaTopic : '') == (has(oldSelf.kafkaTopic) ? oldSelf.kafkaTopic : '')",
    message: "is immutable; make a new Topic instead.",
  },
  {
    field: "ordering",
    rule: "(has(self.ordering) ? self.ordering : 'Key') == (has(oldSelf.ordering) ? oldSelf.ordering : 'Key')",
    message: "is immutable; make a new Topic instead.",
  },
  {
    field: "outbox",
    rule: "(has(self.outbox) ? self.outbox : '') == (has(oldSelf.outbox) ? oldSelf.outbox : '')",
    message: "is immutable; make a new Topic instead.",
  },
  {
    field: "partitions",
    rule: "(has(self.partitions) ? self.partitions : 1) >= (has(oldSelf.partitions) ? oldSelf.partitions : 1)",
    message: "may grow, never shrink; Kafka cannot remove partitions.",
  },
];

/** Whether the rule compares with the spec before the change. */
export function isTransition(rule: CelRule): boolean {
  return rule.rule.includes("oldSelf");
}
