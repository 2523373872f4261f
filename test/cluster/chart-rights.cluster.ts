/**
 * The rights that the chart gives and its README lists: the programs run with them, and with no others.
 *
 * Operator and server are processes with the flags of the Deployments that helm installed, the operator with a token
 * of its ServiceAccount. The README's commands for Kafka are run by a shell as they stand there.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CoreV1Api, type KubeConfig } from "@kubernetes/client-node";
import { stringify } from "yaml";
import { ThroughlineClient } from "../../client/client.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import { freePorts } from "../../local/free-ports.ts";
import { kubeConfigOf } from "../../operator/kube/kube-config.ts";
import type { Condition } from "../../operator/kube/resource-api.ts";
import type { NewEvent } from "../../proto/gen/throughline/v1/throughline.ts";
import { progressTopicOf } from "../../sequencer/progress.ts";
import { until } from "../story/waits.ts";
import { ask } from "./api-request.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { CHART, type Helm, helmIn } from "./helm.ts";
import { isReady, untilTopic } from "./topic-bed.ts";

const SLOW_MS = 240_000;
const ROOT = join(import.meta.dirname, "../..");
const README = readFileSync(join(CHART, "README.md"), "utf8");
const ID = "rights";
const TOPICS = "/apis/throughline.dev/v1alpha1/namespaces/shop/topics";
const OUTBOXES = "/apis/throughline.dev/v1alpha1/namespaces/shop/outboxes";
const PASSWORD = "secret";

let folder: string;
let plane: ControlPlane;
let helm: Helm;
let kafka: EmbeddedKafka;
let store: EmbeddedStore;
let gatewayPort: number;
let gatewayHealth: number;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-rights-"));
  const login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
  const names = ["operator", "server", "sequencer"];
  const users = names.map((name) => `user_${name}="${PASSWORD}"`).join(" ");
  [plane, kafka, store] = await Promise.all([
    startControlPlane(console.log),
    startKafka({
      directory: join(folder, "kafka"),
      secured: "SASL_PLAINTEXT",
      settings: {
        "listener.name.secured.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": `${login} ${users};`,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
      },
    }),
    startStore({
      ...{ directory: join(folder, "store"), user: "throughline", password: PASSWORD },
      rights: storeRights(),
    }),
  ]);
  helm = await helmIn(folder, plane.kubeconfig);
  const core = plane.kube.makeApiClient(CoreV1Api);
  for (const name of ["throughline", "shop"])
    await core.createNamespace({ body: { metadata: { name } } });
  const [operatorHealth, ...ports] = await freePorts(3);
  [gatewayPort, gatewayHealth] = ports as [number, number];
  const user = (name: string): object => ({
    sasl: { mechanism: "PLAIN", user: name, passwordSecret: { name: "kafka" } },
  });
  const values = {
    ...{ image: { repository: "throughline" }, deploymentId: ID },
    kafka: { brokers: kafka.securedBrokers },
    sessionStore: { url: store.url, user: "throughline", passwordSecret: { name: "redis" } },
    operator: { namespaces: ["shop"], healthPort: operatorHealth, kafka: user("operator") },
    webhook: { sidecar: { kafka: user("server") } },
    gateway: {
      ...{ enabled: true, namespace: "shop", port: gatewayPort, healthPort: gatewayHealth },
      kafka: user("server"),
    },
  };
  writeFileSync(join(folder, "values.yaml"), stringify(values));
  const where = ["--namespace", "throughline", "--values", join(folder, "values.yaml")];
  await helm.done("install", "throughline", CHART, ...where);
}, SLOW_MS);

afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all([plane?.stop(), kafka?.stop(), store?.stop()]);
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

/** What stands in the README after the mark. */
function block(mark: string): string {
  const text = README.split(`<!-- ${mark} -->`)[1]?.split("```")[1];
  if (text === undefined) throw new Error(`the chart's README has no ${mark}`);
  return text.slice(text.indexOf("\n") + 1);
}

/** What comes after the password. */
function storeRights(): string {
  return (block("store's rights").split(">password ")[1] as string).replaceAll("$ID", ID).trim();
}

/** Runs the README's commands; what they hand to Kafka's tool goes to Kafka's tool. */
async function grant(mark: string, principals: Readonly<Record<string, string>>): Promise<void> {
  const bin = join(folder, "bin");
  mkdirSync(bin, { recursive: true });
  const tool = join(bin, "kafka-acls.sh");
  writeFileSync(tool, '#!/bin/sh\nprintf "%s\\n" "$@"; echo ---\n', { mode: 0o755 });
  const config = join(folder, "admin.properties");
  writeFileSync(config, "");
  const said = execFileSync("sh", ["-eu", "-c", block(mark)], {
    encoding: "utf8",
    env: {
      PATH: `${bin}:${process.env["PATH"]}`,
      ...{ ID, NAMESPACE: "shop", KAFKA: kafka.brokers.join(","), ADMIN: config },
      ...principals,
    },
  });
  for (const command of said.split("---\n").filter(Boolean)) {
    const args = command.trimEnd().split("\n");
    const { code, stdout, stderr } = await kafka.java("org.apache.kafka.tools.AclCommand", args);
    if (code !== 0) throw new Error(`${args.join(" ")}\n${stderr || stdout}`);
  }
}

async function tokenOf(account: string): Promise<KubeConfig> {
  const path = `/api/v1/namespaces/throughline/serviceaccounts/throughline-${account}/token`;
  const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} };
  const { body } = await ask(plane.kube, "POST", path, request);
  const { token } = body["status"] as { token: string };
  const config = JSON.parse(plane.kubeconfig) as { users: { user: { token: string } }[] };
  for (const { user } of config.users) user.token = token;
  writeFileSync(join(folder, `${account}.kubeconfig`), JSON.stringify(config), { mode: 0o600 });
  return kubeConfigOf(JSON.stringify(config));
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** One line for each right in a namespace, without what everybody may ask about himself. */
async function rightsOf(account: string, namespace: string): Promise<string[]> {
  const path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
  const { body } = await ask(await tokenOf(account), "POST", path, {
    ...{ apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview" },
    spec: { namespace },
  });
  const { resourceRules } = body["status"] as { resourceRules: readonly Rule[] };
  return resourceRules
    .filter(({ apiGroups }) => !apiGroups.every((group) => /^auth\w+\.k8s\.io$/.test(group)))
    .map(({ apiGroups, resources, resourceNames = [], verbs }) =>
      [apiGroups, resources, resourceNames, verbs].map((some) => some.join(",")).join(" "),
    )
    .toSorted();
}

const CLUSTER_UID = " namespaces kube-system get";
const LEASES = [
  "coordination.k8s.io leases  create",
  `coordination.k8s.io leases throughline-operator-${ID} get,update`,
];
const TOPIC_RIGHTS = [
  "events.k8s.io events  create",
  "throughline.dev topics  get,list,watch,patch",
  "throughline.dev topics/status  patch",
];
const OUTBOX_RIGHTS = [
  " serviceaccounts  create,patch",
  "apps deployments  get,create,patch",
  "events.k8s.io events  create",
  "throughline.dev topics,outboxes  get,list,watch,patch",
  "throughline.dev topics/status,outboxes/status  patch",
];

/** An API server learns of rights that are given or taken a moment later. */
async function expectRights(
  account: string,
  namespace: string,
  wanted: readonly string[],
): Promise<void> {
  const count = async () => (await rightsOf(account, namespace)).length;
  await until(async () => (await count()) === wanted.length);
  expect([namespace, await rightsOf(account, namespace)]).toEqual([namespace, wanted]);
}

test("each account may what its program asks for, and nothing else", async () => {
  const webhook = "admissionregistration.k8s.io mutatingwebhookconfigurations";
  const own = `${webhook} throughline-throughline-webhook get,patch`;
  await expectRights("operator", "shop", [
    ...[CLUSTER_UID, " namespaces shop get", ...OUTBOX_RIGHTS],
  ]);
  await expectRights("operator", "throughline", [CLUSTER_UID, ...LEASES]);
  await expectRights("operator", "default", [CLUSTER_UID]);
  await expectRights("webhook", "throughline", [" secrets throughline-webhook get,update", own]);
  await expectRights("webhook", "shop", [own]);
  await expectRights("gateway", "shop", []);
  await expectRights("gateway", "throughline", []);
});

test("for all namespaces the operator may the same everywhere, and has no Role there", async () => {
  const values = ["--values", join(folder, "values.yaml"), "--set", "operator.namespaces=null"];
  const where = ["--namespace", "throughline"];
  await helm.done("upgrade", "throughline", CHART, ...where, ...values);
  for (const namespace of ["default", "shop", "kube-system"])
    await expectRights("operator", namespace, [
      ...[" namespaces  get", CLUSTER_UID, ...OUTBOX_RIGHTS],
    ]);
  values.push("--set", "sequencers.enabled=false");
  await helm.done("upgrade", "throughline", CHART, ...where, ...values);
  await expectRights("operator", "shop", [" namespaces  get", CLUSTER_UID, ...TOPIC_RIGHTS]);
  await helm.done("rollback", "throughline", "1", ...where);
  await expectRights("operator", "default", [CLUSTER_UID]);
});

/** The program with the flags of its Deployment, its Secrets in a folder. */
async function run(component: string, main: string, ...more: readonly string[]) {
  const path = `/apis/apps/v1/namespaces/throughline/deployments/throughline-${component}`;
  const { body } = await ask(plane.kube, "GET", path);
  const { spec } = body as unknown as {
    spec: { template: { spec: { containers: { args: string[] }[] } } };
  };
  const secrets = join(folder, "secrets");
  const args = (spec.template.spec.containers[0]?.args ?? []).map((arg) => {
    const [, flag, file] = /^(--.*)=\/etc\/throughline\/(.*)$/.exec(arg) ?? [];
    if (flag === undefined || file === undefined) return arg;
    mkdirSync(join(secrets, file, ".."), { recursive: true });
    writeFileSync(join(secrets, file), PASSWORD, { mode: 0o600 });
    return `${flag}=${join(secrets, file)}`;
  });
  const child = spawn(process.execPath, [main, ...args, ...more], {
    ...{ cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] },
  });
  children.add(child);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  /** Resolves when it says the word. */
  return (word: string): Promise<void> =>
    new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        if (line.includes(word)) resolve();
      });
      child.once("exit", (code) => reject(new Error(`${component} ended with ${code}`)));
    });
}

function signedIn(username: string): Log {
  const sasl = { mechanism: "PLAIN" as const, username, password: PASSWORD };
  return openKafkaLog({ brokers: kafka.securedBrokers, clientId: "rights", sasl });
}

async function topicOf(log: Log, name: string): Promise<TopicInfo> {
  const found = await log.admin.describeTopics([name]);
  if (found.kind !== "done") throw new Error(found.reason);
  return found.value.get(name) as TopicInfo;
}

const RECORD = { key: null, value: Buffer.from("x"), headers: [], timeMs: 0 };
const NEW = { partitions: 1, replicas: 1, settings: {} };

test(
  "with the token of its account and the README's rights the operator makes, grows and changes a Topic, and no more",
  async () => {
    await grant("operator's rights", { OPERATOR: "operator" });
    const account = await tokenOf("operator");
    const flags = ["--kubeconfig", join(folder, "operator.kubeconfig")];
    await run("operator", "operator/main.ts", ...flags);
    const kind = { apiVersion: "throughline.dev/v1alpha1", kind: "Topic" };
    const spec = { partitions: 1, deletionPolicy: "Delete" };
    await ask(plane.kube, "POST", TOPICS, { ...kind, metadata: { name: "orders" }, spec });
    await untilTopic(plane.kube, "shop/orders", isReady);
    const more = { spec: { partitions: 2, retention: { time: "1d" } } };
    const orders = `${TOPICS}/orders`;
    await ask(plane.kube, "PATCH", orders, more, "application/merge-patch+json");
    await untilTopic(
      plane.kube,
      "shop/orders",
      (topic) => isReady(topic) && topic?.status?.partitions === 2,
    );
    const sales = { metadata: { name: "sales" }, spec: { database: { secret: { name: "db" } } } };
    await ask(plane.kube, "POST", OUTBOXES, { ...kind, kind: "Outbox", ...sales });
    await until(async () => {
      const { body } = await ask(plane.kube, "GET", `${OUTBOXES}/sales`);
      const { conditions = [] } = (body["status"] ?? {}) as { conditions?: Condition[] };
      return conditions.some(({ reason }) => reason === "Starting");
    });
    const deployment = "/apis/apps/v1/namespaces/shop/deployments/sales-sequencer";
    expect((await ask(plane.kube, "GET", deployment)).status).toBe(200);
    for (const [method, path, body] of [
      ["GET", "/api/v1/namespaces/throughline/secrets/throughline-webhook"],
      ["POST", TOPICS, { ...kind, metadata: { name: "own" } }],
      ["DELETE", orders],
      ["DELETE", deployment],
      ["DELETE", `${OUTBOXES}/sales`],
      ["GET", deployment.replace("/shop/", "/throughline/")],
      ["GET", "/api/v1/namespaces/shop/secrets/db"],
      ["GET", TOPICS.replace("/shop/", "/default/")],
      ["GET", "/apis/coordination.k8s.io/v1/namespaces/throughline/leases/another"],
    ] as const)
      expect([method, path, (await ask(account, method, path, body)).status]).toEqual([
        ...[method, path, 403],
      ]);
    const log = signedIn("operator");
    const topic = await topicOf(log, "shop.orders");
    expect((await log.append(topic, 0, RECORD)).kind).toBe("unauthorised");
    expect((await log.admin.createTopic({ name: "bank.orders", ...NEW })).kind).toBe(
      "unauthorised",
    );
    await log.close();
  },
  SLOW_MS,
);

test(
  "with the README's rights a server serves events, named publishers and sessions, and may no more",
  async () => {
    await grant("server's rights", { SERVER: "server" });
    const says = await run("gateway", "sidecar/main.ts");
    await says('"serving"');
    await until(async () => (await fetch(`http://127.0.0.1:${gatewayHealth}/readyz`)).ok);
    const client = new ThroughlineClient([`127.0.0.1:${gatewayPort}`]);
    const event = { type: "made", key: Buffer.from("k"), payload: Buffer.from("v"), headers: [] };
    const events: NewEvent[] = [event];
    const [unnamed] = await client.publish("orders", events);
    expect(unnamed).toMatchObject({ result: { $case: "position" } });
    for (const number of [1n, 2n]) {
      const publisher = client.namedPublisher({ topic: "orders", name: "till" });
      expect(await publisher.publish(events)).toMatchObject([{ number }]);
      publisher.close();
    }
    const session = { name: "billing", acks: "explicit" } as const;
    const start = { $case: "earliest", value: {} } as const;
    let seen = 0;
    for await (const batch of client.subscribe({ topic: "orders", session, start })) {
      seen += batch.events.length;
      batch.ack();
      if (seen === 3) break;
    }
    client.close();

    const log = signedIn("server");
    const group = `_throughline.${ID}.shop.orders.billing`;
    const at = [{ offset: 1, epoch: 0 }];
    expect(await log.groups.commit(group, "shop.orders", at)).toMatchObject({ kind: "done" });
    expect(await log.groups.delete(group)).toMatchObject({ kind: "done" });
    const catalog = await topicOf(log, `_throughline.${ID}.catalog`);
    expect((await log.append(catalog, 0, RECORD)).kind).toBe("unauthorised");
    expect((await log.admin.createTopic({ name: "shop.own", ...NEW })).kind).toBe("unauthorised");
    const orders = await topicOf(log, "shop.orders");
    expect((await log.admin.deleteTopic(orders.id)).kind).toBe("unauthorised");
    await log.close();
  },
  SLOW_MS,
);

test(
  "with the README's rights a sequencer writes its progress and events of its Topics, and may no more",
  async () => {
    await grant("sequencer's rights", { SEQUENCER: "sequencer" });
    const log = signedIn("sequencer");
    const record = { ...RECORD, key: Buffer.from("k") };
    const progress = await progressTopicOf(log, ID);
    expect((await log.append(progress, 0, record)).kind).toBe("appended");
    const orders = await topicOf(log, "shop.orders");
    const batch = [progress, orders].map((topic) => ({ topic, partition: 0, records: [record] }));
    const to = { always: { topic: progress, partition: 0 }, others: [orders] };
    for (const id of Array(2).fill(`_throughline.${ID}.sequencer.shop.sales`)) {
      const opened = await log.openTransactionalWriter(id, to);
      if (opened.kind !== "done") throw new Error(opened.reason);
      expect((await opened.value.write(batch)).kind).toBe("committed");
    }
    const catalog = await topicOf(log, `_throughline.${ID}.catalog`);
    expect((await log.append(catalog, 0, record)).kind).toBe("unauthorised");
    await log.close();
  },
  SLOW_MS,
);

test(
  "with the same rights the operator removes a Topic and its Kafka topic",
  async () => {
    await ask(plane.kube, "DELETE", `${TOPICS}/orders`);
    await untilTopic(plane.kube, "shop/orders", (topic) => topic === undefined);
    const log = openKafkaLog({ brokers: kafka.brokers, clientId: "rights" });
    expect(await topicOf(log, "shop.orders")).toBeUndefined();
    await log.close();
  },
  SLOW_MS,
);
