/**
 * The port to an API server, as far as Topics need it. `kube-topic-api.ts` is the real one; tests have
 * one in memory. Ends and refusals are outcomes, not exceptions.
 */
import type { TopicResource } from "../validate.ts";
import type { ApiFailure } from "./api-error.ts";
import type { TopicEvent } from "./topic-events.ts";

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  /** RFC 3339. */
  readonly lastTransitionTime: string;
  readonly observedGeneration: number;
}

/** `status` of a Topic, as the CRD has it. */
export interface KubeStatus {
  readonly observedGeneration?: number;
  readonly kafkaTopic?: string;
  readonly topicId?: string;
  readonly adopted?: boolean;
  readonly partitions?: number;
  readonly replicas?: number;
  readonly conditions?: readonly Condition[];
}

export interface KubeTopic extends TopicResource {
  readonly metadata: TopicResource["metadata"] & {
    readonly uid: string;
    readonly generation: number;
    readonly resourceVersion: string;
    readonly finalizers?: readonly string[];
    /** RFC 3339. */
    readonly creationTimestamp?: string;
    /** Set while it is being deleted. RFC 3339. */
    readonly deletionTimestamp?: string;
  };
  readonly status?: KubeStatus;
}

/** What an operator watches. */
export interface WatchScope {
  /** Undefined: all namespaces. */
  readonly namespace: string | undefined;
  /** As kubectl's `-l`; empty: all. */
  readonly labelSelector: string;
}

export type ListOutcome =
  | {
      readonly kind: "listed";
      readonly topics: readonly KubeTopic[];
      readonly resourceVersion: string;
      /** Where the next page begins; empty after the last. */
      readonly next: string;
    }
  /** The next page is of a list that the server has forgotten: begin anew. */
  | { readonly kind: "expired" }
  | ApiFailure;

export type WatchEvent =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly topic: KubeTopic }
  | { readonly type: "BOOKMARK"; readonly resourceVersion: string };

export type WatchEnd =
  /** The server, or `signal`, ended it in order. */
  | { readonly kind: "ended" }
  /** The server has forgotten what came after the version (410): list anew. */
  | { readonly kind: "expired" }
  | ApiFailure;

export type PatchOutcome =
  | { readonly kind: "patched" }
  /** It is no more. */
  | { readonly kind: "gone" }
  /** It has changed since it was read. */
  | { readonly kind: "conflict" }
  | ApiFailure;

export interface TopicApi {
  /** One page of at most `limit`. */
  list(scope: WatchScope, limit: number, next: string): Promise<ListOutcome>;
  /** Everything after `resourceVersion`, bookmarks too. A connection without a sign of life fails. */
  watch(
    scope: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
  ): Promise<WatchEnd>;
  /** Asked for one that no list has: it may be outside the labels. */
  find(
    namespace: string,
    name: string,
  ): Promise<
    { readonly kind: "found"; readonly topic: KubeTopic } | { readonly kind: "gone" } | ApiFailure
  >;
  /** Whether the namespace is being deleted; not, where nobody can say. May be seconds old. */
  isTerminating(namespace: string): Promise<boolean>;
  /** An Event. Harms nothing when it cannot be written. */
  tell(topic: KubeTopic, event: TopicEvent): Promise<void>;
  patchStatus(topic: KubeTopic, status: KubeStatus): Promise<PatchOutcome>;
  /** Only if it has not changed since. */
  patchFinalizers(topic: KubeTopic, finalizers: readonly string[]): Promise<PatchOutcome>;
}
