/** Topics at a real API server, through the Kubernetes client. */
import {
  CustomObjectsApi,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  Watch,
} from "@kubernetes/client-node";
import { GROUP } from "../topic-schema.ts";
import { failureOf, statusOf } from "./api-error.ts";
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

const VERSION = "v1alpha1";
const TOPICS = { group: GROUP, version: VERSION, plural: "topics" };
/** The server ends a watch by itself after so long; a bookmark comes every minute or so. */
const WATCH_SECONDS = 290;
/** Without a byte for so long the connection is taken for dead. */
const SILENCE_MS = 120_000;
const EXPIRED = 410;

export class KubeTopicApi implements TopicApi {
  readonly #config: KubeConfig;
  readonly #objects: CustomObjectsApi;

  constructor(config: KubeConfig) {
    this.#config = config;
    this.#objects = config.makeApiClient(CustomObjectsApi);
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
      return { kind: "listed", topics: page.items, resourceVersion, next: after } as ListOutcome;
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
        } else onEvent({ type: type as "ADDED", topic: object as KubeTopic });
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
      await this.#objects.getNamespacedCustomObject({ ...TOPICS, namespace, name });
      return { kind: "found" as const };
    } catch (error) {
      return statusOf(error) === 404 ? { kind: "gone" as const } : failureOf(error);
    }
  }

  patchStatus(topic: KubeTopic, status: KubeStatus): Promise<PatchOutcome> {
    return patched(() =>
      this.#objects.patchNamespacedCustomObjectStatus(
        { ...TOPICS, ...nameOf(topic), body: { metadata: ofUid(topic), status } },
        MERGE,
      ),
    );
  }

  patchFinalizers(topic: KubeTopic, finalizers: readonly string[]): Promise<PatchOutcome> {
    const { resourceVersion } = topic.metadata;
    return patched(() =>
      this.#objects.patchNamespacedCustomObject(
        {
          ...{ ...TOPICS, ...nameOf(topic) },
          body: { metadata: { ...ofUid(topic), resourceVersion, finalizers } },
        },
        MERGE,
      ),
    );
  }
}

const MERGE = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);

function nameOf({ metadata: { namespace, name } }: KubeTopic): { namespace: string; name: string } {
  return { namespace, name };
}

/** A Topic of the same name that was made since is another: the server refuses the patch then. */
function ofUid({ metadata: { uid } }: KubeTopic): { uid: string } {
  return { uid };
}

async function patched(patch: () => Promise<unknown>): Promise<PatchOutcome> {
  try {
    return { kind: "patched", topic: (await patch()) as KubeTopic };
  } catch (error) {
    const code = statusOf(error);
    if (code === 404) return { kind: "gone" };
    if (code === 409) return { kind: "conflict" };
    return failureOf(error);
  }
}
