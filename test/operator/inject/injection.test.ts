/** What becomes of a pod that is made: the sidecar, a reason, or nothing at all (J1 to J3). */
import { expect, test } from "@jest/globals";
import type { V1Pod } from "@kubernetes/client-node";
import { inject } from "../../../operator/inject/injection.ts";
import { drainMs } from "../../../operator/inject/sidecar-container.ts";
import { parseConfig } from "../../../sidecar/config.ts";
import { loopbackCertificate } from "../../certificate.ts";
import { injected, patched, pod, reasonsFor, SETTINGS, sidecarOf } from "./pods.ts";

const SECRETS = {
  ...SETTINGS,
  server: {
    ...SETTINGS.server,
    flags: { ...SETTINGS.server.flags, "session-store": "rediss://r:6379" },
    files: {
      "kafka-tls-ca-file": { secret: "kafka", key: "ca.crt" },
      "kafka-tls-cert-file": { secret: "kafka", key: "tls.crt" },
      "kafka-tls-key-file": { secret: "kafka", key: "tls.key" },
      "kafka-sasl-password-file": { secret: "kafka-user", key: "password" },
      "session-store-password-file": { secret: "redis", key: "password" },
    },
    values: { "kafka-sasl-user": { secret: "kafka-user", key: "name" } },
  },
};

test("a pod that did not ask is not touched, whatever it is (J1)", () => {
  const quiet: V1Pod[] = [
    pod({}, {}),
    pod({ hostNetwork: true }, {}),
    pod({ containers: [{ name: "throughline" }] }, {}),
    { spec: { containers: [] } },
    {},
    pod({ hostNetwork: true }, { inject: "false", port: "nonsense" }),
    { metadata: { annotations: { "sidecar.istio.io/inject": "true" } } },
  ];
  for (const one of quiet) expect(inject(one, "shop", SETTINGS)).toEqual({ kind: "untouched" });
});

test("a pod that asks gets the server as a native sidecar, first among its init containers", () => {
  const found = injected(pod({ initContainers: [{ name: "migrate" }] }));
  expect(found.metadata?.labels).toEqual({ "throughline.dev/injected": "true" });
  expect(found.spec?.initContainers?.map(({ name }) => name)).toEqual(["throughline", "migrate"]);
  expect(sidecarOf(found)).toEqual({
    ...{ name: "throughline", image: "throughline:1", restartPolicy: "Always" },
    args: [
      ...["--shape=pod", "--listen=127.0.0.1:7070", "--health-listen=:7071", "--namespace=shop"],
      ...["--drain-ms=20000", "--log-level=info", "--kafka=k1:9092", "--deployment-id=prod"],
    ],
    ports: [{ name: "tl-metrics", containerPort: 7071, protocol: "TCP" }],
    startupProbe: {
      ...{ httpGet: { path: "/readyz", port: "tl-metrics" }, timeoutSeconds: 5 },
      ...{ periodSeconds: 1, failureThreshold: 60 },
    },
    readinessProbe: {
      ...{ httpGet: { path: "/readyz", port: "tl-metrics" }, timeoutSeconds: 5 },
      ...{ periodSeconds: 5, failureThreshold: 3 },
    },
    livenessProbe: {
      ...{ httpGet: { path: "/livez", port: "tl-metrics" }, timeoutSeconds: 5 },
      ...{ periodSeconds: 10, failureThreshold: 3 },
    },
    lifecycle: { preStop: { exec: { command: ["sh", "-c", "kill -USR2 1"] } } },
    resources: { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory: "256Mi" } },
    securityContext: {
      ...{ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
      ...{ readOnlyRootFilesystem: true, runAsNonRoot: true },
      seccompProfile: { type: "RuntimeDefault" },
    },
    terminationMessagePolicy: "FallbackToLogsOnError",
  });
  expect(found.spec?.volumes).toBeUndefined();
});

test("every container is told where the door is, unless it says so itself", () => {
  const own = { name: "THROUGHLINE_ADDRESS", value: "elsewhere:1" };
  const found = injected(
    pod({
      initContainers: [{ name: "migrate", env: [{ name: "A", value: "$(THROUGHLINE_ADDRESS)" }] }],
      containers: [{ name: "app" }, { name: "own", env: [own] }, { name: "none", env: [] }],
    }),
  );
  const address = { name: "THROUGHLINE_ADDRESS", value: "127.0.0.1:7070" };
  expect(found.spec?.initContainers?.[1]?.env).toEqual([
    address,
    { name: "A", value: "$(THROUGHLINE_ADDRESS)" },
  ]);
  expect(found.spec?.containers.map(({ env }) => env)).toEqual([[address], [own], [address]]);
});

test("annotations change port, page, log and resources of this pod", () => {
  const annotations = {
    ...{ inject: "true", port: "8000", "health-port": "8001", "log-level": "debug" },
    ...{ "cpu-request": "0.25", "cpu-limit": "1", "memory-request": "1Gi", "memory-limit": "1Gi" },
  };
  const found = injected(pod({}, annotations));
  expect(sidecarOf(found).args).toEqual(
    expect.arrayContaining([
      ...["--listen=127.0.0.1:8000", "--health-listen=:8001", "--log-level=debug"],
    ]),
  );
  expect(sidecarOf(found).ports?.[0]?.containerPort).toBe(8001);
  expect(sidecarOf(found).resources).toEqual({
    requests: { cpu: "0.25", memory: "1Gi" },
    limits: { cpu: "1", memory: "1Gi" },
  });
  expect(found.spec?.containers[0]?.env?.[0]?.value).toBe("127.0.0.1:8000");
});

test.each([
  [{ port: "7071" }, /throughline.dev\/port does nothing without throughline.dev\/inject/],
  [{ inject: "yes" }, /throughline.dev\/inject is "yes"; it must be "true" or "false"/],
  [{ inject: "" }, /throughline.dev\/inject is ""/],
  [
    { inject: "true", ports: "1" },
    /throughline.dev\/ports is not an annotation of the sidecar: .* There are inject, port,/,
  ],
  [{ injct: "true" }, /throughline.dev\/injct is not an annotation/],
  [
    { inject: "true", port: "80" },
    /throughline.dev\/port is "80"; it must be a port of 1024 to 65535/,
  ],
  [{ inject: "true", port: "7071" }, /port and throughline.dev\/health-port are both 7071/],
  [{ inject: "true", "health-port": "70000" }, /health-port is "70000"/],
  [{ inject: "true", port: "7e3" }, /port is "7e3"/],
  [{ inject: "true", "log-level": "loud" }, /log-level is "loud"; it must be one of trace, debug,/],
  [{ inject: "true", "cpu-request": "0m" }, /cpu-request is "0m"; it must be a quantity of CPU/],
  [{ inject: "true", "cpu-request": "0.5m" }, /cpu-request is "0.5m"/],
  [{ inject: "true", "cpu-limit": "10m" }, /cpu-request is .*at most throughline.dev\/cpu-limit/],
  [{ inject: "true", "memory-request": "1G" }, /memory-request is "1G"; .* like 256Mi/],
  [
    { inject: "true", "memory-limit": "200Mi" },
    /memory-limit is "200Mi"; it must be 256Mi or more/,
  ],
  [{ inject: "true", "memory-request": "300Mi" }, /at most throughline.dev\/memory-limit, which/],
])("a bad annotation is refused with the reason and the fix: %j", (annotations, reason) => {
  expect(reasonsFor(pod({}, annotations as Record<string, string>)).join(" ")).toMatch(reason);
});

test.each([
  [{ hostNetwork: true }, /^spec.hostNetwork is true: .* gateway/],
  [{ hostPID: true }, /^spec.hostPID is true: .* its drain cannot be begun/],
  [{ shareProcessNamespace: true }, /^spec.shareProcessNamespace is true/],
  [{ os: { name: "windows" } }, /^spec.os.name is windows/],
  [{ containers: [{ name: "throughline" }] }, /^spec.containers\[0\].name is throughline/],
  [
    { initContainers: [{ name: "a" }, { name: "throughline" }] },
    /^spec.initContainers\[1\].name is throughline, as the sidecar's: rename it; or if/,
  ],
  [
    { volumes: [{ name: "throughline-secrets" }] },
    /^spec.volumes\[0\].name is throughline-secrets/,
  ],
  [
    { containers: [{ name: "app", ports: [{ containerPort: 1 }, { containerPort: 7070 }] }] },
    /^spec.containers\[0\].ports\[1\].containerPort is 7070, .* annotation throughline.dev\/port/,
  ],
  [
    { initContainers: [{ name: "app", ports: [{ containerPort: 7071 }] }] },
    /^spec.initContainers\[0\].ports\[0\].containerPort is 7071, .*throughline.dev\/health-port/,
  ],
  [
    { containers: [{ name: "app", ports: [{ name: "tl-metrics", containerPort: 1 }] }] },
    /^spec.containers\[0\].ports\[0\].name is tl-metrics/,
  ],
])(
  "what cannot work, or collides with the app's, is refused with the field: %j (J3)",
  (spec, reason) => {
    expect(reasonsFor(pod(spec as Partial<V1Pod["spec"]>))).toEqual([
      expect.stringMatching(reason),
    ]);
  },
);

test("UDP on the same number does not collide, nor does TCP on a port that was chosen away", () => {
  const udp = [{ containerPort: 7070, protocol: "UDP" }];
  expect(reasonsFor(pod({ containers: [{ name: "app", ports: udp }] }))).toEqual([]);
  const taken = { containers: [{ name: "app", ports: [{ containerPort: 7070 }] }] };
  expect(reasonsFor(pod(taken, { inject: "true", port: "7170" }))).toEqual([]);
});

test("all reasons are said at once", () => {
  expect(
    reasonsFor(pod({ hostNetwork: true }, { inject: "true", port: "x", nope: "" })),
  ).toHaveLength(3);
});

test("asked twice it adds nothing; what others added in between is told the address (J2)", () => {
  for (const settings of [SETTINGS, SECRETS]) {
    const once = injected(pod({ initContainers: [{ name: "migrate" }] }), settings);
    expect(inject(once, "shop", settings)).toEqual({ kind: "untouched" });
    once.spec?.containers.push({ name: "mesh" });
    const again = inject(once, "shop", settings);
    if (again.kind !== "injected") throw new Error(again.kind);
    expect(again.patch.map(({ path }) => path)).toEqual(["/spec/containers/1/env"]);
    expect(inject(patched(once, again.patch), "shop", settings)).toEqual({ kind: "untouched" });
  }
});

test("what others put before the sidecar, or changed in it, stays", () => {
  const once = injected(pod());
  once.spec?.initContainers?.unshift({ name: "first" });
  Object.assign(sidecarOf(once), { image: "mirror/throughline:1" });
  const again = injected(once);
  expect(again.spec?.initContainers?.map(({ name }) => name)).toEqual(["first", "throughline"]);
  expect(sidecarOf(again).image).toBe("mirror/throughline:1");
});

test("a port that another webhook takes after us is refused at the second call", () => {
  const once = injected(pod());
  once.spec?.containers.push({ name: "mesh", ports: [{ containerPort: 7070 }] });
  expect(reasonsFor(once)).toEqual([expect.stringMatching(/^spec.containers\[1\].ports\[0\]/)]);
});

test("a pod copied with its label but without the sidecar gets it", () => {
  const copied = { ...pod(), metadata: injected(pod()).metadata } as V1Pod;
  expect(sidecarOf(injected(copied)).image).toBe("throughline:1");
});

test("the user of root for all containers is not the sidecar's; another is", () => {
  const userOf = (runAsUser: number): number | undefined =>
    sidecarOf(injected(pod({ securityContext: { runAsUser } }))).securityContext?.runAsUser;
  expect([userOf(0), userOf(1000)]).toEqual([65_534, undefined]);
});

test.each([
  [0, 0],
  [1, 500],
  [2, 1000],
  [10, 5000],
  [20, 15_000],
  [25, 20_000],
  [30, 20_000],
  [3600, 20_000],
])("a pod with %i s of grace drains for at most %i ms: less than it has", (seconds, ms) => {
  expect(drainMs(seconds)).toBe(ms);
  expect(sidecarOf(injected(pod({ terminationGracePeriodSeconds: seconds }))).args).toContain(
    `--drain-ms=${ms}`,
  );
});

test("the server takes what it is given: flags, files and values of Secrets", async () => {
  const { cert, key } = await loopbackCertificate();
  const found = injected(pod(), SECRETS);
  const { args = [], env = [], volumeMounts = [] } = sidecarOf(found);
  expect(found.spec?.volumes).toEqual([
    {
      name: "throughline-secrets",
      projected: {
        sources: Object.entries(SECRETS.server.files).map(([path, { secret, key }]) => ({
          secret: { name: secret, items: [{ key, path }] },
        })),
      },
    },
  ]);
  const root = "/etc/throughline/secrets";
  expect(volumeMounts).toEqual([{ name: "throughline-secrets", mountPath: root, readOnly: true }]);
  expect(env.map(({ valueFrom }) => valueFrom?.secretKeyRef)).toEqual([
    { name: "kafka-user", key: "name" },
  ]);
  const files: Record<string, string> = {
    ...{ [`${root}/kafka-tls-ca-file`]: cert, [`${root}/kafka-tls-cert-file`]: cert },
    ...{ [`${root}/kafka-tls-key-file`]: key, [`${root}/kafka-sasl-password-file`]: "pw" },
    [`${root}/session-store-password-file`]: "pw",
  };
  const parsed = parseConfig({
    args,
    environment: Object.fromEntries(env.map(({ name }) => [name, "till"])),
    readFile: (path) => Buffer.from(files[path] ?? "no such file"),
    hostname: () => "app-1",
  });
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  expect(parsed.config).toMatchObject({
    ...{ shape: "pod", listen: "127.0.0.1:7070", healthListen: { host: "", port: 7071 } },
    ...{ namespace: "shop", deploymentId: "prod", limits: { drainMs: 20_000 } },
    kafka: { brokers: ["k1:9092"], sasl: { username: "till", password: "pw" } },
    sessionStore: { password: "pw" },
  });
});

test("a value is not taken for a variable of Kubernetes", () => {
  const flags = { ...SETTINGS.server.flags, "kafka-sasl-user": "a$(HOME)$b" };
  const found = injected(pod(), { ...SETTINGS, server: { ...SETTINGS.server, flags } });
  expect(sidecarOf(found).args).toContain("--kafka-sasl-user=a$$(HOME)$$b");
});
