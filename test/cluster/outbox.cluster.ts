/**
 * An Outbox from `kubectl apply` to its end: a real API server, the operator as a process, a real PostgreSQL and a
 * real Kafka. There is no kubelet here: the pods of its Deployment are played (`played-pods.ts`).
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { EventsV1Event, V1Deployment } from "@kubernetes/client-node";
import pg from "pg";
import { type EmbeddedPostgres, startPostgres } from "../../local/embedded-postgres.ts";
import { freePorts } from "../../local/free-ports.ts";
import type { Condition } from "../../operator/kube/resource-api.ts";
import type { KubeOutbox } from "../../operator/outbox/kube-outbox.ts";
import { ROOT } from "../source-files.ts";
import { until } from "../story/waits.ts";
import { type Answer, ask } from "./api-request.ts";
import { PlayedPods } from "./played-pods.ts";
import { SLOW_MS, TopicBed } from "./topic-bed.ts";

const NAMESPACE = "shop";
const ID = "outbox";
const MERGE = "application/merge-patch+json";
const OUTBOXES = `/apis/throughline.dev/v1alpha1/namespaces/${NAMESPACE}/outboxes`;
const DEPLOYMENTS = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;
const SLOT = "throughline_outbox_shop_orders";

let bed: TopicBed;
let pods: PlayedPods;
let folder: string;
let postgres: EmbeddedPostgres;
let sql: pg.Client;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-postgres-"));
  [bed, postgres] = await Promise.all([
    TopicBed.start(),
    startPostgres({ directory: folder, settings: { fsync: "off" } }),
  ]);
  const admin = new pg.Client(postgres.url);
  await admin.connect();
  await admin.query("create role sequencer login replication");
  await admin.query("create database shop");
  await admin.end();
  sql = new pg.Client(databaseUrl("postgres"));
  await sql.connect();
  await sql.query(readFileSync(join(ROOT, "sequencer/schema.sql"), "utf8"));
  await sql.query("select throughline.grant_sequencer('sequencer')");
  await until(async () => (await ask(bed.plane.kube, "GET", OUTBOXES)).status === 200);
  await bed.namespace(NAMESPACE);
  await secret("shop-db", databaseUrl("sequencer:not-asked-for"));
  bed.operator(ID, "--namespaces", NAMESPACE, "--sequencer-image", "throughline:1");
  pods = new PlayedPods(bed.plane.kube, bed.folder("pods"), NAMESPACE);
}, SLOW_MS);

afterAll(async () => {
  await sql?.end();
  await pods?.stop();
  await Promise.all([bed?.stop(), postgres?.stop()]);
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

function databaseUrl(user: string): string {
  const { port } = new URL(postgres.url);
  return `postgres://${user}@127.0.0.1:${port}/shop`;
}

async function secret(name: string, uri: string): Promise<void> {
  const body = { metadata: { name }, stringData: { uri } };
  await bed.plane.make(`/api/v1/namespaces/${NAMESPACE}/secrets`, body);
}

function apply(name: string, spec: object): Promise<Answer> {
  const kind = { apiVersion: "throughline.dev/v1alpha1", kind: "Outbox" };
  return ask(bed.plane.kube, "POST", OUTBOXES, { ...kind, metadata: { name }, spec });
}

function patch(name: string, body: object): Promise<Answer> {
  return ask(bed.plane.kube, "PATCH", `${OUTBOXES}/${name}`, body, MERGE);
}

async function remove(path: string): Promise<void> {
  expect((await ask(bed.plane.kube, "DELETE", path)).status).toBe(200);
}

async function outbox(name: string): Promise<KubeOutbox | undefined> {
  const { status, body } = await ask(bed.plane.kube, "GET", `${OUTBOXES}/${name}`);
  return status === 404 ? undefined : (body as unknown as KubeOutbox);
}

function readyOf(of: KubeOutbox | undefined): Condition | undefined {
  return of?.status?.conditions?.find(({ type }) => type === "Ready");
}

/** Resolves when Ready says this of what the spec says now. */
async function untilReady(name: string, reason: string): Promise<Condition> {
  let ready: Condition | undefined;
  await until(async () => {
    const found = await outbox(name);
    ready = readyOf(found);
    return ready?.reason === reason && ready.observedGeneration === found?.metadata.generation;
  });
  return ready as Condition;
}

function untilGone(name: string): Promise<void> {
  return until(async () => (await outbox(name)) === undefined);
}

async function untilSequence(wanted: number): Promise<void> {
  await until(async () => {
    const topics = (await outbox("orders"))?.status?.topics ?? [];
    return topics.some(({ name, sequence }) => name === "made" && sequence === wanted);
  });
}

async function deployment(): Promise<V1Deployment> {
  const { body } = await ask(bed.plane.kube, "GET", `${DEPLOYMENTS}/orders-sequencer`);
  return body as unknown as V1Deployment;
}

/** Each once: on a slow machine a sequencer is silent for a while, and what is told then is told again. */
async function told(name: string): Promise<string[]> {
  const path = `/apis/events.k8s.io/v1/namespaces/${NAMESPACE}/events`;
  const { body } = await ask(bed.plane.kube, "GET", path);
  const all = (body["items"] as EventsV1Event[])
    .filter(({ regarding }) => regarding?.kind === "Outbox" && regarding.name === name)
    .map(({ type, reason }) => `${type} ${reason}`);
  return [...new Set(all)].toSorted();
}

function publish(): Promise<unknown> {
  return sql.query("select throughline.publish('made', 'order.made', null, 'x')");
}

async function slots(): Promise<string[]> {
  const { rows } = await sql.query("select slot_name from pg_replication_slots");
  return rows.map(({ slot_name }) => slot_name);
}

test.each([
  ["no spec", undefined, /spec: Required/],
  ["no Secret", { database: {} }, /spec\.database\.secret: Required/],
  ["three pods", { database: { secret: { name: "a" } }, replicas: 3 }, /less than or equal to 2/],
  [
    "a password in the spec",
    { database: { secret: { name: "a" }, password: "hush" } },
    /unknown field "spec.database.password"/,
  ],
  ["a time without a unit", { database: { secret: { name: "a" } }, keepSent: "7" }, /keepSent/],
])("%s is refused at apply", async (_, spec, words) => {
  const kind = { apiVersion: "throughline.dev/v1alpha1", kind: "Outbox" };
  const path = `${OUTBOXES}?fieldValidation=Strict`;
  const body = { ...kind, metadata: { name: "bad" }, ...(spec && { spec }) };
  const { status, body: answer } = await ask(bed.plane.kube, "POST", path, body);
  expect([status >= 400, answer.message]).toEqual([true, expect.stringMatching(words)]);
});

test(
  "kubectl apply of an Outbox runs a sequencer, and its status says how far each Topic is",
  async () => {
    await bed.apply("shop/made", { ordering: "Commit", outbox: "orders" });
    await bed.untilReason("shop/made", "OutboxMissing");
    await bed.untilReady("shop/made");
    expect(await bed.told("shop/made", 1)).toEqual(["Warning OutboxMissing"]);
    expect((await apply("orders", { database: { secret: { name: "shop-db" } } })).status).toBe(201);
    await untilReady("orders", "Running");
    await bed.untilReason("shop/made", "Ready");
    const found = await outbox("orders");
    expect(found?.status).toMatchObject({
      ...{ deployment: "orders-sequencer", slot: SLOT, parked: 0, lagSeconds: 0 },
      ...{ database: `127.0.0.1:${new URL(postgres.url).port}/shop` },
      retainedWal: expect.stringMatching(/^\d+Mi$/),
    });
    const { metadata, spec } = await deployment();
    const { uid } = found?.metadata ?? {};
    expect(metadata?.ownerReferences).toMatchObject([{ kind: "Outbox", name: "orders", uid }]);
    expect(spec?.template.spec?.containers[0]).toMatchObject({
      ...{ image: "throughline:1", command: ["node", "dist/sequencer.mjs"] },
      args: expect.arrayContaining([
        ...["--do=run", "--namespace=shop", "--outbox=orders", `--deployment-id=${ID}`],
        `--kafka=${bed.kafka.brokers.join(",")}`,
      ]),
    });
    const account = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/orders-sequencer`;
    expect((await ask(bed.plane.kube, "GET", account)).body).toMatchObject({
      automountServiceAccountToken: false,
    });
    await until(async () => (await sql.query("select from throughline.topics")).rowCount === 1);
    await sql.query("begin");
    await publish();
    await publish();
    await sql.query("commit");
    await publish();
    await untilSequence(3);
    expect(await slots()).toEqual([SLOT]);
    expect(await told("orders")).toEqual(["Normal Running"]);
  },
  SLOW_MS,
);

test(
  "kubectl answers whether it is well, and explains the fields",
  async () => {
    const rows = (await bed.kubectl("get", "outboxes", "-n", NAMESPACE)).trim().split("\n");
    expect(
      rows.map((row) =>
        row
          .trim()
          .split(/\s{2,}/)
          .slice(0, 6),
      ),
    ).toEqual([
      ["NAME", "READY", "REASON", "LAG", "RETAINED WAL", "PARKED"],
      ["orders", "True", "Running", "0", expect.stringMatching(/^\d+Mi$/), "0"],
    ]);
    const wait = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s"];
    expect(await bed.kubectl(...wait, "outbox/orders")).toContain("condition met");
    expect(await bed.kubectl("explain", "outbox.spec.database.secret")).toContain(
      "postgres://user:password@host:port/database",
    );
  },
  SLOW_MS,
);

test(
  "an edit changes the Deployment, drift is mended, and the database stays the one that has the slot",
  async () => {
    await patch("orders", { spec: { replicas: 1, keepSent: "2d" } });
    await untilReady("orders", "Running");
    await until(async () => (await deployment()).spec?.replicas === 1);
    const { template } = (await deployment()).spec ?? {};
    expect(template?.spec?.containers[0]?.args).toContain("--keep-sent-hours=48");
    const path = `${DEPLOYMENTS}/orders-sequencer`;
    await ask(bed.plane.kube, "PATCH", path, { spec: { replicas: 0 } }, MERGE);
    await until(async () => (await deployment()).spec?.replicas === 1);
    await remove(path);
    await until(async () => (await deployment()).spec?.replicas === 1);
    await publish();
    await untilSequence(4);
    const other = { spec: { database: { secret: { name: "another" } } } };
    const { status, body } = await patch("orders", other);
    expect([status, body.message]).toEqual([422, expect.stringContaining("is immutable")]);
  },
  SLOW_MS,
);

test(
  "when nothing happens nothing is written",
  async () => {
    await untilReady("orders", "Running");
    await until(async () => pods.children.length === 1);
    const versions = async () => [
      (await outbox("orders"))?.metadata.resourceVersion,
      (await deployment()).metadata?.resourceVersion,
    ];
    // The first look after the last change has been.
    let [before, sameSinceMs] = [await versions(), performance.now()];
    await until(async () => {
      const now = await versions();
      if (String(now) !== String(before)) [before, sameSinceMs] = [now, performance.now()];
      return performance.now() - sameSinceMs > 25_000;
    }, 500);
  },
  SLOW_MS,
);

test(
  "deleted, it takes its slot with it, and one of the same name goes on with the numbers",
  async () => {
    await remove(`${OUTBOXES}/orders`);
    await untilGone("orders");
    expect(await slots()).toEqual([]);
    expect((await sql.query("select from throughline.slot")).rowCount).toBe(0);
    await publish();
    // Kubernetes' collector of garbage is not here.
    expect((await apply("orders", { database: { secret: { name: "shop-db" } } })).status).toBe(201);
    await untilReady("orders", "DeploymentNotOurs");
    await remove(`${DEPLOYMENTS}/orders-sequencer`);
    await untilReady("orders", "Running");
    await untilSequence(5);
  },
  SLOW_MS,
);

test(
  "a database that is not there is said with the next step; deleted, it waits until somebody gives the slot up",
  async () => {
    const [port] = await freePorts(1);
    await secret("gone-db", `postgres://sequencer@127.0.0.1:${port}/gone`);
    expect((await apply("gone", { database: { secret: { name: "gone-db" } } })).status).toBe(201);
    const ready = await untilReady("gone", "DatabaseUnavailable");
    expect(ready).toMatchObject({
      status: "False",
      message: expect.stringMatching(
        /^PostgreSQL at 127\.0\.0\.1:\d+, database "gone": .*ECONNREFUSED.*"uri" of Secret "gone-db"/,
      ),
    });
    await remove(`${OUTBOXES}/gone`);
    await until(async () =>
      /DatabaseUnavailable/.test(readyOf(await outbox("gone"))?.message ?? ""),
    );
    expect(await untilReady("gone", "DeletionWaits")).toMatchObject({
      message: expect.stringContaining("throughline.dev/abandon-slot=true"),
    });
    await until(async () => (await told("gone")).length >= 2);
    expect(await told("gone")).toEqual(["Warning DatabaseUnavailable", "Warning DeletionWaits"]);
    await patch("gone", {
      metadata: { annotations: { "throughline.dev/abandon-slot": "true" } },
    });
    await untilGone("gone");
  },
  SLOW_MS,
);

test(
  "what a person must mend has the sequencer's own reason, and it goes on when it is mended",
  async () => {
    await sql.query("alter publication throughline set (publish = 'insert, update')");
    for (const child of pods.children) child.kill("SIGKILL");
    const ready = await untilReady("orders", "PublicationChanged");
    expect(ready.message).toContain("alter publication");
    expect((await outbox("orders"))?.status?.topics).toEqual([{ name: "made", sequence: 5 }]);
    await sql.query("alter publication throughline set (publish = 'insert')");
    await untilReady("orders", "Running");
    await publish();
    await untilSequence(6);
  },
  SLOW_MS,
);
