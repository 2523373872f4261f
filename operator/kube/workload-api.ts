/**
 * Deployments and the like at an API server: read, and applied by the server (server-side apply), which drops from
 * an object what was ours and is no more, leaves what others added, and writes nothing where all is as it is.
 */
import type { KubeConfig, V1Deployment, V1ServiceAccount } from "@kubernetes/client-node";
import { type ApiFailure, failureOf, statusOf } from "./api-error.ts";
import { type CountRequest, KubeClient } from "./kube-client.ts";

const REQUEST_MS = 30_000;
const FIELD_MANAGER = "throughline-operator";

export type Workload = V1Deployment | V1ServiceAccount;

export type DeploymentOutcome =
  | { readonly kind: "found"; readonly deployment: V1Deployment }
  | { readonly kind: "gone" }
  | ApiFailure;

/** `refused`: the server has read it and does not take it, or this account may not. */
export type ApplyOutcome<Of> =
  | { readonly kind: "applied"; readonly object: Of }
  | { readonly kind: "refused"; readonly reason: string }
  | ApiFailure;

export interface WorkloadApi {
  deployment(namespace: string, name: string): Promise<DeploymentOutcome>;
  /** Makes it where it is not. */
  apply<Of extends Workload>(object: Of): Promise<ApplyOutcome<Of>>;
}

export class KubeWorkloadApi implements WorkloadApi {
  readonly #client: KubeClient;

  constructor(config: KubeConfig, count: CountRequest) {
    this.#client = new KubeClient(config, REQUEST_MS, count);
  }

  async deployment(namespace: string, name: string): Promise<DeploymentOutcome> {
    const path = `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`;
    try {
      return { kind: "found", deployment: await this.#client.get<V1Deployment>(path) };
    } catch (error) {
      return statusOf(error) === 404 ? { kind: "gone" } : failureOf(error);
    }
  }

  async apply<Of extends Workload>(object: Of): Promise<ApplyOutcome<Of>> {
    try {
      const applied = await this.#client.apply<Of>(pathOf(object), object, FIELD_MANAGER);
      return { kind: "applied", object: applied };
    } catch (error) {
      const code = statusOf(error) ?? 0;
      const { reason } = failureOf(error);
      // https://kubernetes.io/docs/reference/using-api/api-concepts/: what another attempt may help is not here.
      const isRefused = code >= 400 && code < 500 && code !== 409 && code !== 429;
      return { kind: isRefused ? "refused" : "failed", reason };
    }
  }
}

function pathOf({ kind, metadata }: Workload): string {
  const { namespace, name } = metadata ?? {};
  return kind === "Deployment"
    ? `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`
    : `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`;
}
