/** The leader's Lease at a real API server. */
import { CoordinationV1Api, type KubeConfig, V1MicroTime } from "@kubernetes/client-node";
import { failureOf, statusOf } from "./api-error.ts";
import { type CountRequest, kubeClient } from "./kube-client.ts";
import type { LeaseApi, LeaseRecord } from "./lease.ts";

export class KubeLeaseApi implements LeaseApi {
  readonly #api: CoordinationV1Api;
  readonly #at: { readonly namespace: string; readonly name: string };

  /** @param timeoutMs short, so that an attempt that hangs leaves time for the next. */
  constructor(
    config: KubeConfig,
    at: { readonly namespace: string; readonly name: string },
    timeoutMs: number,
    count: CountRequest,
  ) {
    this.#api = kubeClient(config, CoordinationV1Api, timeoutMs, count);
    this.#at = at;
  }

  async read() {
    try {
      return {
        kind: "lease" as const,
        record: recordOf(await this.#api.readNamespacedLease(this.#at)),
      };
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
    const { namespace } = this.#at;
    const now = new V1MicroTime();
    const body = {
      metadata: { ...this.#at, ...(over && { resourceVersion: over.version }) },
      spec: {
        ...{ holderIdentity: holder, leaseDurationSeconds: durationSeconds, renewTime: now },
        ...{ leaseTransitions: transitions },
        ...(over?.holder !== holder && { acquireTime: now }),
      },
    };
    try {
      const lease = over
        ? await this.#api.replaceNamespacedLease({ ...this.#at, body })
        : await this.#api.createNamespacedLease({ namespace, body });
      return { kind: "written" as const, record: recordOf(lease) };
    } catch (error) {
      return statusOf(error) === 409 ? { kind: "conflict" as const } : failureOf(error);
    }
  }
}

function recordOf({
  metadata,
  spec,
}: Awaited<ReturnType<CoordinationV1Api["readNamespacedLease"]>>): LeaseRecord {
  return {
    holder: spec?.holderIdentity ?? "",
    durationSeconds: spec?.leaseDurationSeconds ?? 1,
    transitions: spec?.leaseTransitions ?? 0,
    version: metadata?.resourceVersion ?? "",
  };
}
