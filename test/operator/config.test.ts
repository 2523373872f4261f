/** The operator's flags: what suffices, what is refused, each error with its flag. */
import { expect, test } from "@jest/globals";
import { parseConfig } from "../../operator/config.ts";

const REQUIRED = ["--kafka", "k1:9092", "--deployment-id", "prod"];
const FILES: Record<string, string> = { kube: "apiVersion: v1", ca: "CA" };

function parse(...args: string[]) {
  return parseConfig({
    ...{ args, environment: { THROUGHLINE_LABEL_SELECTOR: "team=a" }, hostname: () => "pod-1" },
    readFile: (path) => Buffer.from(FILES[path] ?? ""),
  });
}

function errorsOf(...args: string[]): readonly string[] {
  const parsed = parse(...REQUIRED, ...args);
  return parsed.kind === "errors" ? parsed.errors : [];
}

test("Kafka and a deployment id suffice: all namespaces, no name outside them, a Lease of its own", () => {
  const parsed = parse(...REQUIRED);
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  expect(parsed.config).toEqual({
    kafka: { brokers: ["k1:9092"], tls: undefined, sasl: undefined },
    ...{ deploymentId: "prod", kubeconfig: undefined, namespaces: undefined },
    ...{ labelSelector: "team=a", allowedKafkaTopics: [], healthListen: undefined },
    sequencers: undefined,
    ...{ leaseNamespace: "throughline", leaseName: "throughline-operator-prod" },
    ...{ identity: expect.stringMatching(/^pod-1_[0-9a-f-]{36}$/), logLevel: "info" },
  });
});

test("namespaces, names and files are read as they are given", () => {
  const flags = ["--namespaces", "shop, bank", "--allowed-kafka-topics", "shop/legacy.*,old"];
  const parsed = parse(...REQUIRED, ...flags, "--kubeconfig", "kube");
  expect(parsed).toMatchObject({
    config: {
      ...{ namespaces: ["shop", "bank"], allowedKafkaTopics: ["shop/legacy.*", "old"] },
      kubeconfig: "apiVersion: v1",
    },
  });
});

test("sequencers have the operator's Kafka, and an identity of their own from Secrets", () => {
  const flags = ["--sequencer-image", "tl:1", "--kafka-tls", "true"];
  flags.push("--sequencer-kafka-sasl-user-secret", "kafka/user");
  flags.push("--sequencer-kafka-sasl-password-secret", "kafka/password");
  const parsed = parse(...REQUIRED, ...flags);
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  expect(parsed.config.sequencers).toEqual({
    image: "tl:1",
    flags: {
      ...{ kafka: "k1:9092", "kafka-tls": "true", "kafka-sasl-mechanism": "SCRAM-SHA-512" },
      "deployment-id": "prod",
    },
    files: { "kafka-sasl-password-file": { secret: "kafka", key: "password" } },
    values: { "kafka-sasl-user": { secret: "kafka", key: "user" } },
  });
  const other = parse(...REQUIRED, "--sequencer-image", "tl:1", "--sequencer-kafka", "k2:9093");
  expect(other).toMatchObject({ config: { sequencers: { flags: { kafka: "k2:9093" } } } });
});

test("what is said of sequencers needs their image, and a user its password", () => {
  expect(errorsOf("--sequencer-kafka", "k2:9093")).toEqual([
    "--sequencer-kafka is set without --sequencer-image.",
  ]);
  expect(errorsOf("--sequencer-image", "tl:1", "--sequencer-kafka-sasl-user", "u")).toEqual([
    "--sequencer-kafka-sasl-password-secret is missing: it goes with the user of Kafka.",
  ]);
});

test("what is wrong is named with its flag, all at once", () => {
  const flags = ["--namespaces", "Shop", "--lease-namespace", "-", "--health-listen", "x"];
  flags.push("--allowed-kafka-topics", "ok,a/b/c");
  expect(errorsOf(...flags, "--deployment-id", "A", "--nonsense", "1")).toEqual([
    "--nonsense is not a flag of this program; --help lists them.",
    '--deployment-id is "A"; it must be 1 to 40 of a-z, 0-9 and -.',
    '--namespaces is "Shop"; it must be a Kubernetes namespace name.',
    `--allowed-kafka-topics is "a/b/c"; it must be a Kafka topic's name or its beginning with a *, and may have a namespace and / before it.`,
    '--lease-namespace is "-"; it must be a Kubernetes namespace name.',
    '--health-listen is "x"; it must be host:port.',
  ]);
});

test("help names every flag", () => {
  const parsed = parse("--help");
  expect(parsed).toMatchObject({ kind: "help", text: expect.stringContaining("--lease-name") });
});
