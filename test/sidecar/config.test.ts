import { expect, test } from "@jest/globals";
import { parseConfig } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { loopbackCertificate } from "../certificate.ts";

const { cert: CERT, key: KEY } = await loopbackCertificate();
const FILES: Record<string, string> = {
  ...{ pw: "secret\n", ca: "CA", cert: "CERT", key: "KEY", "good-cert": CERT, "good-key": KEY },
};
const machine = {
  readFile: (path: string): Buffer => {
    const text = FILES[path];
    if (text === undefined) throw new Error("ENOENT: no such file or directory");
    return Buffer.from(text);
  },
  hostname: () => "host-1",
};
const REQUIRED = ["--kafka", "k1:9092,k2:9092", "--deployment-id", "local", "--namespace", "shop"];

function parse(args: string[], environment: Record<string, string> = {}) {
  return parseConfig({ args, environment, ...machine });
}

function configOf(args: string[], environment: Record<string, string> = {}) {
  const parsed = parse([...REQUIRED, ...args], environment);
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  return parsed.config;
}

function errorsOf(args: string[], environment: Record<string, string> = {}): readonly string[] {
  const parsed = parse(args, environment);
  return parsed.kind === "errors" ? parsed.errors : [];
}

test("three settings suffice; the door is on loopback and health is off", () => {
  expect(configOf([])).toEqual({
    listen: "127.0.0.1:7070",
    healthListen: undefined,
    shape: "gateway",
    tls: undefined,
    kafka: { brokers: ["k1:9092", "k2:9092"], tls: undefined, sasl: undefined },
    sessionStore: undefined,
    deploymentId: "local",
    clusterUid: undefined,
    namespace: "shop",
    serverName: "host-1",
    logLevel: "info",
    limits: DEFAULT_LIMITS,
  });
});

test("every missing setting is named at once", () => {
  const errors = errorsOf([]);
  expect(errors).toHaveLength(3);
  for (const flag of ["--kafka", "--deployment-id", "--namespace"]) {
    expect(errors.some((error) => error.startsWith(`${flag} is required`))).toBe(true);
  }
});

test("every wrong setting is named at once, with what it must be", () => {
  const errors = errorsOf([
    ...["--kafka", "nowhere", "--deployment-id", "Prod!", "--namespace", "-x"],
    ...["--shape", "boat", "--log-level", "loud", "--listen", "7070", "--health-listen", "h:70000"],
    ...["--tail-bytes", "many", "--streams", "0", "--catch-up-dispatchers", "2Mi"],
    ...["--tls-cert-file", "cert", "--kafka-tls-ca-file", "absent", "--teleport", "yes"],
  ]);
  const named = errors.map((error) => /^--[a-z-]+/.exec(error)?.[0]).sort();
  expect(named).toEqual(
    [
      ...["--catch-up-dispatchers", "--deployment-id", "--health-listen", "--kafka"],
      ...["--kafka-tls-ca-file", "--listen", "--log-level", "--namespace", "--shape"],
      ...["--streams", "--tail-bytes", "--teleport", "--tls-key-file"],
    ].sort(),
  );
});

test("the environment sets what no flag sets; a flag wins", () => {
  const environment = { THROUGHLINE_HEALTH_LISTEN: "0.0.0.0:8080", THROUGHLINE_SHAPE: "pod" };
  const config = configOf(["--shape=gateway"], environment);
  expect(config.healthListen).toEqual({ host: "0.0.0.0", port: 8080 });
  expect(config.shape).toBe("gateway");
});

test("an empty variable counts as not set, and foreign variables are no error", () => {
  const config = configOf([], {
    THROUGHLINE_SHAPE: "",
    THROUGHLINE_SERVICE_HOST: "10.0.0.1",
  });
  expect(config.shape).toBe("gateway");
});

test("limits take binary units", () => {
  const { limits } = configOf(["--tail-bytes", "64Mi", "--streams", "9"]);
  expect(limits).toEqual({ ...DEFAULT_LIMITS, tailBytes: 64 << 20, streams: 9 });
});

test("limits that contradict each other are refused", () => {
  expect(errorsOf([...REQUIRED, "--tail-bytes", "4Mi"])).toEqual([
    "--tail-partition-bytes (8388608) is larger than --tail-bytes (4194304).",
  ]);
});

test("secrets come from files, without the newline at their end", () => {
  const { kafka } = configOf([
    ...["--kafka-sasl-user", "u", "--kafka-sasl-password-file", "pw", "--kafka-tls-ca-file", "ca"],
    ...["--kafka-tls-cert-file", "good-cert", "--kafka-tls-key-file", "good-key"],
  ]);
  expect(kafka.sasl).toEqual({ mechanism: "SCRAM-SHA-512", username: "u", password: "secret" });
  expect(kafka.tls).toEqual({
    ca: Buffer.from("CA"),
    cert: Buffer.from(CERT),
    key: Buffer.from(KEY),
  });
});

test.each(["tls", "kafka-tls"])(
  "a certificate that could not be used (--%s-…) is refused at the start, by its flag",
  (flag) => {
    const given = [`--${flag}-cert-file`, "cert", `--${flag}-key-file`, "key"];
    expect(errorsOf([...REQUIRED, ...given])).toEqual([
      expect.stringMatching(`^--${flag}-cert-file: is no certificate in PEM`),
    ]);
  },
);

test("TLS to Kafka can be wanted without files", () => {
  expect(configOf(["--kafka-tls", "true"]).kafka.tls).toEqual({});
});

test("a session store, its nodes and how it is reached", () => {
  expect(configOf(["--session-store", "redis://r:6379"]).sessionStore).toEqual({
    addresses: [{ host: "r", port: 6379 }],
    ...{ cluster: false, tls: undefined, user: undefined, password: undefined },
  });
  const { sessionStore } = configOf([
    ...["--session-store", "rediss://r1:7000,[::1]:7001/", "--session-store-cluster", "true"],
    ...["--session-store-user", "u", "--session-store-password-file", "pw"],
    ...["--session-store-tls-ca-file", "ca"],
  ]);
  expect(sessionStore).toEqual({
    addresses: [
      { host: "r1", port: 7000 },
      { host: "::1", port: 7001 },
    ],
    ...{ cluster: true, tls: { ca: Buffer.from("CA") }, user: "u", password: "secret" },
  });
  expect(configOf(["--session-store", "rediss://r:1/0"]).sessionStore?.tls).toEqual({});
});

test("a password in the session store's address is refused, unrepeated, with the way to give it", () => {
  const errors = errorsOf([...REQUIRED, "--session-store", "redis://u:hunter2@r:6379"]);
  expect(errors).toEqual([expect.stringContaining("--session-store-password-file")]);
  expect(errors[0]).not.toContain("hunter2");
});

test.each([
  [["--session-store", "r:6379"], ['is "r:6379"; it must be redis://']],
  [["--session-store", "http://r:6379"], ["it must be redis://"]],
  [["--session-store", "redis://r"], ['has "r"']],
  [["--session-store", "redis://r:0"], ['has "r:0"']],
  [["--session-store", "redis://r:1/3"], ["only database 0"]],
  [["--session-store", "redis://a:1,b:2"], ["--session-store-cluster true"]],
  [["--session-store", "redis://a:1", "--session-store-cluster", "yes"], ["must be true, false"]],
  [["--session-store", "redis://a:1", "--session-store-user", "u"], ["password-file is missing"]],
  [["--session-store", "redis://a:1", "--session-store-tls-ca-file", "ca"], ["with rediss://"]],
  [
    [
      ...["--session-store-user", "u", "--session-store-password-file", "pw"],
      ...["--session-store-cluster", "true", "--session-store-tls-ca-file", "absent"],
    ],
    ["cannot be read", "cluster is set without", "user is set", "password-file is set without"],
  ],
])("a session store that cannot be meant: %j", (args, said) => {
  const errors = errorsOf([...REQUIRED, ...args]);
  expect(errors).toEqual(said.map((one) => expect.stringContaining(one)));
});

test("a flag without a value is named, and does not swallow the next flag", () => {
  expect(errorsOf([...REQUIRED, "--shape", "--log-level", "debug"])).toEqual([
    "--shape needs a value.",
  ]);
});

test("the door may be a Unix socket, or IPv6", () => {
  expect(configOf(["--listen", "unix:/run/t.sock"]).listen).toBe("unix:/run/t.sock");
  expect(configOf(["--health-listen", "[::1]:80"]).healthListen).toEqual({ host: "::1", port: 80 });
});

test("--help names every flag with its default", () => {
  const parsed = parse(["--help"]);
  if (parsed.kind !== "help") throw new Error("no help");
  for (const flag of [
    "--kafka <",
    "--tail-bytes <",
    "--drain-ms <",
    "--kafka-sasl-password-file <",
  ]) {
    expect(parsed.text).toContain(flag);
  }
  expect(parsed.text).toContain("(default 24Mi)");
});
