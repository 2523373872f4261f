/** The operator's configuration, read here and nowhere else. */
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
  type Setting,
  type SettingReader,
  type Settings,
} from "../process/settings.ts";
import { ALLOWED_ENTRY } from "./allowed-names.ts";
import { kafkaOfPods, POD_KAFKA_SETTINGS } from "./pod-kafka.ts";
import type { ProgramSettings } from "./program-container.ts";

export interface Config {
  readonly kafka: KafkaConfig;
  readonly deploymentId: string;
  /** Undefined: where this pod's service account says. */
  readonly kubeconfig: string | undefined;
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly labelSelector: string;
  /** As `allowed-names.ts` has them. */
  readonly allowedKafkaTopics: readonly string[];
  /** Undefined: Outboxes are left alone. */
  readonly sequencers: ProgramSettings | undefined;
  readonly leaseNamespace: string;
  readonly leaseName: string;
  /** Of this process, in the Lease. */
  readonly identity: string;
  readonly healthListen: Address | undefined;
  readonly logLevel: string;
}

/** What is not said of them is for sequencers as it is for the operator. */
const SHARED = ["kafka", "kafka-tls", "kafka-sasl-mechanism"] as const;
const ofSequencers = Object.fromEntries(
  Object.entries<Setting>(POD_KAFKA_SETTINGS).map(([name, { value, help }]) => [
    `sequencer-${name}`,
    {
      value,
      help: `of sequencers: ${help}${SHARED.some((one) => one === name) ? " (default: the operator's)" : ""}`,
    },
  ]),
) as Record<`sequencer-${keyof typeof POD_KAFKA_SETTINGS}`, Setting>;

const SETTINGS = {
  ...KAFKA_SETTINGS,
  "deployment-id": { value: "id", help: "whose catalog this operator writes: [a-z0-9-]{1,40}" },
  kubeconfig: { value: "file", help: "how to reach the API server (default: this pod's account)" },
  namespaces: { value: "name,…", help: "whose Topics and Outboxes (default: all namespaces)" },
  "label-selector": {
    value: "selector",
    help: "only Topics and Outboxes with these labels, as kubectl -l",
  },
  "allowed-kafka-topics": {
    value: "entry,…",
    help: "[<namespace>/]<Kafka topic> that a Topic may name outside <namespace>.…, or adopt; a trailing * is a prefix",
  },
  "sequencer-image": {
    value: "image",
    help: "of this release, for the sequencers of Outboxes (default: Outboxes are left alone)",
  },
  ...ofSequencers,
  "lease-namespace": {
    value: "name",
    help: "where the Lease of the leader is",
    default: "throughline",
  },
  "lease-name": {
    value: "name",
    help: "its name (default: throughline-operator-<deployment id>)",
  },
  "health-listen": HEALTH_LISTEN,
  "log-level": LOG_LEVEL,
} as const satisfies Settings;

const ENTRY_RULE =
  "a Kafka topic's name or its beginning with a *, and may have a namespace and / before it";
const REQUIRED: readonly string[] = ["kafka", "deployment-id"];

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
  const deploymentId = deploymentIdOf(read);
  const namespaces = read.text("namespaces");
  return {
    ...{ kafka: kafkaConfig(read), deploymentId },
    kubeconfig: read.file("kubeconfig")?.toString("utf8"),
    namespaces:
      namespaces === undefined
        ? undefined
        : read.list(namespaces).map((one) => namespaceOf(read, "namespaces", one)),
    labelSelector: read.text("label-selector") ?? "",
    allowedKafkaTopics: read
      .list(read.text("allowed-kafka-topics") ?? "")
      .map((one) => read.matching("allowed-kafka-topics", one, ALLOWED_ENTRY, ENTRY_RULE)),
    sequencers: sequencersOf(read, given),
    leaseNamespace: namespaceOf(read, "lease-namespace", read.text("lease-namespace") ?? ""),
    leaseName: read.text("lease-name") ?? `throughline-operator-${deploymentId}`,
    identity: `${outside.hostname()}_${randomUUID()}`,
    healthListen: healthListenOf(read),
    logLevel: logLevelOf(read),
  };
}

function sequencersOf(
  read: SettingReader<keyof typeof SETTINGS>,
  given: ReadonlyMap<string, string>,
): ProgramSettings | undefined {
  const image = read.text("sequencer-image");
  if (image === undefined) {
    for (const flag of given.keys())
      if (flag.startsWith("--sequencer-"))
        read.errors.push(`${flag} is set without --sequencer-image.`);
    return undefined;
  }
  const all = new Map(given);
  for (const name of SHARED) {
    const own = read.text(name);
    if (own !== undefined && !given.has(`--sequencer-${name}`)) all.set(`--sequencer-${name}`, own);
  }
  const { flags, files, values } = kafkaOfPods(read, all, "sequencer-");
  const id = read.text("deployment-id") ?? "";
  return { image, flags: { ...flags, "deployment-id": id }, files, values };
}

function helpText(): string {
  return `Throughline operator: makes Topics of a Kubernetes cluster true in Kafka.

Usage: node operator/main.ts --kafka <brokers> --deployment-id <id> [flags]

Each flag is also an environment variable: --health-listen is THROUGHLINE_HEALTH_LISTEN. Flags win.

${helpLines(SETTINGS, REQUIRED).join("\n")}
`;
}
