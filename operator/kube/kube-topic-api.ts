/** Topics at a real API server, through the Kubernetes client. */
import {
  CoreV1Api,
  CustomObjectsApi,
  EventsV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  V1MicroTime,
  Watch,
} from "@kubernetes/client-node";
import type { Clock } from "../../process/clock.ts";
import { API_VERSION, GROUP } from "../topic-schema.ts";
import { nameOf } from "../topic-spec.ts";
import { failureOf, statusOf } from "./api-error.ts";
import { type CountRequest, kubeClient } from "./kube-client.ts";
import type {
  KubeStatus,
  KubeTopic,
  ListOutcome,
  PatchOutcome,
  TopicApi,
  WatchEnd,
  WatchEvent,
  WatchScope,
} from "./topic-api.ts";
import type { TopicEvent } from "./topic-events.ts";

const VERSION = "v1alpha1";
const TOPICS = { group: GROUP, version: VERSION, plural: "topics" };
/** The server ends a watch by itself after so long; a bookmark comes every minute or so. */
const WATCH_SECONDS = 290;
/** Without a byte for so long the connection is taken for dead. */
const SILENCE_MS = 120_000;
const EXPIRED = 410;
const REQUEST_MS = 30_000;
/** For so long a look at a namespace is good for its other Topics too. */
const NAMESPACE_MS = 5000;
const MAX_NOTE_LENGTH = 1024;
const CONTROLLER = `${GROUP}/operator`;

export interface KubeTopicApiOptions {
  /** Of this process, in Events; at most 128 characters. */
  readonly identity: string;
  readonly count: CountRequest;
  readonly clock: Clock;
  /** An Event was not written. */
  readonly onUntold: (topic: string, reason: string) => void;
}

export class KubeTopicApi implements TopicApi {
  readonly #config: KubeConfig;
  readonly #options: KubeTopicApiOptions;
  readonly #objects: CustomObjectsApi;
  readonly #core: CoreV1Api;
  readonly #events: EventsV1Api;
  readonly #namespaces = new Map<
    string,
    { readonly untilMs: number; readonly ends: Promise<boolean> }
  >();

  constructor(config: KubeConfig, options: KubeTopicApiOptions) {
    this.#config = config;
    this.#options = options;
    const { count } = options;
    this.#objects = kubeClient(config, CustomObjectsApi, REQUEST_MS, count);
    this.#core = kubeClient(config, CoreV1Api, REQUEST_MS, count);
    this.#events = kubeClient(config, EventsV1Api, REQUEST_MS, count);
  }

  async list({ namespace, labelSelector }: WatchScope, limit: number, next: string) {
    const query = {
      ...{ ...TOPICS, limit },
      ...(labelSelector && { labelSelector }),
      ...(next && { _continue: next }),
    };
    try {
      const page = (
        namespace === undefined
          ? await this.#objects.listCustomObjectForAllNamespaces({
              ...query,
              resourcePlural: TOPICS.plural,
            })
          : await this.#objects.listNamespacedCustomObject({ ...query, namespace })
      ) as { items: KubeTopic[]; metadata: { resourceVersion: string; continue?: string } };
      const { resourceVersion, continue: after = "" } = page.metadata;
      return {
        kind: "listed",
        topics: page.items.map(kept),
        resourceVersion,
        next: after,
      } as ListOutcome;
    } catch (error) {
      return statusOf(error) === EXPIRED ? ({ kind: "expired" } as const) : failureOf(error);
    }
  }

  watch(
    { namespace, labelSelector }: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
  ): Promise<WatchEnd> {
    const watch = new Watch(this.#config);
    // The library's own half a minute is shorter than the time between two bookmarks.
    Object.assign(watch, { requestTimeoutMs: SILENCE_MS });
    const within = namespace === undefined ? "" : `/namespaces/${namespace}`;
    const path = `/apis/${GROUP}/${VERSION}${within}/${TOPICS.plural}`;
    const query = {
      ...{ resourceVersion, allowWatchBookmarks: true, timeoutSeconds: WATCH_SECONDS },
      ...(labelSelector && { labelSelector }),
    };
    return new Promise((resolve) => {
      let told: WatchEnd = { kind: "ended" };
      const event = (type: string, object: unknown): void => {
        if (type === "ERROR") {
          const { code, message } = object as { code?: number; message?: string };
          told =
            code === EXPIRED
              ? { kind: "expired" }
              : { kind: "failed", reason: message ?? "an error without words" };
        } else if (type === "BOOKMARK") {
          onEvent({ type, resourceVersion: (object as KubeTopic).metadata.resourceVersion });
        } else onEvent({ type: type as "ADDED", topic: kept(object as KubeTopic) });
      };
      const done = (error: unknown): void => {
        signal.removeEventListener("abort", stop);
        if (signal.aborted) resolve({ kind: "ended" });
        else if (!error) resolve(told);
        else resolve(statusOf(error) === EXPIRED ? { kind: "expired" } : failureOf(error));
      };
      const begun = watch.watch(path, query, event, done).catch(done);
      const stop = (): void => void begun.then((controller) => controller?.abort());
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop);
    });
  }

  async find(namespace: string, name: string) {
    try {
      const topic = await this.#objects.getNamespacedCustomObject({ ...TOPICS, namespace, name });
      return { kind: "found" as const, topic: kept(topic as KubeTopic) };
    } catch (error) {
      return statusOf(error) === 404 ? { kind: "gone" as const } : failureOf(error);
    }
  }

  isTerminating(namespace: string): Promise<boolean> {
    const nowMs = this.#options.clock.now();
    const known = this.#namespaces.get(namespace);
    if (known && nowMs < known.untilMs) return known.ends;
    const ends = this.#core.readNamespace({ name: namespace }).then(
      ({ metadata }) => metadata?.deletionTimestamp !== undefined,
      () => false,
    );
    this.#namespaces.set(namespace, { untilMs: nowMs + NAMESPACE_MS, ends });
    return ends;
  }

  async tell(topic: KubeTopic, { type, reason, note }: TopicEvent): Promise<void> {
    const { namespace, name, uid, resourceVersion } = topic.metadata;
    const body = {
      metadata: { generateName: `${name}-`, namespace },
      ...{ type, reason, action: "Reconcile", eventTime: new V1MicroTime() },
      note: note.length > MAX_NOTE_LENGTH ? `${note.slice(0, MAX_NOTE_LENGTH - 1)}…` : note,
      ...{ reportingController: CONTROLLER, reportingInstance: this.#options.identity },
      regarding: { apiVersion: API_VERSION, kind: "Topic", namespace, name, uid, resourceVersion },
    };
    try {
      await this.#events.createNamespacedEvent({ namespace, body });
    } catch (error) {
      this.#options.onUntold(nameOf(topic), failureOf(error).reason);
    }
  }

  patchStatus(topic: KubeTopic, status: KubeStatus): Promise<PatchOutcome> {
    return patched(() =>
      this.#objects.patchNamespacedCustomObjectStatus(
        { ...TOPICS, ...placeOf(topic), body: { metadata: ofUid(topic), status } },
        MERGE,
      ),
    );
  }

  patchFinalizers(topic: KubeTopic, finalizers: readonly string[]): Promise<PatchOutcome> {
    const { resourceVersion } = topic.metadata;
    return patched(() =>
      this.#objects.patchNamespacedCustomObject(
        {
          ...{ ...TOPICS, ...placeOf(topic) },
          body: { metadata: { ...ofUid(topic), resourceVersion, finalizers } },
        },
        MERGE,
      ),
    );
  }
}

const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);

/** Of ten thousand Topics, what nobody asks for is most: who set which field, what was applied last. */
function kept({ metadata, spec, status, ...of }: KubeTopic): KubeTopic {
  const { name, namespace, uid, generation, resourceVersion } = metadata;
  const { annotations = {}, finalizers, creationTimestamp, deletionTimestamp } = metadata;
  const ours = Object.entries(annotations).filter(([key]) => key.startsWith(`${GROUP}/`));
  return {
    ...of,
    metadata: {
      ...{ name, namespace, uid, generation, resourceVersion },
      ...(ours.length > 0 && { annotations: Object.fromEntries(ours) }),
      ...(finalizers && { finalizers }),
      ...(creationTimestamp && { creationTimestamp }),
      ...(deletionTimestamp && { deletionTimestamp }),
    },
    spec,
    ...(status && { status }),
  };
}

function placeOf({ metadata }: KubeTopic): { namespace: string; name: string } {
  return { namespace: metadata.namespace, name: metadata.name };
}

/** A Topic of the same name that was made since is another: the server refuses the patch then. */
function ofUid({ metadata: { uid } }: KubeTopic): { uid: string } {
  return { uid };
}

async function patched(patch: () => Promise<unknown>): Promise<PatchOutcome> {
  try {
    return { kind: "patched", topic: kept((await patch()) as KubeTopic) };
  } catch (error) {
    const code = statusOf(error);
    if (code === 404) return { kind: "gone" };
    if (code === 409) return { kind: "conflict" };
    return failureOf(error);
  }
}
