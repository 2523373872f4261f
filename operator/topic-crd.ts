/**
 * The CustomResourceDefinition of Topic, made from the schema and the rules that `validate.ts` runs too.
 * `npm run gen` writes it to crds/.
 */
import { GROUP, MAX_NAME_LENGTH, TOPIC_RULES, TOPIC_SPEC_SCHEMA } from "./topic-schema.ts";

const CONDITION = {
  type: "object",
  required: ["type", "status", "lastTransitionTime", "reason", "message"],
  properties: {
    type: {
      type: "string",
      description:
        "Ready: the stream is served as the spec says; Unknown while the Topic is left alone. DataLost: the Kafka topic that held its events is gone, or is another.",
      maxLength: 316,
      pattern: "^[A-Za-z][A-Za-z0-9]*$",
    },
    status: {
      type: "string",
      enum: ["True", "False", "Unknown"],
      description: "Whether it is so.",
    },
    reason: {
      type: "string",
      description:
        "Why, as one stable word. Ready; Paused, InvalidAnnotation (left alone); KafkaUnavailable, NotAuthorised; NameNotAllowed, NotOurs, Conflict, SettingsDiffer, OtherKafkaTopic (the Kafka topic is not this Topic's to take); MorePartitions, ReplicasDiffer (served, and not as the spec says); DataLost; DeletionWaits; or the name of an error of Kafka's, such as INVALID_REPLICATION_FACTOR or POLICY_VIOLATION.",
      minLength: 1,
      maxLength: 1024,
      pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    },
    message: {
      type: "string",
      description: "Why, as a sentence for people, with what to do next.",
      maxLength: 32768,
    },
    lastTransitionTime: {
      type: "string",
      format: "date-time",
      description: "When status last changed.",
    },
    observedGeneration: {
      type: "integer",
      format: "int64",
      minimum: 0,
      description: "The metadata.generation that this condition is about.",
    },
  },
} as const;

const STATUS = {
  type: "object",
  description:
    "What Kafka has, as the operator last saw it, and whether that is what the spec says. Written by the operator only.",
  properties: {
    observedGeneration: {
      type: "integer",
      format: "int64",
      minimum: 0,
      description: "The metadata.generation that the operator has acted on.",
    },
    kafkaTopic: { type: "string", maxLength: 249, description: "Name of the Kafka topic." },
    topicId: {
      type: "string",
      maxLength: 32,
      description:
        "Id that Kafka gave the topic, 32 hex digits: a topic of the same name with another id is not this one. Deletion is by this id only. Empty: this Topic has none.",
    },
    adopted: {
      type: "boolean",
      description:
        "The Kafka topic was there before this Topic. It stays when the Topic is deleted, unless deletionPolicy is Delete and the annotation throughline.dev/delete-adopted has its id.",
    },
    partitions: {
      type: "integer",
      format: "int32",
      minimum: 0,
      description: "Partitions that the Kafka topic has; 0 when there is none.",
    },
    replicas: {
      type: "integer",
      format: "int32",
      minimum: 0,
      description: "Copies of each partition that the Kafka topic has.",
    },
    conditions: {
      type: "array",
      description: "Ready, and DataLost where it is or was so.",
      maxItems: 16,
      items: CONDITION,
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["type"],
    },
  },
} as const;

const COLUMNS = [
  { name: "Ready", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
  { name: "Reason", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].reason' },
  { name: "Kafka topic", type: "string", jsonPath: ".status.kafkaTopic" },
  { name: "Ordering", type: "string", jsonPath: ".spec.ordering", priority: 1 },
  { name: "Partitions", type: "integer", jsonPath: ".status.partitions" },
  { name: "Replicas", type: "integer", jsonPath: ".status.replicas", priority: 1 },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  {
    name: "Message",
    type: "string",
    jsonPath: '.status.conditions[?(@.type=="Ready")].message',
    priority: 1,
  },
];

export const TOPIC_CRD = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: `topics.${GROUP}` },
  spec: {
    group: GROUP,
    scope: "Namespaced",
    names: {
      kind: "Topic",
      listKind: "TopicList",
      plural: "topics",
      singular: "topic",
      shortNames: ["tlt"],
      categories: ["throughline"],
    },
    versions: [
      {
        name: "v1alpha1",
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: COLUMNS,
        schema: {
          openAPIV3Schema: {
            type: "object",
            description:
              'An ordered event stream. The operator makes it a Kafka topic; Throughline servers serve it as <namespace>/<name>. Annotations: throughline.dev/pause: "true" leaves the Kafka topic alone, whatever the spec says, and deleting the Topic then keeps it; throughline.dev/accept-loss: <topic id> goes on after that Kafka topic was lost; throughline.dev/delete-adopted: <topic id> lets a Kafka topic go that was there before the Topic; throughline.dev/abandon-kafka-topic: "true" lets a Topic go whose Kafka topic cannot be deleted now.',
            properties: {
              apiVersion: { type: "string" },
              kind: { type: "string" },
              metadata: { type: "object" },
              spec: {
                ...TOPIC_SPEC_SCHEMA,
                // Without it, taking the spec away would step past the rules on changes.
                default: {},
                "x-kubernetes-validations": TOPIC_RULES.map(({ field, rule, message }) => ({
                  rule,
                  message,
                  fieldPath: `.${field}`,
                })),
              },
              status: STATUS,
            },
            "x-kubernetes-validations": [
              {
                rule: `size(self.metadata.name) <= ${MAX_NAME_LENGTH}`,
                message: `metadata.name: may have ${MAX_NAME_LENGTH} characters; Kafka's names end at 249, with the namespace.`,
              },
            ],
          },
        },
      },
    ],
  },
};
