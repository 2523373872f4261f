/**
 * The Deployment that runs an Outbox's sequencer, and its account (pure). While the Outbox is there its pods relay;
 * when it is being deleted one pod retires: it waits until no sequencer is at work, gives the slot up, and is ready
 * when that is done.
 */
import type { V1Deployment, V1ServiceAccount } from "@kubernetes/client-node";
import {
  DEFAULT_CA_KEY,
  DEFAULT_DATABASE_KEY,
  DEFAULT_RETAINED_WAL,
  type SecretRef,
} from "../outbox-schema.ts";
import {
  type ProgramSettings,
  probe,
  programContainer,
  type SecretKey,
  secretsVolume,
} from "../program-container.ts";
import { API_VERSION, GROUP } from "../topic-schema.ts";
import type { KubeOutbox } from "./kube-outbox.ts";

export type Deed = "run" | "retire";

const CONTAINER = "sequencer";
const HEALTH_PORT = 9464;
const DEFAULT_REPLICAS = 2;
const DEFAULT_RESOURCES = {
  requests: { cpu: "100m", memory: "128Mi" },
  limits: { memory: "256Mi" },
};
/** On each object: whose it is. */
export const OUTBOX_LABEL = `${GROUP}/outbox`;

export function deploymentNameOf({ metadata: { name } }: KubeOutbox): string {
  return `${name}-sequencer`;
}

export function replicasOf({ spec }: KubeOutbox): number {
  return spec.replicas ?? DEFAULT_REPLICAS;
}

/** No token: a sequencer asks no API server. */
export function sequencerAccount(outbox: KubeOutbox): V1ServiceAccount {
  return {
    ...{ apiVersion: "v1", kind: "ServiceAccount", metadata: metadataOf(outbox) },
    automountServiceAccountToken: false,
  };
}

export function sequencerDeployment(
  outbox: KubeOutbox,
  settings: ProgramSettings,
  deed: Deed,
): V1Deployment {
  const { spec } = outbox;
  const { name, namespace } = outbox.metadata;
  const { database, keepSent, limits = {}, logLevel = "info", resources = {} } = spec;
  const program = {
    ...settings,
    flags: {
      ...{ do: deed, namespace, outbox: name, "health-listen": `:${HEALTH_PORT}` },
      "log-level": logLevel,
      ...(database.tls && { "database-tls": "true" }),
      "retained-wal-limit": limits.retainedWal ?? DEFAULT_RETAINED_WAL,
      ...(keepSent && { "keep-sent-hours": String(hoursOf(keepSent)) }),
      ...settings.flags,
    },
    files: {
      "database-file": keyOf(database.secret, DEFAULT_DATABASE_KEY),
      ...(database.caSecret && {
        "database-tls-ca-file": keyOf(database.caSecret, DEFAULT_CA_KEY),
      }),
      ...settings.files,
    },
  };
  const selector = { "app.kubernetes.io/component": CONTAINER, [OUTBOX_LABEL]: name };
  const volume = secretsVolume(program);
  return {
    ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: metadataOf(outbox) },
    spec: {
      replicas: deed === "run" ? replicasOf(outbox) : 1,
      selector: { matchLabels: selector },
      strategy: {
        type: "RollingUpdate",
        // The next stands by, and is ready, before the one at work ends. Who retires waits for the others' end.
        rollingUpdate:
          deed === "run"
            ? { maxSurge: 1, maxUnavailable: 0 }
            : { maxSurge: 0, maxUnavailable: "100%" },
      },
      template: {
        metadata: { labels: labelsOf(name) },
        spec: {
          serviceAccountName: deploymentNameOf(outbox),
          automountServiceAccountToken: false,
          // A Service named throughline would set variables that look like flags.
          enableServiceLinks: false,
          // The image's own user is a number, so that a platform may choose another.
          securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
          containers: [
            {
              ...programContainer(CONTAINER, program),
              command: ["node", "dist/sequencer.mjs"],
              ports: [{ name: "health", containerPort: HEALTH_PORT, protocol: "TCP" }],
              readinessProbe: probe("/readyz", "health", { periodSeconds: 5, failureThreshold: 3 }),
              livenessProbe: probe("/livez", "health", { periodSeconds: 10, failureThreshold: 3 }),
              resources: {
                requests: { ...DEFAULT_RESOURCES.requests, ...resources.requests },
                limits: { ...DEFAULT_RESOURCES.limits, ...resources.limits },
              },
            },
          ],
          ...(volume && { volumes: [volume] }),
          topologySpreadConstraints: [
            {
              ...{ maxSkew: 1, topologyKey: "kubernetes.io/hostname" },
              ...{ whenUnsatisfiable: "ScheduleAnyway", labelSelector: { matchLabels: selector } },
            },
          ],
        },
      },
    },
  };
}

function metadataOf(outbox: KubeOutbox) {
  const { name, namespace, uid } = outbox.metadata;
  const owner = { apiVersion: API_VERSION, kind: "Outbox", name, uid, controller: true };
  const marks = { labels: labelsOf(name), ownerReferences: [owner] };
  return { name: deploymentNameOf(outbox), namespace, ...marks };
}

function labelsOf(outbox: string): Record<string, string> {
  return {
    "app.kubernetes.io/name": "throughline",
    "app.kubernetes.io/component": CONTAINER,
    "app.kubernetes.io/part-of": "throughline",
    "app.kubernetes.io/managed-by": "throughline-operator",
    [OUTBOX_LABEL]: outbox,
  };
}

function keyOf({ name, key }: SecretRef, preset: string): SecretKey {
  return { secret: name, key: key ?? preset };
}

/** As the schema has it: 7d, 12h. */
function hoursOf(time: string): number {
  return Number(time.slice(0, -1)) * (time.endsWith("d") ? 24 : 1);
}
