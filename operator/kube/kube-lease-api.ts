/** The leader's Lease at a real API server. */
import type { KubeConfig } from "@kubernetes/client-node";
import { failureOf, statusOf } from "./api-error.ts";
import { type CountRequest, KubeClient, microTime } from "./kube-client.ts";
import type { LeaseApi, LeaseRecord } from "./lease.ts";

interface KubeLease {
  readonly metadata: { readonly resourceVersion: string };
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly leaseTransitions?: number;
  };
}

export class KubeLeaseApi implements LeaseApi {
  readonly #client: KubeClient;
  readonly #at: { readonly namespace: string; readonly name: string };
  readonly #leases: string;

  /** @param timeoutMs short, so that an attempt that hangs leaves time for the next. */
  constructor(
    config: KubeConfig,
    at: { readonly namespace: string; readonly name: string },
    timeoutMs: number,
    count: CountRequest,
  ) {
    this.#client = new KubeClient(config, timeoutMs, count);
    this.#at = at;
    this.#leases = `/apis/coordination.k8s.io/v1/namespaces/${at.namespace}/leases`;
  }

  async read() {
    try {
      const lease = await this.#client.get<KubeLease>(`${this.#leases}/${this.#at.name}`);
      return { kind: "lease" as const, record: recordOf(lease) };
    } catch (error) {
      return statusOf(error) === 404 ? { kind: "none" as const } : failureOf(error);
    }
  }

  async write(
    holder: string,
    durationSeconds: number,
    transitions: number,
    over: LeaseRecord | undefined,
  ) {
    const now = microTime(new Date());
    const body = {
      metadata: { ...this.#at, ...(over && { resourceVersion: over.version }) },
      spec: {
        ...{ holderIdentity: holder, leaseDurationSeconds: durationSeconds, renewTime: now },
        ...{ leaseTransitions: transitions },
        ...(over?.holder !== holder && { acquireTime: now }),
      },
    };
    try {
      const [method, path] = over
        ? (["PUT", `${this.#leases}/${this.#at.name}`] as const)
        : (["POST", this.#leases] as const);
      const lease = await this.#client.send<KubeLease>(method, path, body);
      return { kind: "written" as const, record: recordOf(lease) };
    } catch (error) {
      return statusOf(error) === 409 ? { kind: "conflict" as const } : failureOf(error);
    }
  }
}

function recordOf({ metadata, spec = {} }: KubeLease): LeaseRecord {
  return {
    holder: spec.holderIdentity ?? "",
    durationSeconds: spec.leaseDurationSeconds ?? 1,
    transitions: spec.leaseTransitions ?? 0,
    version: metadata.resourceVersion,
  };
}
