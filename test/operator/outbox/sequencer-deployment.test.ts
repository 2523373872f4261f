/** The Deployment of an Outbox: what its pods are told, and that they may do nothing else. */
import { expect, test } from "@jest/globals";
import {
  sequencerAccount,
  sequencerDeployment,
} from "../../../operator/outbox/sequencer-deployment.ts";
import { parseConfig } from "../../../sequencer/config.ts";
import { outboxOf, SETTINGS } from "./outboxes.ts";

const FILES: Record<string, string> = {
  "database-file": "postgres://seq:hush@db:5433/shop\n",
  "kafka-sasl-password-file": "kafka's",
  "database-tls-ca-file": "CA",
};

function containerOf(...args: Parameters<typeof sequencerDeployment>) {
  const pod = sequencerDeployment(...args).spec?.template.spec;
  const [container] = pod?.containers ?? [];
  if (!pod || !container) throw new Error("it has no container");
  return { pod, container };
}

/** As the sequencer itself reads it. */
function parsedBySequencer(args: readonly string[]) {
  return parseConfig({
    ...{ args, environment: {}, hostname: () => "pod-1" },
    readFile: (path) => Buffer.from(FILES[path.slice(path.lastIndexOf("/") + 1)] ?? ""),
  });
}

test("the sequencer takes what it is told: whose it is, its Kafka, its database by a file", () => {
  const { container, pod } = containerOf(outboxOf(), SETTINGS, "run");
  expect(container.command).toEqual(["node", "dist/sequencer.mjs"]);
  expect(parsedBySequencer(container.args ?? [])).toMatchObject({
    kind: "config",
    config: {
      ...{ deed: "run", keepSentHours: undefined, logLevel: "info" },
      identity: { deploymentId: "prod", namespace: "shop", outbox: "orders" },
      database: { host: "db", port: 5433, database: "shop", user: "seq", password: "hush" },
      kafka: { brokers: ["k1:9092"], sasl: { username: "seq", password: "kafka's" } },
      healthListen: { port: 9464 },
    },
  });
  expect(pod.volumes).toEqual([
    {
      name: "throughline-secrets",
      projected: {
        sources: [
          { secret: { name: "shop-db", items: [{ key: "uri", path: "database-file" }] } },
          {
            secret: {
              name: "kafka",
              items: [{ key: "password", path: "kafka-sasl-password-file" }],
            },
          },
        ],
      },
    },
  ]);
});

test("the spec's options become its flags and its resources", () => {
  const outbox = outboxOf({
    database: { secret: { name: "db", key: "url" }, caSecret: { name: "ca", key: "pem" } },
    ...{ replicas: 1, keepSent: "7d", logLevel: "debug", limits: { retainedWal: "512Mi" } },
    resources: { limits: { memory: "1Gi", cpu: "1" } },
  });
  const { container } = containerOf(outbox, SETTINGS, "run");
  expect(parsedBySequencer(container.args ?? [])).toMatchObject({
    config: {
      ...{ keepSentHours: 168, logLevel: "debug", retainedWalLimitBytes: 512 * 2 ** 20 },
      database: { tls: { ca: Buffer.from("CA") } },
    },
  });
  expect(container.resources).toEqual({
    requests: { cpu: "100m", memory: "128Mi" },
    limits: { memory: "1Gi", cpu: "1" },
  });
  expect(sequencerDeployment(outbox, SETTINGS, "run").spec?.replicas).toBe(1);
});

test("a standby is there unless it is not wanted, and is ready before the one at work ends", () => {
  expect(sequencerDeployment(outboxOf(), SETTINGS, "run").spec).toMatchObject({
    ...{ replicas: 2, strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } },
  });
});

test("one that retires is alone: the others end before it begins", () => {
  const { container } = containerOf(outboxOf(), SETTINGS, "retire");
  expect(parsedBySequencer(container.args ?? [])).toMatchObject({ config: { deed: "retire" } });
  expect(sequencerDeployment(outboxOf(), SETTINGS, "retire").spec).toMatchObject({
    ...{ replicas: 1, strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: "100%" } } },
  });
});

test("its pods have the least of rights, and an account without a token", () => {
  const { pod, container } = containerOf(outboxOf(), SETTINGS, "run");
  expect(pod).toMatchObject({
    ...{ serviceAccountName: "orders-sequencer", automountServiceAccountToken: false },
    securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
  });
  expect(container.securityContext).toMatchObject({
    ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, runAsNonRoot: true },
    capabilities: { drop: ["ALL"] },
  });
  expect(sequencerAccount(outboxOf())).toMatchObject({
    metadata: { name: "orders-sequencer", namespace: "shop" },
    automountServiceAccountToken: false,
  });
});

test("both go with their Outbox, and what it is found by never changes", () => {
  const before = sequencerDeployment(outboxOf(), SETTINGS, "run");
  const after = sequencerDeployment(outboxOf({ replicas: 1 }), SETTINGS, "retire");
  const owner = { apiVersion: "throughline.dev/v1alpha1", kind: "Outbox", name: "orders" };
  for (const { metadata } of [before, sequencerAccount(outboxOf())])
    expect(metadata?.ownerReferences).toEqual([{ ...owner, uid: "u1", controller: true }]);
  expect(after.spec?.selector).toEqual(before.spec?.selector);
  expect(before.spec?.template.metadata?.labels).toMatchObject(
    before.spec?.selector.matchLabels ?? {},
  );
});
