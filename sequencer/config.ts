/** The sequencer's configuration, read here and nowhere else. */
import { randomUUID } from "node:crypto";
import { KAFKA_SETTINGS, type KafkaConfig, kafkaConfig } from "../process/kafka-settings.ts";
import {
  deploymentIdOf,
  HEALTH_LISTEN,
  healthListenOf,
  LOG_LEVEL,
  logLevelOf,
  namespaceOf,
  outsideOf,
} from "../process/program-settings.ts";
import {
  type Address,
  helpLines,
  type Outside,
  type ParsedConfig,
  parseSettings,
  type SettingReader,
  type Settings,
} from "../process/settings.ts";
import type { DatabaseAddress } from "./postgres.ts";
import type { Identity } from "./term.ts";

const DEEDS = ["run", "migrate", "forget-slot"] as const;

export interface Config {
  readonly deed: (typeof DEEDS)[number];
  /** Undefined where the deed needs none. */
  readonly kafka: KafkaConfig | undefined;
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  /** Undefined: sent events are kept. */
  readonly keepSentHours: number | undefined;
  readonly retainedWalLimitBytes: number;
  readonly healthListen: Address | undefined;
  readonly logLevel: string;
}

const SETTINGS = {
  do: {
    value: "deed",
    help: "run; migrate (makes or updates the schema throughline, as the database's owner); forget-slot (gives the slot up: see README)",
    default: "run",
  },
  database: {
    value: "url",
    help: "PostgreSQL itself, no pooler: postgres://user@host:port/database, without a password",
  },
  "database-password-file": { value: "file", help: "the user's password" },
  "database-tls": {
    value: "true|false",
    help: "TLS to PostgreSQL, its certificate checked; on with --database-tls-ca-file",
    default: "false",
  },
  "database-tls-ca-file": {
    value: "file",
    help: "authorities that may sign PostgreSQL's certificate",
  },
  ...KAFKA_SETTINGS,
  "deployment-id": { value: "id", help: "whose Topics it feeds: [a-z0-9-]{1,40}" },
  namespace: { value: "name", help: "the Outbox's, and that of its Topics" },
  outbox: { value: "name", help: "the Outbox: Topics name it" },
  "keep-sent-hours": {
    value: "n",
    help: "remove events from the outbox so long after their commit, once they are sent (default: keep them)",
  },
  "retained-wal-limit": {
    value: "quantity",
    help: "when PostgreSQL keeps more of its log for the slot, events that wait for a Topic with DataLost are parked: a whole number of Mi or Gi",
    default: "10Gi",
  },
  "health-listen": HEALTH_LISTEN,
  "log-level": LOG_LEVEL,
} as const satisfies Settings;

const REQUIRED: readonly string[] = ["database", "kafka", "deployment-id", "namespace", "outbox"];

export function readConfig(): ParsedConfig<Config> {
  return parseConfig(outsideOf({ args: process.argv.slice(2), environment: process.env }));
}

export function parseConfig(outside: Outside): ParsedConfig<Config> {
  return parseSettings({ settings: SETTINGS, help: helpText, configOf }, outside);
}

function configOf(read: SettingReader<keyof typeof SETTINGS>, outside: Outside): Config {
  const deed = read.oneOf("do", DEEDS);
  const outboxName = read.required("outbox");
  return {
    deed,
    kafka: deed === "run" ? kafkaConfig(read) : undefined,
    identity: {
      deploymentId: deploymentIdOf(read),
      namespace: namespaceOf(read, "namespace", read.required("namespace")),
      outbox: read.matching("outbox", outboxName, OUTBOX_NAME, "a Kubernetes name"),
      instance: `${outside.hostname()}_${randomUUID()}`,
    },
    database: databaseOf(read),
    keepSentHours: keepSentOf(read),
    retainedWalLimitBytes: retainedWalLimitOf(read),
    healthListen: healthListenOf(read),
    logLevel: logLevelOf(read),
  };
}

function keepSentOf(read: SettingReader<keyof typeof SETTINGS>): number | undefined {
  const text = read.text("keep-sent-hours");
  if (text === undefined) return undefined;
  const hours = Number(text);
  if (!Number.isInteger(hours) || hours < 1 || hours > MAX_HOURS)
    read.errors.push(`--keep-sent-hours is "${text}"; it must be 1 to ${MAX_HOURS}.`);
  return hours;
}

function retainedWalLimitOf(read: SettingReader<keyof typeof SETTINGS>): number {
  const text = read.text("retained-wal-limit") ?? "";
  const rule = "a whole number of Mi or Gi, like 10Gi";
  read.matching("retained-wal-limit", text, /^[1-9]\d{0,5}(Mi|Gi)$/, rule);
  return Number.parseInt(text, 10) * (text.endsWith("Gi") ? 2 ** 30 : 2 ** 20);
}

/** A hundred years. */
const MAX_HOURS = 876_000;
const OUTBOX_NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;

function databaseOf(read: SettingReader<keyof typeof SETTINGS>): DatabaseAddress {
  const text = read.required("database");
  const ca = read.file("database-tls-ca-file");
  const wanted = read.isTrue("database-tls");
  const password = read.secret("database-password-file");
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isWhole =
    url &&
    ["postgres:", "postgresql:"].includes(url.protocol) &&
    url.hostname !== "" &&
    url.username !== "" &&
    url.pathname.length > 1;
  if (text !== "" && !isWhole)
    read.errors.push(`--database is not postgres://user@host:port/database.`);
  else if (url?.password)
    read.errors.push(
      "--database has a password, which every process list would show; put it into a file and name that in --database-password-file.",
    );
  else if (url?.search)
    read.errors.push(
      `--database has ${url.search}; TLS is set by --database-tls and --database-tls-ca-file, and nothing else can be.`,
    );
  return {
    host: (url?.hostname ?? "").replace(/^\[|\]$/g, ""),
    port: Number(url?.port || 5432),
    database: decodeURIComponent(url?.pathname.slice(1) ?? ""),
    user: decodeURIComponent(url?.username ?? ""),
    password,
    tls: wanted || ca ? { ...(ca && { ca }) } : undefined,
  };
}

function helpText(): string {
  return `Throughline sequencer: a PostgreSQL outbox into Topics, in commit order, numbered without gaps.

Usage: node sequencer/main.ts --database <url> --kafka <brokers> --deployment-id <id> --namespace <name> --outbox <name> [flags]

Each flag is also an environment variable: --database-password-file is THROUGHLINE_DATABASE_PASSWORD_FILE. Flags win.

${helpLines(SETTINGS, REQUIRED).join("\n")}
`;
}
