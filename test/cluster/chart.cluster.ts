/**
 * The chart as it renders: linted, equal to what is written down for some sets of values, refused with the name of
 * what is wrong, understood by the programs and by a real API server.
 *
 * `RENEW=1 npm run test:cluster -- chart.cluster` writes test/cluster/chart/*.expected.yaml anew.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CoreV1Api, type V1Deployment } from "@kubernetes/client-node";
import { parseAllDocuments, stringify } from "yaml";
import { parseConfig as parseOperator } from "../../operator/config.ts";
import { parseConfig as parseInjector } from "../../operator/inject/config.ts";
import { parseConfig as parseServer } from "../../sidecar/config.ts";
import { loopbackCertificate } from "../certificate.ts";
import { until } from "../story/waits.ts";
import { ask, dryRun, type KubeObject } from "./api-request.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { CHART, type Helm, helmIn } from "./helm.ts";

const SLOW_MS = 180_000;
const SETS = join(import.meta.dirname, "chart");
const NAMES = readdirSync(SETS)
  .filter((file) => file.endsWith(".values.yaml"))
  .map((file) => file.replace(".values.yaml", ""));
const IN = ["--namespace", "throughline"];

const RESTRICTED = Object.fromEntries(
  ["enforce", "warn"].map((mode) => [`pod-security.kubernetes.io/${mode}`, "restricted"]),
);
type Parse = typeof parseServer | typeof parseOperator | typeof parseInjector;
/** By the command that a container has. */
const PROGRAMS: Record<string, Parse> = {
  "node dist/sidecar.mjs": parseServer,
  "node dist/operator.mjs": parseOperator,
  "node dist/injector.mjs": parseInjector,
};
const text = { type: "string" };
/** As much of the Prometheus operator's as the chart uses. */
const POD_MONITORS = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "podmonitors.monitoring.coreos.com" },
  spec: {
    ...{ group: "monitoring.coreos.com", scope: "Namespaced" },
    names: { kind: "PodMonitor", plural: "podmonitors" },
    versions: [
      {
        ...{ name: "v1", served: true, storage: true },
        schema: { openAPIV3Schema: schemaOf({ spec: podMonitorSpec() }) },
      },
    ],
  },
};

function schemaOf(properties: object): object {
  return { type: "object", properties };
}

function podMonitorSpec(): object {
  const endpoint = schemaOf({ port: text, path: text, interval: text });
  return schemaOf({
    namespaceSelector: schemaOf({ any: { type: "boolean" } }),
    selector: schemaOf({ matchLabels: { type: "object", additionalProperties: text } }),
    podMetricsEndpoints: { type: "array", items: endpoint },
  });
}

let folder: string;
let helm: Helm;
let plane: ControlPlane;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-chart-"));
  helm = await helmIn(folder);
  plane = await startControlPlane(console.log);
  const core = plane.kube.makeApiClient(CoreV1Api);
  for (const name of ["throughline", "shop", "bank"])
    await core.createNamespace({ body: { metadata: { name, labels: RESTRICTED } } });
  await plane.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", POD_MONITORS);
  // It is served a moment later.
  const served = "/apis/monitoring.coreos.com/v1/podmonitors";
  await until(async () => (await ask(plane.kube, "GET", served)).status === 200);
}, SLOW_MS);

afterAll(async () => {
  await plane?.stop();
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

const valuesOf = (name: string): string => join(SETS, `${name}.values.yaml`);

async function rendered(name: string): Promise<KubeObject[]> {
  const text = await helm.done("template", "release", CHART, ...IN, "--values", valuesOf(name));
  return parseAllDocuments(text).map((document) => document.toJS() as KubeObject);
}

test("it has nothing that lint finds, bare or with any of these values", async () => {
  for (const values of [[], ...NAMES.map((name) => ["--values", valuesOf(name)])])
    await helm.done("lint", "--strict", CHART, ...values);
});

test.each(NAMES)("%s: it renders what is written down; RENEW=1 writes it anew", async (name) => {
  const objects = (await rendered(name))
    // Held equal to their sources by test/chart.test.ts.
    .filter(({ kind }) => kind !== "CustomResourceDefinition")
    .map((object) => (object.kind === "ConfigMap" ? { ...object, data: {} } : object))
    .toSorted((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));
  const text = objects.map((object) => stringify(object, { lineWidth: 0 })).join("---\n");
  const file = join(SETS, `${name}.expected.yaml`);
  if (process.env["RENEW"]) writeFileSync(file, text);
  expect(text).toBe(existsSync(file) ? readFileSync(file, "utf8") : "nothing is written down");
});

function placeOf({ kind, metadata }: KubeObject): string {
  return `${kind} ${metadata.namespace ?? ""} ${metadata.name}`;
}

test.each(NAMES)("%s: the programs take the flags that they are given", async (name) => {
  const pair = await loopbackCertificate();
  const readFile = (path: string): Buffer =>
    Buffer.from(/key$/.test(path) ? pair.key : /\/pw$|password$/.test(path) ? "secret" : pair.cert);
  const deployments = (await rendered(name)).filter(({ kind }) => kind === "Deployment");
  for (const { spec } of deployments as unknown as V1Deployment[]) {
    const [container] = spec?.template.spec?.containers ?? [];
    const { command = ["node", "dist/sidecar.mjs"], args = [] } = container ?? {};
    const parse = PROGRAMS[command.join(" ")];
    if (parse === undefined) continue;
    const outside = { args, environment: {}, hostname: () => "pod", readFile };
    expect(parse(outside)).toMatchObject({ kind: "config" });
  }
});

test.each(NAMES)(
  "%s: the API server takes every object, without a warning, where security is restricted",
  async (name) => {
    for (const object of await rendered(name)) {
      const { status, body, warnings } = await dryRun(plane.kube, object);
      expect([placeOf(object), status < 300 || body.message, warnings]).toEqual([
        placeOf(object),
        true,
        [],
      ]);
    }
  },
  SLOW_MS,
);

test("a pod that may more is warned about there: the test before can fail", async () => {
  const [deployment] = (await rendered("gateway")).filter(({ kind }) => kind === "Deployment");
  const text = JSON.stringify(deployment).replace('"runAsNonRoot":true', '"runAsNonRoot":false');
  const { warnings } = await dryRun(plane.kube, JSON.parse(text) as KubeObject);
  expect(warnings.join()).toMatch(/would violate PodSecurity.*runAsNonRoot/);
});

test.each([
  ["image.repository=", "image.repository: is required"],
  ["image.repositry=x", "'/image': additional properties 'repositry' not allowed"],
  ["image.digest=sha256:12", "/image/digest"],
  ["image.pullPolicy=Sometimes", "/image/pullPolicy"],
  ["deploymentId=", "deploymentId: is required where no cluster is asked"],
  ["deploymentId=Prod", "/deploymentId"],
  ["nonsense=1", "additional properties 'nonsense' not allowed"],
  ["kafka.brokers=null", "kafka.brokers: is required"],
  ["kafka.brokers[0]=kafka.example", "/kafka/brokers/0"],
  ["kafka.sasl.mechanism=GSSAPI", "/kafka/sasl/mechanism"],
  ["kafka.sasl.user=a", "kafka.sasl.passwordSecret.name: goes with the user"],
  ["gateway.kafka.sasl.passwordSecret.name=a", "set it here or in gateway.kafka"],
  ["operator.kafka.sasl.userSecret.name=a", "'/operator/kafka/sasl'"],
  ["sessionStore.url=http://redis:1", "sessionStore.url: must be redis://host:port"],
  ["sessionStore.url=redis://u:p@redis:1", "sessionStore.url: holds a user or a password"],
  ["sessionStore.user=a", "sessionStore.url: is required"],
  ["sessionStore.caSecret.name=a", "sessionStore.caSecret.name: goes with rediss://"],
  ["operator.replicas=two", "/operator/replicas"],
  ["operator.replicas=-1", "/operator/replicas"],
  ["operator.namespaces={Shop}", "/operator/namespaces/0"],
  ["operator.allowedKafkaTopics={a b}", "/operator/allowedKafkaTopics/0"],
  ["operator.logLevel=loud", "/operator/logLevel"],
  ["operator.env[0].value=x", "/operator/env/0"],
  ["gateway.env[0].name=A,gateway.env[0].valueFrom.secretKeyRef.name=b", "secretKeyRef"],
  ["webhook.failurePolicy=Maybe", "/webhook/failurePolicy"],
  ["webhook.timeoutSeconds=31", "/webhook/timeoutSeconds"],
  ["gateway.namespace=", "gateway.namespace: is required"],
  ["gateway.port=70000", "/gateway/port"],
  ["webhook.port=443", "/webhook/port"],
  ["webhook.sidecar.byteBudgets.tail=32M", "/webhook/sidecar/byteBudgets/tail"],
  ["webhook.sidecar.byteBudgets.heap=32Mi", "'heap' not allowed"],
  ["gateway.drainSeconds=-1", "/gateway/drainSeconds"],
  ["gateway.service.type=ExternalName", "/gateway/service/type"],
  ["networkPolicy.clients=all", "/networkPolicy/clients"],
  ["podMonitor.interval=often", "/podMonitor/interval"],
  ["dashboard.labels.a.b=1", "/dashboard/labels/a"],
])("%s is refused, and told by its name", async (value, words) => {
  const all = ["image.repository=r,deploymentId=d,kafka.brokers[0]=k:1,gateway.enabled=true"];
  const given = [...all, "gateway.namespace=shop", value].flatMap((one) => ["--set", one]);
  const { code, stderr } = await helm.run("template", "release", CHART, ...given);
  expect(stderr).toContain(words);
  expect(code).not.toBe(0);
  // A password that is in the wrong place is not repeated.
  expect(stderr).not.toContain("u:p@");
});

test("what is missing is told all at once", async () => {
  const { stderr } = await helm.run("template", "release", CHART, "--set", "gateway.enabled=true");
  for (const name of ["image.repository", "deploymentId", "kafka.brokers", "gateway.namespace"])
    expect(stderr).toContain(`${name}: is required`);
});

test("Kubernetes before 1.29 is refused", async () => {
  const render = (version: string) =>
    helm.run("template", "r", CHART, "--values", valuesOf("least"), "--kube-version", version);
  expect(await render("1.28.9")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("1.29"),
  });
  expect(await render("v1.29.0-eks-1")).toMatchObject({ code: 0 });
});
