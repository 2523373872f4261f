/** Injection on a real API server: what is asked, when, what stands in the way, and certificates that change. */
import { X509Certificate } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import {
  AdmissionregistrationV1Api,
  CoreV1Api,
  PatchStrategy,
  RbacAuthorizationV1Api,
  setHeaderOptions,
  type V1Pod,
} from "@kubernetes/client-node";
import { failureOf } from "../../operator/kube/api-error.ts";
import { pod, sidecarOf } from "../operator/inject/pods.ts";
import { type ReadmeDocument, readmeDocuments } from "../operator/inject/readme.ts";
import { Pace, until } from "../story/waits.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { type Balancer, type Injector, openBalancer, startInjector } from "./injectors.ts";
import { openMesh } from "./mesh-webhook.ts";

const SLOW_MS = 180_000;
const NAME = "throughline-injector";
const SECRET = { namespace: "throughline", name: "throughline-injector-tls" };
const JSON_PATCH = setHeaderOptions("Content-Type", PatchStrategy.JsonPatch);
const CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const BRIEF = ["--certificate-validity", "20s"];
const ADDRESS = { name: "THROUGHLINE_ADDRESS", value: "127.0.0.1:7070" };

let plane: ControlPlane;
let core: CoreV1Api;
let registrations: AdmissionregistrationV1Api;
let kubeconfig: string;
let service: Balancer;
let webhook: ReadmeDocument;
let secret: ReadmeDocument;
const injectors = new Set<Injector>();

beforeAll(async () => {
  plane = await startControlPlane(console.log);
  core = plane.kube.makeApiClient(CoreV1Api);
  registrations = plane.kube.makeApiClient(AdmissionregistrationV1Api);
  const labels = { "throughline.dev/injection": "enabled" };
  const restricted = { ...labels, "pod-security.kubernetes.io/enforce": "restricted" };
  for (const metadata of [
    ...[{ name: "shop", labels }, { name: "strict", labels: restricted }, { name: "quiet" }],
    { name: "throughline", labels },
  ])
    await core.createNamespace({ body: { metadata } });
  service = await openBalancer();
  const documents = readmeDocuments("kind: MutatingWebhookConfiguration");
  [webhook, secret] = documents as [ReadmeDocument, ReadmeDocument];
  kubeconfig = await accountWith(documents.slice(2));
}, SLOW_MS);

beforeEach(async () => {
  const [hook] = webhook["webhooks"] as [object];
  const clientConfig = { url: `https://127.0.0.1:${service.port}/inject` };
  await plane.make(CONFIGURATIONS, {
    ...webhook,
    webhooks: [{ ...hook, clientConfig }],
  });
  await makeSecret();
});

afterEach(async () => {
  for (const one of injectors) {
    service.remove(one.port);
    await one.kill();
  }
  injectors.clear();
  await registrations.deleteCollectionMutatingWebhookConfiguration();
  await core.deleteNamespacedSecret(SECRET).catch(() => {});
});

afterAll(async () => {
  await service?.close();
  await plane?.stop();
}, SLOW_MS);

/** A service account with the README's rights and no others. @returns its kubeconfig. */
async function accountWith(rights: readonly ReadmeDocument[]): Promise<string> {
  const namespace = SECRET.namespace;
  const rbac = plane.kube.makeApiClient(RbacAuthorizationV1Api);
  const subjects = [{ kind: "ServiceAccount", name: NAME, namespace }];
  const bound = (kind: string) => ({
    ...{ metadata: { name: NAME }, subjects },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name: NAME },
  });
  const group = "/apis/rbac.authorization.k8s.io/v1";
  for (const one of rights)
    await plane.make(
      one.kind === "Role" ? `${group}/namespaces/${namespace}/roles` : `${group}/clusterroles`,
      one,
    );
  await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: NAME } } });
  await rbac.createNamespacedRoleBinding({ namespace, body: bound("Role") });
  await rbac.createClusterRoleBinding({ body: bound("ClusterRole") });
  const { status } = await core.createNamespacedServiceAccountToken({
    ...{ namespace, name: NAME, body: { spec: { audiences: [], expirationSeconds: 3600 } } },
  });
  const users = [{ name: "admin", user: { token: status?.token } }];
  return JSON.stringify({ ...JSON.parse(plane.kubeconfig), users });
}

/** Empty, as the README has it. */
function makeSecret(): Promise<void> {
  return plane.make("/api/v1/namespaces/throughline/secrets", secret);
}

/** Ready, and asked from here on. */
async function inject(...flags: string[]): Promise<Injector> {
  const one = await startInjector(kubeconfig, flags);
  injectors.add(one);
  await one.ready();
  service.add(one.port);
  return one;
}

let made = 0;

/** @throws with the server's own sentence. */
async function create(namespace: string, one: V1Pod, dryRun?: "All"): Promise<V1Pod> {
  const body = { ...one, metadata: { ...one.metadata, name: `app-${made++}` } };
  try {
    return await core.createNamespacedPod({ namespace, body, ...(dryRun && { dryRun }) });
  } catch (error) {
    throw new Error(failureOf(error).reason);
  }
}

function containersOf(one: V1Pod): string[] {
  const { initContainers = [], containers = [] } = one.spec ?? {};
  return [...initContainers, ...containers].map(({ name }) => name);
}

const quiet = (): V1Pod => pod({}, {});

async function bundle(): Promise<string> {
  const found = await registrations.readMutatingWebhookConfiguration({ name: NAME });
  const encoded = found.webhooks?.[0]?.clientConfig.caBundle ?? "";
  return Buffer.from(encoded, "base64").toString();
}

async function kept(): Promise<string | undefined> {
  const found = await core.readNamespacedSecret(SECRET).catch(() => undefined);
  const pem = Buffer.from(found?.data?.["tls.crt"] ?? "", "base64").toString();
  return pem === "" ? undefined : new X509Certificate(pem).fingerprint256;
}

/** Makes pods that ask, all the time, from some clients at once. @returns how many, once it is stopped. */
function load(): { stop(): Promise<{ injected: number; refused: string[] }> } {
  const pace = new Pace(50, 2);
  const seen = { injected: 0, refused: [] as string[] };
  let isOver = false;
  const client = async (): Promise<void> => {
    while (!isOver) {
      await create("shop", pod()).then(
        (one) => {
          if (containersOf(one)[0] === "throughline") seen.injected++;
          else seen.refused.push("made without the sidecar");
        },
        (error: Error) => seen.refused.push(error.message),
      );
      await pace.turn();
    }
  };
  const clients = [client(), client(), client(), client()];
  return {
    stop: async () => {
      isOver = true;
      pace.stop();
      await Promise.all(clients);
      return seen;
    },
  };
}

test(
  "a pod that asks, in a namespace that allows it, gets the sidecar; no other pod does",
  async () => {
    await inject();
    const found = await create("shop", pod({ initContainers: [{ name: "migrate", image: "m" }] }));
    expect(containersOf(found)).toEqual(["throughline", "migrate", "app"]);
    expect(sidecarOf(found)).toMatchObject({ restartPolicy: "Always", image: "throughline:1" });
    expect(sidecarOf(found).args).toContain("--namespace=shop");
    expect(found.metadata?.labels?.["throughline.dev/injected"]).toBe("true");
    expect(found.spec?.containers[0]?.env).toEqual([ADDRESS]);
    const others = [
      ...[create("shop", quiet()), create("quiet", pod()), create("throughline", pod())],
      create("shop", pod({}, { inject: "false" })),
    ];
    for (const other of await Promise.all(others)) expect(containersOf(other)).toEqual(["app"]);
  },
  SLOW_MS,
);

test(
  "the pod of a job, and one with Secrets, are taken by the API server as they are",
  async () => {
    await inject(
      ...["--kafka-tls-ca-secret", "kafka-ca/ca.crt", "--kafka-sasl-user-secret", "kafka/user"],
      ...["--kafka-sasl-password-secret", "kafka/password"],
    );
    const found = await create("shop", pod({ restartPolicy: "Never" }));
    expect(containersOf(found)).toEqual(["throughline", "app"]);
    expect(found.spec?.restartPolicy).toBe("Never");
    expect(found.spec?.volumes?.map(({ name }) => name)).toEqual(["throughline-secrets"]);
    expect(sidecarOf(found).env?.[0]?.valueFrom?.secretKeyRef?.name).toBe("kafka");
  },
  SLOW_MS,
);

test(
  "a bad annotation refuses the pod with the reason, whoever makes it; so does a pod that cannot work",
  async () => {
    await inject();
    const refused = create("shop", pod({}, { inject: "true", prot: "7070" }));
    await expect(refused).rejects.toThrow(
      /inject.throughline.dev.* denied the request: throughline.dev\/prot is not an annotation of the sidecar/,
    );
    await expect(create("shop", pod({ hostNetwork: true }))).rejects.toThrow(
      /spec.hostNetwork is true: .* gateway/,
    );
    const known = await core.listNamespacedPod({ namespace: "shop" });
    expect(known.items.filter(({ spec }) => spec?.hostNetwork)).toEqual([]);
  },
  SLOW_MS,
);

test(
  "a dry run shows the sidecar and makes nothing",
  async () => {
    await inject();
    const shown = await create("shop", pod(), "All");
    expect(containersOf(shown)).toEqual(["throughline", "app"]);
    const name = shown.metadata?.name as string;
    await expect(core.readNamespacedPod({ namespace: "shop", name })).rejects.toThrow(/not found/);
  },
  SLOW_MS,
);

test(
  "asked again after another webhook: one sidecar, and the other's container is told the address (J2)",
  async () => {
    const one = await inject();
    const mesh = await openMesh(registrations, "shop");
    try {
      // The API server follows its configuration by watching it.
      await until(async () => containersOf(await create("shop", quiet(), "All")).includes("mesh"));
      const found = await create("shop", pod());
      expect(containersOf(found)).toEqual(["throughline", "app", "mesh"]);
      expect(found.spec?.containers.map(({ env }) => env)).toEqual([[ADDRESS], [ADDRESS]]);
      // Twice for this pod.
      expect(await one.figures()).toMatchObject({ injected: 2, untouched: 0 });
    } finally {
      await mesh.close();
    }
  },
  SLOW_MS,
);

test(
  "the injected pod passes where PodSecurity enforces `restricted`",
  async () => {
    await inject();
    const securityContext = {
      ...{ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] }, runAsNonRoot: true },
      seccompProfile: { type: "RuntimeDefault" },
    };
    const app = { name: "app", image: "app:1" };
    const found = await create("strict", pod({ containers: [{ ...app, securityContext }] }));
    expect(containersOf(found)).toEqual(["throughline", "app"]);
    await expect(create("strict", pod({ containers: [app] }))).rejects.toThrow(
      /violates PodSecurity "restricted:latest": .*container "app"/,
    );
  },
  SLOW_MS,
);

test(
  "with the injector away pods that did not ask are made; one that asks is not made without its sidecar",
  async () => {
    const one = await inject();
    await one.kill();
    for (const other of [create("shop", quiet()), create("quiet", pod())])
      expect(containersOf(await other)).toEqual(["app"]);
    await expect(create("shop", pod())).rejects.toThrow(/failed calling webhook/);
    service.remove(one.port);
    await inject();
    expect(containersOf(await create("shop", pod()))).toEqual(["throughline", "app"]);
  },
  SLOW_MS,
);

test(
  "two replicas that begin at once share one certificate, and one that ends loses no pod",
  async () => {
    const [a, b] = await Promise.all([inject(), inject()]);
    const shown = await Promise.all([a.shown(await bundle()), b.shown(await bundle())]);
    expect(shown).toEqual([await kept(), await kept()]);
    const pods = load();
    for (const one of [a, b]) await until(async () => (await one.figures()).injected > 20);
    service.remove(a.port);
    expect(await a.end()).toBe(0);
    const { injected, refused } = await pods.stop();
    expect(refused).toEqual([]);
    expect(injected).toBeGreaterThan(40);
  },
  SLOW_MS,
);

test(
  "certificates that live for seconds change under load, on both replicas: no pod is refused (K1 to K3)",
  async () => {
    const replicas = await Promise.all([BRIEF, BRIEF].map((flags) => inject(...flags)));
    const seen = new Set<string>();
    const pods = load();
    await until(async () => {
      const trusted = await bundle();
      for (const one of replicas) seen.add(await one.shown(trusted));
      return seen.size >= 3;
    }, 200);
    const { injected, refused } = await pods.stop();
    expect(refused).toEqual([]);
    expect(injected).toBeGreaterThan(100);
    // Authorities that have expired are not kept.
    expect((await bundle()).match(/BEGIN/g)?.length).toBeLessThanOrEqual(3);
  },
  SLOW_MS,
);

test(
  "the Secret deleted under load: pods go on, it is said, and a Secret made again changes what is served",
  async () => {
    const replicas = await Promise.all([inject(), inject()]);
    const before = await kept();
    const pods = load();
    await core.deleteNamespacedSecret(SECRET);
    for (const one of replicas)
      await one.says(/it is gone and cannot be made .*forbidden.*make it again, empty/);
    await makeSecret();
    await until(async () => ![undefined, before].includes(await kept()));
    const after = await kept();
    await until(async () => {
      const trusted = await bundle();
      const shown = await Promise.all(replicas.map((one) => one.shown(trusted)));
      return shown.every((one) => one === after);
    }, 200);
    expect((await pods.stop()).refused).toEqual([]);
  },
  SLOW_MS,
);

test(
  "a bundle that was removed is put back",
  async () => {
    await inject();
    const body = [{ op: "remove", path: "/webhooks/0/clientConfig/caBundle" }];
    await registrations.patchMutatingWebhookConfiguration({ name: NAME, body }, JSON_PATCH);
    await until(async () => (await bundle()) !== "");
    await until(() => create("shop", pod()).then(Boolean, () => false));
  },
  SLOW_MS,
);

test(
  "a Secret with another's words is filled and keeps its labels; a missing configuration is said and waited for",
  async () => {
    await core.deleteNamespacedSecret(SECRET);
    await core.createNamespacedSecret({
      namespace: SECRET.namespace,
      body: {
        ...{ metadata: { name: SECRET.name, labels: { app: "a" } }, type: "kubernetes.io/tls" },
        stringData: { "tls.crt": "words", "tls.key": "words" },
      },
    });
    await registrations.deleteMutatingWebhookConfiguration({ name: NAME });
    const one = await startInjector(kubeconfig, []);
    injectors.add(one);
    await one.says(/in place of the one in the Secret: it cannot be read/);
    expect((await core.readNamespacedSecret(SECRET)).metadata?.labels).toEqual({ app: "a" });
    await one.says(/The webhook configuration cannot be read, .*"throughline-injector" not found/);
    await plane.make(CONFIGURATIONS, webhook);
    await one.ready();
    const found = await registrations.readMutatingWebhookConfiguration({ name: NAME });
    // As the README has it, and nothing else of it has changed.
    expect(found.webhooks?.[0]).toMatchObject({
      ...{ name: "inject.throughline.dev", failurePolicy: "Fail", reinvocationPolicy: "IfNeeded" },
      clientConfig: { service: { namespace: "throughline", name: NAME, path: "/inject" } },
    });
  },
  SLOW_MS,
);
