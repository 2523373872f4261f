/**
 * The Outbox resource, once: the structural schema and the CEL rules that the CRD carries, and the TypeScript type
 * of what they admit.
 */

/** A key of a Secret in the Outbox's namespace. */
export interface SecretRef {
  readonly name: string;
  readonly key?: string;
}

export interface OutboxSpec {
  readonly database: {
    readonly secret: SecretRef;
    readonly tls?: boolean;
    readonly caSecret?: SecretRef;
  };
  readonly replicas?: number;
  readonly keepSent?: string;
  readonly limits?: { readonly retainedWal?: string };
  readonly logLevel?: string;
  readonly resources?: {
    readonly requests?: Readonly<Record<string, string>>;
    readonly limits?: Readonly<Record<string, string>>;
  };
}

/** Its Deployment's name, and a label's value, are made of it. */
export const MAX_OUTBOX_NAME_LENGTH = 52;
export const DEFAULT_DATABASE_KEY = "uri";
export const DEFAULT_CA_KEY = "ca.crt";
export const DEFAULT_RETAINED_WAL = "10Gi";

const secretRef = (description: string, keyIs: string) => ({
  type: "object",
  description,
  required: ["name"],
  properties: {
    name: {
      type: "string",
      description: "Name of the Secret.",
      pattern: "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
      maxLength: 253,
    },
    key: {
      type: "string",
      description: keyIs,
      pattern: "^[-._a-zA-Z0-9]+$",
      maxLength: 253,
    },
  },
});
const quantities = (description: string) => ({
  type: "object",
  description,
  properties: {
    cpu: {
      type: "string",
      description: "Such as 100m or 0.5, in quotes.",
      pattern: "^[0-9]{1,6}(\\.[0-9]{1,3})?m?$",
      maxLength: 20,
    },
    memory: {
      type: "string",
      description: "Such as 256Mi.",
      pattern: "^[1-9][0-9]{0,9}(Ki|Mi|Gi)$",
      maxLength: 20,
    },
  },
});

export const OUTBOX_SPEC_SCHEMA = {
  type: "object",
  description: "One outbox table of one PostgreSQL database, and the sequencer that reads it.",
  required: ["database"],
  properties: {
    database: {
      type: "object",
      description: "The database that has the schema throughline (README: The sequencer).",
      required: ["secret"],
      properties: {
        secret: secretRef(
          "Secret of this namespace with the address: postgres://user:password@host:port/database, of PostgreSQL itself, not of a pooler. The user needs REPLICATION and throughline.grant_sequencer. Immutable, for the replication slot is in that database; what is in the Secret may change (new credentials, another host of the same database) and is read with each connection.",
          `Key that has the address. Default: ${DEFAULT_DATABASE_KEY}.`,
        ),
        tls: {
          type: "boolean",
          description:
            "TLS to PostgreSQL, its certificate checked. Default: true with caSecret, or where the address says sslmode=require or more; else false.",
        },
        caSecret: secretRef(
          "Secret of this namespace with the authorities that may sign PostgreSQL's certificate. Default: those that Node.js knows.",
          `Key that has them, in PEM. Default: ${DEFAULT_CA_KEY}.`,
        ),
      },
    },
    replicas: {
      type: "integer",
      minimum: 1,
      maximum: 2,
      description:
        "Pods of the sequencer. One is at work; with 2, the default, the other stands by and takes over within seconds.",
    },
    keepSent: {
      type: "string",
      pattern: "^[1-9][0-9]{0,4}(h|d)$",
      maxLength: 20,
      description:
        "For how long an event stays in the outbox table after its commit once it is sent: a whole number of h or d, such as 7d. Default: for ever.",
    },
    limits: {
      type: "object",
      description: "What the sequencer may ask of the database.",
      properties: {
        retainedWal: {
          type: "string",
          pattern: "^[1-9][0-9]{0,5}(Mi|Gi)$",
          maxLength: 20,
          description: `How much of its log PostgreSQL may keep for the replication slot: a whole number of Mi or Gi. Above it the condition RetainedWal and an Event say so, and events that wait for a Topic with DataLost are parked. Default: ${DEFAULT_RETAINED_WAL}. PostgreSQL's own limit is max_slot_wal_keep_size, past which the slot is lost.`,
        },
      },
    },
    logLevel: {
      type: "string",
      enum: ["trace", "debug", "info", "warn", "error", "silent"],
      description: "What the sequencer logs. Default: info.",
    },
    resources: {
      type: "object",
      description: "Of each pod. What is not here has a default.",
      properties: {
        requests: quantities("Default: cpu 100m, memory 128Mi."),
        limits: quantities("Default: no cpu, memory 256Mi."),
      },
    },
  },
} as const;

/** CEL rules over the spec; with `oldSelf` they are checked on changes only. */
export const OUTBOX_RULES = [
  {
    field: "database",
    rule: "self.database.secret.name == oldSelf.database.secret.name && (has(self.database.secret.key) ? self.database.secret.key : 'uri') == (has(oldSelf.database.secret.key) ? oldSelf.database.secret.key : 'uri')",
    message:
      "secret is immutable: the replication slot is in that database. Change what is in the Secret, or make a new Outbox.",
  },
  {
    field: "database",
    rule: "!(has(self.database.tls) && !self.database.tls && has(self.database.caSecret))",
    message: "caSecret is for TLS; remove it, or tls: false.",
  },
] as const;
