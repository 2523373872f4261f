/** A server's configuration, read here and nowhere else. */
import type { CertificatePair } from "../process/certificates.ts";
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
  helpLine,
  helpLines,
  type Outside,
  type ParsedConfig,
  parseSettings,
  type SettingReader,
  type Settings,
} from "../process/settings.ts";
import {
  contradictions,
  LIMIT_NAMES,
  LIMIT_SPECS,
  type LimitName,
  type Limits,
  limitFlag,
} from "./limits.ts";
import { type SessionStoreConfig, sessionStoreConfig } from "./sessions/store-config.ts";

export type Shape = "gateway" | "pod";

export interface Config {
  /** `host:port` or `unix:<path>`. */
  readonly listen: string;
  readonly healthListen: Address | undefined;
  readonly shape: Shape;
  readonly tls: CertificatePair | undefined;
  readonly kafka: KafkaConfig;
  /** Without one no sessions are served. */
  readonly sessionStore: SessionStoreConfig | undefined;
  readonly deploymentId: string;
  readonly clusterUid: string | undefined;
  readonly namespace: string;
  readonly serverName: string;
  readonly logLevel: string;
  readonly limits: Limits;
}

const SETTINGS = {
  listen: {
    value: "host:port",
    help: "where apps connect; also unix:<path>",
    default: "127.0.0.1:7070",
  },
  "health-listen": HEALTH_LISTEN,
  shape: {
    value: "gateway|pod",
    help: "a Deployment behind a Service, or in an app's pod",
    default: "gateway",
  },
  ...KAFKA_SETTINGS,
  "session-store": {
    value: "url",
    help: "Redis or Valkey for sessions: redis://host:port, rediss:// with TLS; none, no sessions",
  },
  "session-store-cluster": {
    value: "true|false",
    help: "it is a Redis Cluster",
    default: "false",
  },
  "session-store-user": { value: "name", help: "user at the session store" },
  "session-store-password-file": { value: "file", help: "its password" },
  "session-store-tls-ca-file": {
    value: "file",
    help: "authorities that may sign the session store's certificate",
  },
  "tls-cert-file": { value: "file", help: "this server's certificate for apps" },
  "tls-key-file": { value: "file", help: "its key" },
  "deployment-id": { value: "id", help: "whose catalog this server serves: [a-z0-9-]{1,40}" },
  "cluster-uid": { value: "uid", help: "take catalog records of this cluster only" },
  namespace: { value: "name", help: "the namespace that this server speaks for" },
  "server-name": { value: "name", help: "name for people (default: the host's name)" },
  "log-level": LOG_LEVEL,
} as const satisfies Settings;

const REQUIRED: readonly string[] = ["kafka", "deployment-id", "namespace"];
const UNITS: Record<string, number> = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };

export function readConfig(): ParsedConfig<Config> {
  return parseConfig(outsideOf({ args: process.argv.slice(2), environment: process.env }));
}

export function parseConfig(outside: Outside): ParsedConfig<Config> {
  return parseSettings(
    { settings: SETTINGS, more: LIMIT_NAMES.map(limitFlag), help: helpText, configOf },
    outside,
  );
}

function configOf(
  read: SettingReader<keyof typeof SETTINGS>,
  outside: Outside,
  given: ReadonlyMap<string, string>,
): Config {
  const listen = read.text("listen") as string;
  if (!listen.startsWith("unix:")) read.address("listen", listen);
  else if (listen.length === 5) read.errors.push("--listen is unix: without a path.");
  return {
    listen,
    healthListen: healthListenOf(read),
    kafka: kafkaConfig(read),
    shape: read.oneOf<Shape>("shape", ["gateway", "pod"]),
    tls: read.certificate("tls-cert-file", "tls-key-file"),
    sessionStore: sessionStoreConfig(
      {
        url: read.text("session-store"),
        cluster: read.isTrue("session-store-cluster"),
        user: read.text("session-store-user"),
        password: read.secret("session-store-password-file"),
        ca: read.file("session-store-tls-ca-file"),
      },
      read.errors,
    ),
    deploymentId: deploymentIdOf(read),
    clusterUid: read.text("cluster-uid"),
    namespace: namespaceOf(read, "namespace", read.required("namespace")),
    serverName: read.text("server-name") ?? outside.hostname(),
    logLevel: logLevelOf(read),
    limits: limits(given, read.errors),
  };
}

function limits(given: ReadonlyMap<string, string>, errors: string[]): Limits {
  const result = {} as Record<LimitName, number>;
  for (const name of LIMIT_NAMES) {
    const spec = LIMIT_SPECS[name];
    const flag = limitFlag(name);
    const text = given.get(flag);
    result[name] = spec.value;
    if (text === undefined) continue;
    const [, digits, unit] = /^(\d{1,15})(Ki|Mi|Gi)?$/.exec(text) ?? [];
    const value = Number(digits) * (UNITS[unit ?? ""] as number);
    const bytes = spec.unit === "bytes";
    if (digits === undefined || (unit && !bytes)) {
      const rule = bytes ? "bytes, like 1048576, 512Ki or 48Mi" : "a whole number";
      errors.push(`${flag} is "${text}"; it must be ${rule}.`);
    } else if (value < spec.min || value > spec.max) {
      errors.push(
        `${flag} is ${text}; it must be ${show(spec.min, bytes)} to ${show(spec.max, bytes)}.`,
      );
    } else {
      result[name] = value;
    }
  }
  errors.push(...contradictions(result));
  return result;
}

function show(value: number, bytes: boolean): string {
  if (!bytes) return String(value);
  for (const unit of ["Gi", "Mi", "Ki"]) {
    const scale = UNITS[unit] as number;
    if (value >= scale && value % scale === 0) return `${value / scale}${unit}`;
  }
  return String(value);
}

function helpText(): string {
  const lines = helpLines(SETTINGS, REQUIRED);
  lines.push("", "Limits:");
  for (const name of LIMIT_NAMES) {
    const { unit, value, help } = LIMIT_SPECS[name];
    const preset = ` (default ${show(value, unit === "bytes")})`;
    lines.push(helpLine(limitFlag(name), unit, `${help}${preset}`));
  }
  return `Throughline server: serves Topics over gRPC.

Usage: node sidecar/main.ts --kafka <brokers> --deployment-id <id> --namespace <name> [flags]

Each flag is also an environment variable: --health-listen is THROUGHLINE_HEALTH_LISTEN. Flags win.

${lines.join("\n")}
`;
}
