/**
 * The chart's life on a real API server, by helm itself: installed, upgraded, rolled back, removed, installed again.
 * The tests are steps of one release, in this order. No pods run here.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CoreV1Api } from "@kubernetes/client-node";
import { until } from "../story/waits.ts";
import { ask } from "./api-request.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { CHART, type Helm, helmIn } from "./helm.ts";

const SLOW_MS = 180_000;
const IN = ["--namespace", "throughline"];
const VALUES = ["image.repository=registry.example/throughline", "kafka.brokers={kafka:9092}"];
const CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/topics.throughline.dev";
const TOPICS = "/apis/throughline.dev/v1alpha1/namespaces/shop/topics";
const WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const WEBHOOK = `${WEBHOOKS}/throughline-throughline-webhook`;
const SECRET = "/api/v1/namespaces/throughline/secrets/throughline-webhook";
const OPERATOR = "/apis/apps/v1/namespaces/throughline/deployments/throughline-operator";
const AUTHORITY = Buffer.from("an authority").toString("base64");
const KEY = Buffer.from("a key").toString("base64");

let folder: string;
let plane: ControlPlane;
let helm: Helm;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-release-"));
  plane = await startControlPlane(console.log);
  helm = await helmIn(folder, plane.kubeconfig);
  const core = plane.kube.makeApiClient(CoreV1Api);
  const warn = { "pod-security.kubernetes.io/warn": "restricted" };
  const asking = { "throughline.dev/injection": "enabled" };
  for (const [name, labels] of Object.entries({
    throughline: { ...warn, ...asking },
    shop: asking,
  }))
    await core.createNamespace({ body: { metadata: { name, labels } } });
  newerChart();
}, SLOW_MS);

afterAll(async () => {
  await plane?.stop();
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

const chart = (): string => join(folder, "newer");

/** The next version: another image, and one more field in the definition. */
function newerChart(): void {
  cpSync(CHART, chart(), { recursive: true });
  const change = (path: string, from: RegExp, to: string): void => {
    const text = readFileSync(join(chart(), path), "utf8");
    const changed = text.replace(from, to);
    if (changed === text) throw new Error(`${path} has no ${from}`);
    writeFileSync(join(chart(), path), changed);
  };
  change("Chart.yaml", /^((?:appV|v)ersion): .*$/gm, "$1: 99.0.0");
  const field = "colour: {type: string, description: New.}";
  change("files/crds/topics.throughline.dev.yaml", /^( +)kafkaTopic:$/m, `$1${field}\n$&`);
}

async function helmed(step: string, ...args: readonly string[]): Promise<string> {
  const set = step === "rollback" ? [] : VALUES.flatMap((value) => ["--set", value]);
  const { code, stdout, stderr } = await helm.run(step, "throughline", ...args, ...IN, ...set);
  // Warnings of the API server come here too.
  expect([stderr, code]).toEqual(["", 0]);
  return stdout;
}

async function get(path: string): Promise<Record<string, unknown>> {
  const { status, body } = await ask(plane.kube, "GET", path);
  if (status !== 200) throw new Error(`${path}: ${body.message}`);
  return body;
}

function merge(path: string, patch: object): Promise<unknown> {
  return ask(plane.kube, "PATCH", path, patch, "application/merge-patch+json");
}

async function operatorSays(): Promise<string> {
  return JSON.stringify((await get(OPERATOR))["spec"]);
}

async function isStillTrusted(): Promise<void> {
  expect(JSON.stringify(await get(WEBHOOK))).toContain(`"caBundle":"${AUTHORITY}"`);
  expect(await get(SECRET)).toMatchObject({ data: { "tls.key": KEY } });
}

/** Of the Topic that was made first; a definition that went would have taken it along. */
let uid: unknown;

async function topicIsStillThere(): Promise<void> {
  expect(await get(`${TOPICS}/orders`)).toMatchObject({ metadata: { uid } });
}

test(
  "it is installed without a warning, and its deployment id is the cluster's",
  async () => {
    const notes = await helmed("install", CHART);
    const { metadata } = (await get("/api/v1/namespaces/kube-system")) as {
      metadata: { uid: string };
    };
    expect(notes).toContain(`deployment id ${metadata.uid}`);
    expect(await operatorSays()).toContain(`--deployment-id=${metadata.uid}`);
    expect(JSON.stringify(await get(CRD))).not.toContain("colour");
    const topic = {
      ...{ apiVersion: "throughline.dev/v1alpha1", kind: "Topic" },
      metadata: { name: "orders" },
    };
    // A new definition is served a moment later.
    await until(async () => (await ask(plane.kube, "GET", TOPICS)).status === 200);
    const made = await ask(plane.kube, "POST", TOPICS, topic);
    expect(made.status).toBe(201);
    uid = (made.body["metadata"] as { uid: string }).uid;
  },
  SLOW_MS,
);

test(
  "what is wrong in an upgrade changes nothing; a second release leaves the definitions to the first",
  async () => {
    const bad = await helm.run("upgrade", "throughline", CHART, ...IN, "--set", "nonsense=1");
    expect(bad).toMatchObject({ code: 1, stderr: expect.stringContaining("nonsense") });
    const values = VALUES.flatMap((value) => ["--set", value]);
    const another = [...values, "--set", "deploymentId=another"];
    const moved = await helm.run("upgrade", "throughline", CHART, ...IN, ...another);
    expect(moved).toMatchObject({ code: 1, stderr: expect.stringContaining("this release has") });
    expect(await helm.done("list", ...IN, "--short", "--deployed")).toBe("throughline\n");
    const other = ["install", "other", CHART, ...IN, ...values];
    const refused = await helm.run(...other);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("ownership") });
    const apart = [...other, "--set", "crds.install=false", "--dry-run=server"];
    // With a gateway NOTES make the Topic where it serves it.
    const served = ["--set", "gateway.enabled=true", "--set", "gateway.namespace=shop"];
    expect(await helm.done(...apart, ...served)).toContain("{name: orders, namespace: shop}");
  },
  SLOW_MS,
);

test.each([
  ["a pod that does not ask is made where pods may ask", "shop", undefined, ""],
  ["a pod that asks is made where pods may not", "default", "true", ""],
  ["a pod that asks is made beside the webhook itself", "throughline", "true", ""],
  ["a pod that asks is refused where pods may", "shop", "true", "failed calling webhook"],
])("while no replica of the webhook answers, %s", async (_, namespace, inject, words) => {
  const annotations = inject ? { "throughline.dev/inject": inject } : { "example.com/other": "1" };
  const pod = {
    ...{ apiVersion: "v1", kind: "Pod", metadata: { name: "app", annotations } },
    spec: { containers: [{ name: "app", image: "app" }] },
  };
  const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
  const { status, body } = await ask(plane.kube, "POST", path, pod);
  expect(body.message ?? "").toContain(words);
  expect(status).toBe(words ? 500 : 201);
});

test(
  "an upgrade brings the newer definition and program, and leaves certificate and Topics alone",
  async () => {
    await merge(SECRET, { data: { "tls.key": KEY } });
    const patch = [{ op: "add", path: "/webhooks/0/clientConfig/caBundle", value: AUTHORITY }];
    await ask(plane.kube, "PATCH", WEBHOOK, patch, "application/json-patch+json");
    await isStillTrusted();
    await helmed("upgrade", chart());
    expect(JSON.stringify(await get(CRD))).toContain('"colour"');
    expect(await operatorSays()).toContain("registry.example/throughline:99.0.0");
    await isStillTrusted();
    await topicIsStillThere();
  },
  SLOW_MS,
);

test(
  "a rollback brings both back, and leaves the same alone",
  async () => {
    await helmed("rollback");
    expect(JSON.stringify(await get(CRD))).not.toContain("colour");
    expect(await operatorSays()).not.toContain("99.0.0");
    await isStillTrusted();
    await topicIsStillThere();
  },
  SLOW_MS,
);

test(
  "an uninstall keeps definitions and Topics, and nothing else",
  async () => {
    await helm.done("uninstall", "throughline", ...IN);
    await topicIsStillThere();
    for (const path of [
      ...["deployments", "replicasets"].map((kind) => `/apis/apps/v1/${kind}`),
      ...["services", "secrets", "serviceaccounts", "configmaps"].map(
        (kind) => `/api/v1/namespaces/throughline/${kind}`,
      ),
      ...["roles", "rolebindings", "clusterroles", "clusterrolebindings"].map(
        (kind) => `/apis/rbac.authorization.k8s.io/v1/${kind}`,
      ),
      "/apis/policy/v1/poddisruptionbudgets",
      WEBHOOKS,
    ]) {
      expect([path, JSON.stringify(await get(path))]).toEqual([
        path,
        expect.not.stringContaining('"name":"throughline-'),
      ]);
    }
    expect(await get(CRD)).toMatchObject({
      metadata: { annotations: { "helm.sh/resource-policy": "keep" } },
    });
  },
  SLOW_MS,
);

test(
  "installed again it goes on with the Topics that are there",
  async () => {
    await helmed("install", chart());
    expect(JSON.stringify(await get(CRD))).toContain('"colour"');
    await topicIsStillThere();
  },
  SLOW_MS,
);
