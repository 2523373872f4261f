/**
 * A server's configuration: flags and environment (`THROUGHLINE_<FLAG>`), read here and nowhere else,
 * checked whole at start: every error is named at once, and nothing is started with half of it.
 *
 * Secrets come from files, so that they are in no process list and no environment.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { unusable } from "./certificates.ts";
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
export type SaslMechanism = "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512";

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly tls: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | undefined;
  readonly sasl:
    | { readonly mechanism: SaslMechanism; readonly username: string; readonly password: string }
    | undefined;
}

export interface Config {
  /** `host:port` or `unix:<path>`. */
  readonly listen: string;
  readonly healthListen: { readonly host: string; readonly port: number } | undefined;
  readonly shape: Shape;
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
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

export type ParsedConfig =
  | { readonly kind: "config"; readonly config: Config }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "errors"; readonly errors: readonly string[] };

interface Setting {
  readonly value: string;
  readonly help: string;
  readonly default?: string;
}

const SETTINGS = {
  listen: {
    value: "host:port",
    help: "where apps connect; also unix:<path>",
    default: "127.0.0.1:7070",
  },
  "health-listen": {
    value: "host:port",
    help: "plain HTTP: /livez, /readyz, /metrics; off by default",
  },
  shape: {
    value: "gateway|pod",
    help: "a Deployment behind a Service, or in an app's pod",
    default: "gateway",
  },
  kafka: { value: "host:port,…", help: "Kafka brokers" },
  "kafka-tls": {
    value: "true|false",
    help: "TLS to Kafka; on with any other --kafka-tls-…",
    default: "false",
  },
  "kafka-tls-ca-file": {
    value: "file",
    help: "authorities that may sign the brokers' certificates",
  },
  "kafka-tls-cert-file": { value: "file", help: "this server's certificate for Kafka" },
  "kafka-tls-key-file": { value: "file", help: "its key" },
  "kafka-sasl-mechanism": {
    value: "name",
    help: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    default: "SCRAM-SHA-512",
  },
  "kafka-sasl-user": { value: "name", help: "turns SASL on" },
  "kafka-sasl-password-file": { value: "file", help: "its password" },
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
  "log-level": { value: "level", help: "trace, debug, info, warn, error, silent", default: "info" },
} as const satisfies Record<string, Setting>;

type SettingName = keyof typeof SETTINGS;

const REQUIRED: readonly string[] = ["kafka", "deployment-id", "namespace"];
const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];
const MECHANISMS: readonly string[] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const UNITS: Record<string, number> = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };

export function readConfig(): ParsedConfig {
  return parseConfig(process.argv.slice(2), process.env, {
    readFile: (path) => readFileSync(path),
    hostname,
  });
}

export function parseConfig(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  machine: { readonly readFile: (path: string) => Buffer; readonly hostname: () => string },
): ParsedConfig {
  const errors: string[] = [];
  const given = gather(args, environment, errors);
  if (given === "help") return { kind: "help", text: helpText() };

  const text = (name: SettingName): string | undefined =>
    given.get(`--${name}`) ?? (SETTINGS[name] as Setting).default;
  const required = (name: SettingName): string => {
    const value = text(name);
    if (value === undefined) errors.push(`--${name} is required: ${SETTINGS[name].help}.`);
    return value ?? "";
  };
  const oneOf = (name: SettingName, allowed: readonly string[]): string => {
    const value = text(name) ?? "";
    if (!allowed.includes(value))
      errors.push(`--${name} is "${value}"; it must be ${allowed.join(", ")}.`);
    return value;
  };
  const matching = (name: SettingName, value: string, pattern: RegExp, rule: string): string => {
    if (value !== "" && !pattern.test(value))
      errors.push(`--${name} is "${value}"; it must be ${rule}.`);
    return value;
  };
  const file = (name: SettingName): Buffer | undefined => {
    const path = text(name);
    if (path === undefined) return undefined;
    try {
      return machine.readFile(path);
    } catch (error) {
      errors.push(`--${name}: "${path}" cannot be read: ${(error as Error).message}.`);
      return undefined;
    }
  };
  const secret = (name: SettingName): string | undefined => {
    // Editors end files with a newline; a password does not end with one.
    const value = file(name)
      ?.toString("utf8")
      .replace(/\r?\n$/, "");
    if (value === "") errors.push(`--${name}: the file is empty.`);
    return value;
  };
  const together = (names: readonly SettingName[]): boolean => {
    const set = names.filter((name) => text(name) !== undefined);
    if (set.length === 0) return false;
    for (const name of names) {
      if (!set.includes(name))
        errors.push(`--${name} is missing: it goes with --${set.join(", --")}.`);
    }
    return set.length === names.length;
  };

  const listen = text("listen") as string;
  if (!listen.startsWith("unix:")) address("--listen", listen, errors);
  else if (listen.length === 5) errors.push("--listen is unix: without a path.");
  const healthText = text("health-listen");
  const healthListen =
    healthText === undefined ? undefined : address("--health-listen", healthText, errors);
  const brokers = required("kafka")
    .split(",")
    .map((broker) => broker.trim())
    .filter(Boolean);
  for (const broker of brokers) address("--kafka", broker, errors, 1);

  const config: Config = {
    listen,
    healthListen,
    shape: oneOf("shape", ["gateway", "pod"]) as Shape,
    tls: doorTls(),
    kafka: { brokers, tls: kafkaTls(), sasl: kafkaSasl() },
    sessionStore: sessionStoreConfig(
      {
        url: text("session-store"),
        cluster: oneOf("session-store-cluster", ["true", "false"]) === "true",
        user: text("session-store-user"),
        password: secret("session-store-password-file"),
        ca: file("session-store-tls-ca-file"),
      },
      errors,
    ),
    deploymentId: matching(
      "deployment-id",
      required("deployment-id"),
      /^[a-z0-9-]{1,40}$/,
      "1 to 40 of a-z, 0-9 and -",
    ),
    clusterUid: text("cluster-uid"),
    namespace: matching(
      "namespace",
      required("namespace"),
      /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/,
      "a Kubernetes namespace name",
    ),
    serverName: text("server-name") ?? machine.hostname(),
    logLevel: oneOf("log-level", LEVELS),
    limits: limits(given, errors),
  };
  return errors.length > 0 ? { kind: "errors", errors } : { kind: "config", config };

  function doorTls(): Config["tls"] {
    const pair = tlsPair(
      together(["tls-cert-file", "tls-key-file"]),
      file("tls-cert-file"),
      file("tls-key-file"),
    );
    const why = pair && unusable(pair, "--tls-cert-file", "--tls-key-file");
    if (why) errors.push(why);
    return pair;
  }

  function kafkaTls(): KafkaConfig["tls"] {
    const wanted = oneOf("kafka-tls", ["true", "false"]) === "true";
    const ca = file("kafka-tls-ca-file");
    const pair = tlsPair(
      together(["kafka-tls-cert-file", "kafka-tls-key-file"]),
      file("kafka-tls-cert-file"),
      file("kafka-tls-key-file"),
    );
    return wanted || ca || pair ? { ...(ca && { ca }), ...pair } : undefined;
  }

  function kafkaSasl(): KafkaConfig["sasl"] {
    const mechanism = oneOf("kafka-sasl-mechanism", MECHANISMS) as SaslMechanism;
    if (!together(["kafka-sasl-user", "kafka-sasl-password-file"])) return undefined;
    const password = secret("kafka-sasl-password-file");
    if (password === undefined) return undefined;
    return { mechanism, username: text("kafka-sasl-user") as string, password };
  }
}

/** Flags win over the environment; an empty environment variable counts as not set. */
function gather(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  errors: string[],
): Map<string, string> | "help" {
  const flags = [
    ...Object.keys(SETTINGS).map((name) => `--${name}`),
    ...LIMIT_NAMES.map(limitFlag),
  ];
  const given = new Map<string, string>();
  for (const flag of flags) {
    const value = environment[environmentName(flag)];
    if (value) given.set(flag, value);
  }
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (arg === "--help" || arg === "-h") return "help";
    const equals = arg.indexOf("=");
    const flag = equals < 0 ? arg : arg.slice(0, equals);
    if (!flags.includes(flag)) {
      errors.push(`${flag} is not a flag of this program; --help lists them.`);
      // Its value, if it has one, is not a second error.
      if (equals < 0 && args[i + 1] !== undefined && !(args[i + 1] as string).startsWith("-")) i++;
      continue;
    }
    const value = equals < 0 ? args[++i] : arg.slice(equals + 1);
    if (value === undefined || (equals < 0 && value.startsWith("--"))) {
      errors.push(`${flag} needs a value.`);
      if (value !== undefined) i--;
    } else {
      given.set(flag, value);
    }
  }
  return given;
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

function address(
  flag: string,
  text: string,
  errors: string[],
  minPort = 0,
): { host: string; port: number } {
  const [, host = "", digits = ""] = /^(\[[0-9a-fA-F:]+\]|[^:\s/]+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === "" || port > 65535 || port < minPort) {
    errors.push(`${flag} is "${text}"; it must be host:port.`);
  }
  return { host: host.replace(/^\[|\]$/g, ""), port };
}

function tlsPair(
  whole: boolean,
  cert: Buffer | undefined,
  key: Buffer | undefined,
): { cert: Buffer; key: Buffer } | undefined {
  return whole && cert && key ? { cert, key } : undefined;
}

function environmentName(flag: string): string {
  return `THROUGHLINE_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`;
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
  const lines: string[] = [];
  for (const [name, setting] of Object.entries(SETTINGS) as [string, Setting][]) {
    const required = REQUIRED.includes(name) ? " (required)" : "";
    const preset = setting.default === undefined ? required : ` (default ${setting.default})`;
    lines.push(`  ${`--${name} <${setting.value}>`.padEnd(36)} ${setting.help}${preset}`);
  }
  lines.push("", "Limits:");
  for (const name of LIMIT_NAMES) {
    const { unit, value, help } = LIMIT_SPECS[name];
    lines.push(
      `  ${`${limitFlag(name)} <${unit}>`.padEnd(36)} ${help} (default ${show(value, unit === "bytes")})`,
    );
  }
  return `Throughline server: serves Topics over gRPC.

Usage: node sidecar/main.ts --kafka <brokers> --deployment-id <id> --namespace <name> [flags]

Each flag is also an environment variable: --health-listen is THROUGHLINE_HEALTH_LISTEN. Flags win.

${lines.join("\n")}
`;
}
