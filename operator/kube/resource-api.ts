/**
 * The port to an API server for one kind of ours, as far as an operator needs it. `kube-resource-api.ts` is the
 * real one; tests have one in memory. Ends and refusals are outcomes, not exceptions.
 */
import type { ApiFailure } from "./api-error.ts";

/** An object of ours as an API server gives it: a Topic, an Outbox. */
export interface KubeResource {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly uid: string;
    readonly generation: number;
    readonly resourceVersion: string;
    readonly finalizers?: readonly string[];
    /** RFC 3339. */
    readonly creationTimestamp?: string;
    /** Set while it is being deleted. RFC 3339. */
    readonly deletionTimestamp?: string;
  };
  readonly spec: object;
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  /** RFC 3339. */
  readonly lastTransitionTime: string;
  readonly observedGeneration: number;
}

/** What a person is told as an Event. */
export interface ToldEvent {
  readonly type: "Normal" | "Warning";
  /** One word. */
  readonly reason: string;
  readonly note: string;
}

/** What an operator watches. */
export interface WatchScope {
  /** Undefined: all namespaces. */
  readonly namespace: string | undefined;
  /** As kubectl's `-l`; empty: all. */
  readonly labelSelector: string;
}

export type ListOutcome<Resource> =
  | {
      readonly kind: "listed";
      readonly resources: readonly Resource[];
      readonly resourceVersion: string;
      /** Where the next page begins; empty after the last. */
      readonly next: string;
    }
  /** The next page is of a list that the server has forgotten: begin anew. */
  | { readonly kind: "expired" }
  | ApiFailure;

export type WatchEvent<Resource> =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly resource: Resource }
  | { readonly type: "BOOKMARK"; readonly resourceVersion: string };

export type WatchEnd =
  /** The server, or `signal`, ended it in order. */
  | { readonly kind: "ended" }
  /** The server has forgotten what came after the version (410): list anew. */
  | { readonly kind: "expired" }
  | ApiFailure;

export type FindOutcome<Resource> =
  | { readonly kind: "found"; readonly resource: Resource }
  | { readonly kind: "gone" }
  | ApiFailure;

export type PatchOutcome =
  | { readonly kind: "patched" }
  /** It is no more. */
  | { readonly kind: "gone" }
  /** It has changed since it was read. */
  | { readonly kind: "conflict" }
  | ApiFailure;

export interface ResourceApi<Resource extends KubeResource> {
  /** One page of at most `limit`. */
  list(scope: WatchScope, limit: number, next: string): Promise<ListOutcome<Resource>>;
  /** Everything after `resourceVersion`, bookmarks too. A connection without a sign of life fails. */
  watch(
    scope: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent<Resource>) => void,
    signal: AbortSignal,
  ): Promise<WatchEnd>;
  /** Asked for one that no list has: it may be outside the labels. */
  find(namespace: string, name: string): Promise<FindOutcome<Resource>>;
  /** Whether the namespace is being deleted; not, where nobody can say. May be seconds old. */
  isTerminating(namespace: string): Promise<boolean>;
  /** An Event. Harms nothing when it cannot be written. */
  tell(resource: Resource, event: ToldEvent): Promise<void>;
  patchStatus(resource: Resource, status: NonNullable<Resource["status"]>): Promise<PatchOutcome>;
  /** Only if it has not changed since. */
  patchFinalizers(resource: Resource, finalizers: readonly string[]): Promise<PatchOutcome>;
}
