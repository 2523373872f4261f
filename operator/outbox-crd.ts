/**
 * The CustomResourceDefinition of Outbox, made from its schema and rules. `npm run gen` writes it to crds/.
 */
import { conditionsSchema, definitionOf, OBSERVED_GENERATION, readyColumn } from "./crd.ts";
import { MAX_OUTBOX_NAME_LENGTH, OUTBOX_RULES, OUTBOX_SPEC_SCHEMA } from "./outbox-schema.ts";

const STATUS = {
  type: "object",
  description:
    "What the sequencer says of itself, as the operator last heard it, and whether it is well. Written by the operator only.",
  properties: {
    observedGeneration: OBSERVED_GENERATION,
    deployment: {
      type: "string",
      maxLength: 253,
      description: "Name of the sequencer's Deployment, in this namespace.",
    },
    database: {
      type: "string",
      maxLength: 400,
      description: "The database, as host:port/name.",
    },
    slot: {
      type: "string",
      maxLength: 63,
      description:
        "Name of the replication slot. Nobody else may read it, move it or drop it; it goes with the Outbox.",
    },
    lagSeconds: {
      type: "integer",
      format: "int64",
      minimum: 0,
      description:
        "How long ago the oldest event that is not sent yet was committed; 0 when all are.",
    },
    retainedWal: {
      type: "string",
      maxLength: 20,
      description:
        "How much of its log PostgreSQL keeps for the slot, in Mi, rounded up. It grows while no sequencer is at work.",
    },
    parked: {
      type: "integer",
      format: "int32",
      minimum: 0,
      description:
        "Events that cannot be sent, counted up to 10000: they have no number and hold nothing up. select * from throughline.events where parked is not null.",
    },
    topics: {
      type: "array",
      description: "How far each Topic is.",
      maxItems: 1000,
      items: {
        type: "object",
        required: ["name", "sequence"],
        properties: {
          name: { type: "string", maxLength: 253, description: "metadata.name of the Topic." },
          sequence: {
            type: "integer",
            format: "int64",
            minimum: 0,
            description: "Order value of the last event in Kafka: so many were ever sent.",
          },
        },
      },
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["name"],
    },
    conditions: conditionsSchema(
      "Ready, and RetainedWal where it is or was so.",
      "Ready: a sequencer relays events; Unknown while the Outbox is left alone. RetainedWal: PostgreSQL keeps more of its log for the slot than limits.retainedWal.",
      "Running, PodsMissing (relays, with fewer pods than asked for); Starting, StandingBy, SequencerSilent; DatabaseUnavailable, TopicNotReady, KafkaUnavailable, Interrupted (goes on by itself); WalLevel, RightsMissing, Unsupported, SchemaMissing, Pooler, PublicationChanged, TableChanged, OtherOwner, SlotMissing, SlotLost, SlotMoved, OtherDatabase, OtherHistory, ProgressLost, StampsChanged, ForeignWriter, LogCut, KafkaRefused (stopped until a person has mended it; README: The sequencer); DeploymentNotOurs, DeploymentRefused, PodsRefused; Paused, InvalidAnnotation (left alone); DeletionWaits.",
    ),
  },
} as const;

const COLUMNS = [
  readyColumn("Ready", "status"),
  readyColumn("Reason", "reason"),
  { name: "Lag", type: "integer", jsonPath: ".status.lagSeconds" },
  { name: "Retained WAL", type: "string", jsonPath: ".status.retainedWal" },
  { name: "Parked", type: "integer", jsonPath: ".status.parked" },
  { name: "Database", type: "string", jsonPath: ".status.database", priority: 1 },
  { name: "Slot", type: "string", jsonPath: ".status.slot", priority: 1 },
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" },
  readyColumn("Message", "message", 1),
];

export const OUTBOX_CRD = definitionOf({
  ...{ kind: "Outbox", plural: "outboxes", shortName: "tlo", columns: COLUMNS, status: STATUS },
  description:
    'A PostgreSQL outbox whose events go into Topics in the order of commits, numbered without gaps. The operator runs its sequencer as a Deployment. Topics name it: ordering: Commit, outbox: <name>. Deleting it ends the sequencer and drops its replication slot; tables, numbers and Topics stay, and an Outbox of the same name goes on with the numbers. Annotations: throughline.dev/pause: "true" leaves the Deployment alone, whatever the spec says; throughline.dev/abandon-slot: "true" lets an Outbox go whose slot cannot be dropped now, because the database is gone or nothing can run here: a slot that is left keeps PostgreSQL\'s log until somebody drops it.',
  spec: {
    ...OUTBOX_SPEC_SCHEMA,
    "x-kubernetes-validations": OUTBOX_RULES.map(({ field, rule, message }) => ({
      rule,
      message,
      fieldPath: `.${field}`,
    })),
  },
  needsSpec: true,
  maxNameLength: MAX_OUTBOX_NAME_LENGTH,
  nameRule: "the names of its pods end at 63.",
});
