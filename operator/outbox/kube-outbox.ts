/** An Outbox as an API server has it, and its status. */
import type { Condition, KubeResource, ResourceApi } from "../kube/resource-api.ts";
import type { OutboxSpec } from "../outbox-schema.ts";

/** `status` of an Outbox, as the CRD has it. */
export interface OutboxStatus extends OutboxFigures {
  readonly observedGeneration?: number;
  readonly deployment?: string;
  readonly conditions?: readonly Condition[];
}

/** What its sequencer says of itself. */
export interface OutboxFigures {
  readonly database?: string;
  readonly slot?: string;
  readonly lagSeconds?: number;
  readonly retainedWal?: string;
  readonly parked?: number;
  readonly topics?: readonly { readonly name: string; readonly sequence: number }[];
}

export interface KubeOutbox extends KubeResource {
  readonly spec: OutboxSpec;
  readonly status?: OutboxStatus;
}

export type OutboxApi = ResourceApi<KubeOutbox>;
