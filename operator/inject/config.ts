/**
 * The injector's configuration, read here and nowhere else. Flags that the server has too mean the same as there
 * (they are handed on to it); what the server reads from a file is here a key of a Secret.
 */
import {
  deploymentIdOf,
  HEALTH_LISTEN,
  healthListenOf,
  LOG_LEVEL,
  logLevelOf,
  namespaceOf,
  outsideOf,
} from "../../process/program-settings.ts";
import {
  type Address,
  helpLines,
  type Outside,
  type ParsedConfig,
  parseSettings,
  type Setting,
  type SettingReader,
  type Settings,
} from "../../process/settings.ts";
import { kafkaOfPods, onceOnly, POD_KAFKA_SETTINGS, SECRET_KEY, secretKey } from "../pod-kafka.ts";
import { millisecondsOf } from "../quantities.ts";
import type { InjectionSettings } from "./injection.ts";
import { POD_SETTINGS, type PodSettingName, readPodSettings } from "./pod-settings.ts";

export interface Config {
  readonly injection: InjectionSettings;
  readonly listen: Address;
  readonly healthListen: Address | undefined;
  /** Undefined: where this pod's service account says. */
  readonly kubeconfig: string | undefined;
  readonly webhookConfiguration: string;
  readonly secret: { readonly namespace: string; readonly name: string };
  readonly certificate: {
    /** DNS names and IP addresses. */
    readonly names: readonly string[];
    readonly validityMs: number;
  };
  readonly identity: string;
  readonly logLevel: string;
}

const ofPods = Object.fromEntries(
  Object.entries(POD_SETTINGS).map(([name, setting]) => [
    `sidecar-${name}`,
    { ...setting, help: `of a sidecar: ${setting.help}` },
  ]),
) as Record<`sidecar-${PodSettingName}`, Setting>;

const SETTINGS = {
  "sidecar-image": { value: "image", help: "the server's image" },
  ...POD_KAFKA_SETTINGS,
  "session-store": {
    value: "url",
    help: "Redis or Valkey for sessions: redis://host:port, rediss:// with TLS; none, no sessions",
  },
  "session-store-cluster": { value: "true|false", help: "it is a Redis Cluster", default: "false" },
  "session-store-user": { value: "name", help: "user at the session store; or" },
  "session-store-user-secret": { value: SECRET_KEY, help: "the same, a user for each namespace" },
  "session-store-password-secret": { value: SECRET_KEY, help: "its password" },
  "session-store-tls-ca-secret": {
    value: SECRET_KEY,
    help: "authorities that may sign the session store's certificate",
  },
  "deployment-id": { value: "id", help: "whose catalog sidecars serve: [a-z0-9-]{1,40}" },
  "cluster-uid": { value: "uid", help: "sidecars take catalog records of this cluster only" },
  ...ofPods,
  listen: {
    value: "[host]:port",
    help: "where the API server asks: POST /inject",
    default: ":9443",
  },
  "webhook-configuration": {
    value: "name",
    help: "the MutatingWebhookConfiguration whose caBundle is kept",
    default: "throughline-injector",
  },
  "secret-namespace": {
    value: "name",
    help: "where the certificate is kept",
    default: "throughline",
  },
  "secret-name": {
    value: "name",
    help: "the Secret that keeps it; all replicas share it",
    default: "throughline-injector-tls",
  },
  "certificate-names": {
    value: "name,…",
    help: "what the API server calls this service: DNS names, IP addresses",
    default: "throughline-injector.throughline.svc",
  },
  "certificate-validity": {
    value: "duration",
    help: "of a new certificate, like 90d; the next one is made after two thirds of it",
    default: "90d",
  },
  kubeconfig: { value: "file", help: "how to reach the API server (default: this pod's account)" },
  "health-listen": HEALTH_LISTEN,
  "log-level": LOG_LEVEL,
} as const satisfies Settings;

type Name = keyof typeof SETTINGS;

const REQUIRED: readonly string[] = ["sidecar-image", "kafka", "deployment-id"];
/** The server's flags that are handed on as they are, beside those of Kafka. */
const HANDED_ON = [
  ...["session-store", "session-store-cluster", "session-store-user"],
  ...["deployment-id", "cluster-uid"],
] as const satisfies readonly Name[];
/** Of these the server wants the name of a file. */
const FILES = ["session-store-password", "session-store-tls-ca"] as const;
/** Below, a slow API server could not follow. */
const LEAST_VALIDITY_MS = 10_000;

export function readConfig(): ParsedConfig<Config> {
  return parseConfig(outsideOf({ args: process.argv.slice(2), environment: process.env }));
}

export function parseConfig(outside: Outside): ParsedConfig<Config> {
  return parseSettings({ settings: SETTINGS, help: helpText, configOf }, outside);
}

function configOf(
  read: SettingReader<keyof typeof SETTINGS>,
  outside: Outside,
  given: ReadonlyMap<string, string>,
): Config {
  return {
    injection: injectionOf(read, given),
    listen: read.listenAddress("listen", read.text("listen") as string),
    healthListen: healthListenOf(read),
    kubeconfig: read.file("kubeconfig")?.toString("utf8"),
    webhookConfiguration: objectName(read, "webhook-configuration"),
    secret: {
      namespace: namespaceOf(read, "secret-namespace", read.text("secret-namespace") ?? ""),
      name: objectName(read, "secret-name"),
    },
    certificate: { names: certificateNames(read), validityMs: validityMs(read) },
    identity: outside.hostname(),
    logLevel: logLevelOf(read),
  };
}

function injectionOf(
  read: SettingReader<Name>,
  given: ReadonlyMap<string, string>,
): InjectionSettings {
  read.required("kafka");
  const kafka = kafkaOfPods(read, given, "");
  read.isTrue("session-store-cluster");
  deploymentIdOf(read);
  const store = read.text("session-store") ?? "";
  if (store.includes("@"))
    read.errors.push(
      "--session-store holds a user or a password, which every pod would show: name them in " +
        "--session-store-user and --session-store-password-secret.",
    );
  else
    read.matching(
      "session-store",
      store,
      /^rediss?:\/\/[^/]+\/?$/,
      "redis://host:port or rediss://…",
    );
  contradictions(read, given);
  const presets = Object.fromEntries(
    (Object.keys(POD_SETTINGS) as PodSettingName[]).flatMap((name) => {
      const value = read.text(`sidecar-${name}`);
      return value === undefined ? [] : [[name, value]];
    }),
  );
  readPodSettings(presets, (name) => `--sidecar-${name}`, read.errors);
  const flags = HANDED_ON.flatMap((name) => {
    const value = given.get(`--${name}`);
    return value === undefined ? [] : [[name, value]];
  });
  return {
    server: {
      image: read.required("sidecar-image"),
      flags: { ...kafka.flags, ...Object.fromEntries(flags) },
      files: {
        ...kafka.files,
        ...Object.fromEntries(
          FILES.flatMap((name) => secretKey(read, `${name}-secret`, `${name}-file`)),
        ),
      },
      values: {
        ...kafka.values,
        ...Object.fromEntries(secretKey(read, "session-store-user-secret", "session-store-user")),
      },
    },
    presets,
  };
}

/** What a server would refuse at its start, in every pod. */
function contradictions(read: SettingReader<Name>, given: ReadonlyMap<string, string>): void {
  const isSet = (name: Name): boolean => given.has(`--${name}`);
  onceOnly(read, given, "session-store-user", "session-store-user-secret");
  const hasStoreUser = isSet("session-store-user") || isSet("session-store-user-secret");
  if (hasStoreUser && !isSet("session-store-password-secret"))
    read.errors.push(
      "--session-store-password-secret is missing: it goes with the user of the session store.",
    );
  if (isSet("session-store")) return;
  for (const flag of given.keys())
    if (flag.startsWith("--session-store-"))
      read.errors.push(`${flag} is set without --session-store.`);
}

function objectName(read: SettingReader<Name>, name: Name): string {
  const pattern = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
  return read.matching(name, read.text(name) ?? "", pattern, "the name of a Kubernetes object");
}

function certificateNames(read: SettingReader<Name>): string[] {
  const names = read.list(read.text("certificate-names") ?? "");
  const pattern = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$|^[0-9a-f:.]{2,39}$/;
  for (const name of names)
    read.matching("certificate-names", name, pattern, "a DNS name or an IP address");
  if (names.length === 0) read.errors.push("--certificate-names is empty: name the service.");
  return names;
}

function validityMs(read: SettingReader<Name>): number {
  const text = read.text("certificate-validity") ?? "";
  const rule = "10s to 3650d, like 90d, 12h or 30s";
  read.matching("certificate-validity", text, /^[1-9]\d{0,8}[smhd]$/, rule);
  const ms = millisecondsOf(text);
  if (ms < LEAST_VALIDITY_MS || ms > millisecondsOf("3650d"))
    read.errors.push(`--certificate-validity is ${text}; it must be ${rule}.`);
  return ms;
}

function helpText(): string {
  return `Throughline injector: adds the server to pods that ask for it, as a mutating admission webhook.

Usage: node operator/inject/main.ts --sidecar-image <image> --kafka <brokers> --deployment-id <id> [flags]

Each flag is also an environment variable: --health-listen is THROUGHLINE_HEALTH_LISTEN. Flags win.

${helpLines(SETTINGS, REQUIRED).join("\n")}
`;
}
