/**
 * The container that is added to a pod: the server as a pod door, a native sidecar
 * (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/). Pure. README has the same for those
 * who write it themselves; test/operator/inject/readme.test.ts compares the two.
 */
import type { V1Container } from "@kubernetes/client-node";
import { type ProgramSettings, probe, programContainer } from "../program-container.ts";
import type { PodSettings } from "./pod-settings.ts";

export const CONTAINER = "throughline";
export const METRICS_PORT = "tl-metrics";
const NOBODY = 65_534;

export interface InjectedPod {
  readonly namespace: string;
  readonly graceSeconds: number;
  /** The user of all its containers, where it has one. */
  readonly runAsUser: number | undefined;
  readonly settings: PodSettings;
}

export function sidecarContainer(server: ProgramSettings, pod: InjectedPod): V1Container {
  const { port, healthPort, logLevel, resources, byteBudgets } = pod.settings;
  const flags = {
    ...{ shape: "pod", listen: `127.0.0.1:${port}`, "health-listen": `:${healthPort}` },
    ...{ namespace: pod.namespace, "drain-ms": String(drainMs(pod.graceSeconds)) },
    ...{ "log-level": logLevel, ...byteBudgets },
    ...server.flags,
  };
  const container = programContainer(CONTAINER, { ...server, flags });
  return {
    ...{ ...container, restartPolicy: "Always" },
    ports: [{ name: METRICS_PORT, containerPort: healthPort, protocol: "TCP" }],
    // The app and its other init containers begin when this has succeeded.
    startupProbe: probe("/readyz", METRICS_PORT, { periodSeconds: 1, failureThreshold: 60 }),
    readinessProbe: probe("/readyz", METRICS_PORT, { periodSeconds: 5, failureThreshold: 3 }),
    livenessProbe: probe("/livez", METRICS_PORT, { periodSeconds: 10, failureThreshold: 3 }),
    // The kubelet sends SIGTERM only when the app has gone; the app is to be told before.
    lifecycle: { preStop: { exec: { command: ["sh", "-c", "kill -USR2 1"] } } },
    resources,
    securityContext: {
      ...container.securityContext,
      // The image has a user of its own; a pod's overrides it.
      ...(pod.runAsUser === 0 && { runAsUser: NOBODY }),
    },
  };
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
