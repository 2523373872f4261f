/** An Outbox, its operator's settings, and reports, for tests. */
import type { V1Deployment } from "@kubernetes/client-node";
import type { KubeOutbox } from "../../../operator/outbox/kube-outbox.ts";
import type { OutboxSpec } from "../../../operator/outbox-schema.ts";
import type { OutboxState } from "../../../proto/gen/throughline/stored/v1/stored.ts";

export const SETTINGS = {
  image: "throughline:1",
  flags: { kafka: "k1:9092", "deployment-id": "prod", "kafka-sasl-user": "seq" },
  files: { "kafka-sasl-password-file": { secret: "kafka", key: "password" } },
  values: {},
};

const SPEC: OutboxSpec = { database: { secret: { name: "shop-db" } } };

export function outboxOf(
  spec: Partial<OutboxSpec> = {},
  more: Partial<KubeOutbox["metadata"]> = {},
  status?: KubeOutbox["status"],
): KubeOutbox {
  return {
    metadata: {
      ...{ namespace: "shop", name: "orders", uid: "u1", generation: 2, resourceVersion: "7" },
      ...more,
    },
    spec: { ...SPEC, ...spec },
    ...(status && { status }),
  };
}

export function reportOf(more: Partial<OutboxState> = {}): OutboxState {
  return {
    ...{ formatVersion: 1, instance: "pod-1", state: "running", reason: "", message: "" },
    ...{ database: "db:5432/shop", slot: "throughline_prod_shop_orders", hasRun: true },
    ...{ lagMs: 1700n, retainedWalBytes: 17_000_000n, parked: 2 },
    topics: [
      { name: "refunds", sequence: 7n },
      { name: "orders", sequence: 42n },
    ],
    ...more,
  };
}

/** As its controller in Kubernetes leaves it. */
export function rolledOut(deployment: V1Deployment, ready: number): V1Deployment {
  const generation = deployment.metadata?.generation ?? 1;
  const replicas = deployment.spec?.replicas ?? 0;
  return {
    ...deployment,
    metadata: { ...deployment.metadata, generation },
    status: {
      ...{ observedGeneration: generation, replicas, updatedReplicas: replicas },
      readyReplicas: ready,
    },
  };
}
