/**
 * The CustomResourceDefinition of Topic, made from the schema and the rules that `validate.ts` runs too.
 * `npm run gen` writes it to crds/.
 */
import { conditionsSchema, definitionOf, OBSERVED_GENERATION, readyColumn } from "./crd.ts";
import { MAX_NAME_LENGTH, TOPIC_RULES, TOPIC_SPEC_SCHEMA } from "./topic-schema.ts";

const STATUS = {
  type: "object",
  description:
    "What Kafka has, as the operator last saw it, and whether that is what the spec says. Written by the operator only.",
  properties: {
    observedGeneration: OBSERVED_GENERATION,
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
    conditions: conditionsSchema(
      "Ready, and DataLost where it is or was so.",
      "Ready: the stream is served as the spec says; Unknown while the Topic is left alone. DataLost: the Kafka topic that held its events is gone, or is another.",
      "Ready; OutboxMissing (served; the operator knows no such Outbox); Paused, InvalidAnnotation (left alone); KafkaUnavailable, CatalogUnavailable (nobody can look), NotAuthorised; NameNotAllowed, NotOurs, Conflict, SettingsDiffer, OtherKafkaTopic (the Kafka topic is not this Topic's to take); MorePartitions, ReplicasDiffer (served, and not as the spec says); DataLost; DeletionWaits; or the name of an error of Kafka's, such as INVALID_REPLICATION_FACTOR or POLICY_VIOLATION.",
    ),
  },
} as const;

const COLUMNS = [
  readyColumn("Ready", "status"),
  readyColumn("Reason", "reason"),
  { name: "Kafka topic", type: "string", jsonPath: ".status.kafkaTopic" },
  { name: "Ordering", type: "string", jsonPath: ".spec.ordering", priority: 1 },
  { name: "Partitions", type: "integer", jsonPath: ".status.partitions" },
  { name: "Replicas", type: "integer", jsonPath: ".status.replicas", priority: 1 },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  readyColumn("Message", "message", 1),
];

export const TOPIC_CRD = definitionOf({
  ...{ kind: "Topic", plural: "topics", shortName: "tlt", columns: COLUMNS, status: STATUS },
  description:
    'An ordered event stream. The operator makes it a Kafka topic; Throughline servers serve it as <namespace>/<name>. Annotations: throughline.dev/pause: "true" leaves the Kafka topic alone, whatever the spec says, and deleting the Topic then keeps it; throughline.dev/accept-loss: <topic id> goes on after that Kafka topic was lost; throughline.dev/delete-adopted: <topic id> lets a Kafka topic go that was there before the Topic; throughline.dev/abandon-kafka-topic: "true" lets a Topic go whose Kafka topic cannot be deleted now.',
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
  maxNameLength: MAX_NAME_LENGTH,
  nameRule: "Kafka's names end at 249, with the namespace.",
});
