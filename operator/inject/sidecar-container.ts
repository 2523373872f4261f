/**
 * The container that is added to a pod: the server as a pod door, a native sidecar
 * (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/). Pure. README has the same for those
 * who write it themselves; test/operator/inject/readme.test.ts compares the two.
 */
import type { V1Container, V1Volume } from "@kubernetes/client-node";
import type { PodSettings } from "./pod-settings.ts";

export const CONTAINER = "throughline";
export const SECRETS_VOLUME = "throughline-secrets";
export const METRICS_PORT = "tl-metrics";
const SECRETS_PATH = "/etc/throughline/secrets";
const NOBODY = 65_534;

/** A key of a Secret in the pod's own namespace. */
export interface SecretKey {
  readonly secret: string;
  readonly key: string;
}

/** What is the same for all pods. */
export interface ServerSettings {
  readonly image: string;
  /** Flags of the server with their values, without dashes. */
  readonly flags: Readonly<Record<string, string>>;
  /** Flags that name a file, by what is in it. */
  readonly files: Readonly<Record<string, SecretKey>>;
  /** Flags whose value is in a Secret and may be in an environment. */
  readonly values: Readonly<Record<string, SecretKey>>;
}

export interface InjectedPod {
  readonly namespace: string;
  readonly graceSeconds: number;
  /** The user of all its containers, where it has one. */
  readonly runAsUser: number | undefined;
  readonly settings: PodSettings;
}

export function sidecarContainer(server: ServerSettings, pod: InjectedPod): V1Container {
  const { port, healthPort, logLevel, resources, byteBudgets } = pod.settings;
  const flags = {
    ...{ shape: "pod", listen: `127.0.0.1:${port}`, "health-listen": `:${healthPort}` },
    ...{ namespace: pod.namespace, "drain-ms": String(drainMs(pod.graceSeconds)) },
    ...{ "log-level": logLevel, ...byteBudgets },
    ...server.flags,
    ...Object.fromEntries(
      Object.keys(server.files).map((flag) => [flag, `${SECRETS_PATH}/${flag}`]),
    ),
  };
  const values = Object.entries(server.values);
  return {
    ...{ name: CONTAINER, image: server.image, restartPolicy: "Always" },
    args: Object.entries(flags).map(([flag, value]) => literally(`--${flag}=${value}`)),
    ...(values.length > 0 && {
      env: values.map(([flag, { secret, key }]) => ({
        name: `THROUGHLINE_${flag.replaceAll("-", "_").toUpperCase()}`,
        valueFrom: { secretKeyRef: { name: secret, key } },
      })),
    }),
    ports: [{ name: METRICS_PORT, containerPort: healthPort, protocol: "TCP" }],
    // The app and its other init containers begin when this has succeeded.
    startupProbe: probe("/readyz", { periodSeconds: 1, failureThreshold: 60 }),
    readinessProbe: probe("/readyz", { periodSeconds: 5, failureThreshold: 3 }),
    livenessProbe: probe("/livez", { periodSeconds: 10, failureThreshold: 3 }),
    // The kubelet sends SIGTERM only when the app has gone; the app is to be told before.
    lifecycle: { preStop: { exec: { command: ["sh", "-c", "kill -USR2 1"] } } },
    resources,
    securityContext: {
      ...{ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
      ...{ readOnlyRootFilesystem: true, runAsNonRoot: true },
      // The image has a user of its own; a pod's overrides it.
      ...(pod.runAsUser === 0 && { runAsUser: NOBODY }),
      seccompProfile: { type: "RuntimeDefault" },
    },
    // What it says when it cannot start stands in the pod's status.
    terminationMessagePolicy: "FallbackToLogsOnError",
    ...(Object.keys(server.files).length > 0 && {
      volumeMounts: [{ name: SECRETS_VOLUME, mountPath: SECRETS_PATH, readOnly: true }],
    }),
  };
}

/** Undefined: it needs none. */
export function secretsVolume({ files }: ServerSettings): V1Volume | undefined {
  const sources = Object.entries(files).map(([flag, { secret, key }]) => ({
    secret: { name: secret, items: [{ key, path: flag }] },
  }));
  return sources.length > 0 ? { name: SECRETS_VOLUME, projected: { sources } } : undefined;
}

/** Of the server's own preset. */
const LONGEST_DRAIN_SECONDS = 20;
const MARGIN_SECONDS = 5;

/**
 * How long the server may wait for clients after its SIGTERM. In what the pod's grace leaves, sessions are saved
 * and connections closed; the app may have used up the rest before, and then nobody is there to wait for.
 */
export function drainMs(graceSeconds: number): number {
  const left = graceSeconds - Math.min(MARGIN_SECONDS, graceSeconds / 2);
  return Math.floor(Math.min(LONGEST_DRAIN_SECONDS, left) * 1000);
}

function probe(path: string, pace: { periodSeconds: number; failureThreshold: number }) {
  return { httpGet: { path, port: METRICS_PORT }, timeoutSeconds: 5, ...pace };
}

/** `$(NAME)` in arguments is a variable to Kubernetes. */
function literally(argument: string): string {
  return argument.replaceAll("$", "$$$$");
}
