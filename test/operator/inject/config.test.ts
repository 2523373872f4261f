/** The injector's flags: what suffices, what is refused, each error with its flag. */
import { expect, test } from "@jest/globals";
import { parseConfig } from "../../../operator/inject/config.ts";

const REQUIRED = [
  ...["--sidecar-image", "throughline:1", "--kafka", "k1:9092", "--deployment-id", "prod"],
];

function parse(...args: string[]) {
  return parseConfig({
    ...{ args, environment: {}, hostname: () => "pod-1" },
    readFile: () => Buffer.from("apiVersion: v1"),
  });
}

function configOf(...args: string[]) {
  const parsed = parse(...REQUIRED, ...args);
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  return parsed.config;
}

function errorsOf(...args: string[]): readonly string[] {
  const parsed = parse(...REQUIRED, ...args);
  return parsed.kind === "errors" ? parsed.errors : [];
}

test("image, Kafka and a deployment id suffice", () => {
  expect(configOf()).toEqual({
    injection: {
      server: {
        ...{ image: "throughline:1", flags: { kafka: "k1:9092", "deployment-id": "prod" } },
        ...{ files: {}, values: {} },
      },
      presets: {
        ...{ port: "7070", "health-port": "7071", "log-level": "info" },
        ...{ "cpu-request": "50m", "memory-request": "128Mi", "memory-limit": "256Mi" },
      },
    },
    ...{ listen: { host: "", port: 9443 }, healthListen: undefined, kubeconfig: undefined },
    webhookConfiguration: "throughline-injector",
    secret: { namespace: "throughline", name: "throughline-injector-tls" },
    certificate: {
      names: ["throughline-injector.throughline.svc"],
      validityMs: 90 * 24 * 60 * 60 * 1000,
    },
    ...{ identity: "pod-1", logLevel: "info" },
  });
});

test("what the server reads from a file comes from a key of a Secret", () => {
  const { server } = configOf(
    ...["--kafka-tls-ca-secret", "kafka-ca/ca.crt", "--kafka-sasl-user-secret", "kafka/user"],
    ...["--kafka-sasl-password-secret", "kafka/password", "--session-store", "rediss://r:6379"],
    ...["--session-store-user", "tl", "--session-store-password-secret", "redis/password"],
  ).injection;
  expect(server.files).toEqual({
    "kafka-tls-ca-file": { secret: "kafka-ca", key: "ca.crt" },
    "kafka-sasl-password-file": { secret: "kafka", key: "password" },
    "session-store-password-file": { secret: "redis", key: "password" },
  });
  expect(server.values).toEqual({ "kafka-sasl-user": { secret: "kafka", key: "user" } });
  expect(server.flags).toEqual({
    ...{ kafka: "k1:9092", "deployment-id": "prod" },
    ...{ "session-store": "rediss://r:6379", "session-store-user": "tl" },
  });
});

test("presets of pods, service and certificate are read as they are given", () => {
  expect(
    configOf(
      ...["--sidecar-port", "8000", "--sidecar-cpu-limit", "2", "--listen", "[::1]:1"],
      ...["--certificate-names", "inject.tl.svc, 10.0.0.1, ::1", "--certificate-validity", "30s"],
    ),
  ).toMatchObject({
    injection: { presets: { port: "8000", "cpu-limit": "2" } },
    listen: { host: "::1", port: 1 },
    certificate: { names: ["inject.tl.svc", "10.0.0.1", "::1"], validityMs: 30_000 },
  });
});

test.each([
  ["--kafka", "k1", '--kafka is "k1"; it must be host:port.'],
  [
    "--kafka-tls-ca-secret",
    "ca",
    '--kafka-tls-ca-secret is "ca"; it must be the name of a Secret, / and a key of it.',
  ],
  [
    "--kafka-tls-cert-secret",
    "a/b",
    "--kafka-tls-key-secret is missing: it goes with --kafka-tls-cert-secret.",
  ],
  [
    "--kafka-sasl-user",
    "u",
    "--kafka-sasl-password-secret is missing: it goes with the user of Kafka.",
  ],
  [
    "--kafka-sasl-password-secret",
    "a/b",
    "--kafka-sasl-password-secret is set without --kafka-sasl-user or --kafka-sasl-user-secret.",
  ],
  [
    "--kafka-sasl-mechanism",
    "GSSAPI",
    '--kafka-sasl-mechanism is "GSSAPI"; it must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.',
  ],
  [
    "--session-store",
    "http://r:1",
    '--session-store is "http://r:1"; it must be redis://host:port or rediss://….',
  ],
  ["--session-store-user", "u", "--session-store-user is set without --session-store."],
  ["--sidecar-port", "80", '--sidecar-port is "80"; it must be a port of 1024 to 65535.'],
  [
    "--sidecar-memory-limit",
    "64Mi",
    '--sidecar-memory-limit is "64Mi"; it must be 256Mi or more: the server\'s byte budgets need it.',
  ],
  [
    "--sidecar-tail-bytes",
    "80Mi",
    "--sidecar-tail-bytes: 80Mi in all, and --sidecar-memory-limit, which is 256Mi, has room for 66Mi of them: lower the former or raise the latter.",
  ],
  ["--listen", ":x", '--listen is ":x"; it must be host:port.'],
  ["--listen", ":99999", '--listen is "any:99999"; it must be host:port.'],
  [
    "--webhook-configuration",
    "A",
    '--webhook-configuration is "A"; it must be the name of a Kubernetes object.',
  ],
  ["--secret-namespace", "A", '--secret-namespace is "A"; it must be a Kubernetes namespace name.'],
  [
    "--certificate-names",
    "a/b",
    '--certificate-names is "a/b"; it must be a DNS name or an IP address.',
  ],
  ["--certificate-names", ",", "--certificate-names is empty: name the service."],
  [
    "--certificate-validity",
    "9s",
    "--certificate-validity is 9s; it must be 10s to 3650d, like 90d, 12h or 30s.",
  ],
])("%s %s is refused with what it must be", (flag, value, error) => {
  expect(errorsOf(flag, value)).toContain(error);
});

test("a user is named once", () => {
  expect(
    errorsOf(
      ...["--kafka-sasl-user", "u", "--kafka-sasl-user-secret", "a/b"],
      ...["--kafka-sasl-password-secret", "a/c"],
    ),
  ).toEqual(["--kafka-sasl-user and --kafka-sasl-user-secret are both set: remove one."]);
});

test("a password in an address is refused and not repeated", () => {
  expect(errorsOf("--session-store", "redis://u:geheim@r:1")).toEqual([
    "--session-store holds a user or a password, which every pod would show: name them in --session-store-user and --session-store-password-secret.",
  ]);
});

test("help names every flag", () => {
  const text = expect.stringMatching(/--sidecar-cpu-limit.*\n[\s\S]*--certificate-validity/);
  expect(parse("--help")).toMatchObject({ kind: "help", text });
});
