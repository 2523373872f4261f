/** Topics at a real API server. */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Clock } from "../../process/clock.ts";
import { API_VERSION, GROUP } from "../topic-schema.ts";
import { nameOf } from "../topic-spec.ts";
import { failureOf, statusOf } from "./api-error.ts";
import { type CountRequest, KubeClient, microTime } from "./kube-client.ts";
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

const TOPICS = `/apis/${API_VERSION}`;
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
  readonly #options: KubeTopicApiOptions;
  readonly #client: KubeClient;
  readonly #namespaces = new Map<
    string,
    { readonly untilMs: number; readonly ends: Promise<boolean> }
  >();

  #telling: Promise<void> = Promise.resolve();

  constructor(config: KubeConfig, options: KubeTopicApiOptions) {
    this.#options = options;
    this.#client = new KubeClient(config, REQUEST_MS, options.count);
  }

  async list(
    { namespace, labelSelector }: WatchScope,
    limit: number,
    next: string,
  ): Promise<ListOutcome> {
    const query = { limit, labelSelector: labelSelector || undefined, continue: next || undefined };
    try {
      const page = await this.#client.get<{
        items: KubeTopic[];
        metadata: { resourceVersion: string; continue?: string };
      }>(placeOf(namespace), query);
      const { resourceVersion, continue: after = "" } = page.metadata;
      return { kind: "listed", topics: page.items.map(kept), resourceVersion, next: after };
    } catch (error) {
      return statusOf(error) === EXPIRED ? { kind: "expired" } : failureOf(error);
    }
  }

  async watch(
    { namespace, labelSelector }: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
  ): Promise<WatchEnd> {
    const query = {
      ...{ resourceVersion, allowWatchBookmarks: true, timeoutSeconds: WATCH_SECONDS },
      labelSelector: labelSelector || undefined,
    };
    let told: WatchEnd = { kind: "ended" };
    const event = ({ type, object }: { type: string; object: unknown }): void => {
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
    try {
      const options = { onEvent: event, silenceMs: SILENCE_MS, signal };
      await this.#client.watch(placeOf(namespace), query, options);
      return told;
    } catch (error) {
      if (signal.aborted) return { kind: "ended" };
      return statusOf(error) === EXPIRED ? { kind: "expired" } : failureOf(error);
    }
  }

  async find(namespace: string, name: string) {
    try {
      const topic = await this.#client.get<KubeTopic>(placeOf(namespace, name));
      return { kind: "found" as const, topic: kept(topic) };
    } catch (error) {
      return statusOf(error) === 404 ? { kind: "gone" as const } : failureOf(error);
    }
  }

  isTerminating(namespace: string): Promise<boolean> {
    const nowMs = this.#options.clock.now();
    const known = this.#namespaces.get(namespace);
    if (known && nowMs < known.untilMs) return known.ends;
    const path = `/api/v1/namespaces/${namespace}`;
    const ends = this.#client.get<{ metadata: { deletionTimestamp?: string } }>(path).then(
      ({ metadata }) => metadata.deletionTimestamp !== undefined,
      () => false,
    );
    this.#namespaces.set(namespace, { untilMs: nowMs + NAMESPACE_MS, ends });
    return ends;
  }

  /** One after the other: the API server has more to do for what waits for it. */
  tell(topic: KubeTopic, event: TopicEvent): Promise<void> {
    this.#telling = this.#telling.then(() => this.#tell(topic, event));
    return this.#telling;
  }

  async #tell(topic: KubeTopic, { type, reason, note }: TopicEvent): Promise<void> {
    const { namespace, name, uid, resourceVersion } = topic.metadata;
    const body = {
      metadata: { generateName: `${name}-`, namespace },
      ...{ type, reason, action: "Reconcile", eventTime: microTime(new Date()) },
      note: note.length > MAX_NOTE_LENGTH ? `${note.slice(0, MAX_NOTE_LENGTH - 1)}…` : note,
      ...{ reportingController: CONTROLLER, reportingInstance: this.#options.identity },
      regarding: { apiVersion: API_VERSION, kind: "Topic", namespace, name, uid, resourceVersion },
    };
    try {
      await this.#client.send(
        "POST",
        `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
        body,
      );
    } catch (error) {
      this.#options.onUntold(nameOf(topic), failureOf(error).reason);
    }
  }

  patchStatus(topic: KubeTopic, status: KubeStatus): Promise<PatchOutcome> {
    return this.#patch(topic, "/status", { metadata: ofUid(topic), status });
  }

  patchFinalizers(topic: KubeTopic, finalizers: readonly string[]): Promise<PatchOutcome> {
    const { resourceVersion } = topic.metadata;
    return this.#patch(topic, "", {
      metadata: { ...ofUid(topic), resourceVersion, finalizers },
    });
  }

  async #patch({ metadata }: KubeTopic, part: string, body: object): Promise<PatchOutcome> {
    const { namespace, name } = metadata;
    try {
      await this.#client.send("PATCH", `${placeOf(namespace, name)}${part}`, body);
      return { kind: "patched" };
    } catch (error) {
      const code = statusOf(error);
      if (code === 404) return { kind: "gone" };
      if (code === 409) return { kind: "conflict" };
      return failureOf(error);
    }
  }
}

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

/** Of all Topics, of a namespace's, or of one. */
function placeOf(namespace?: string, name?: string): string {
  const within = namespace === undefined ? "" : `/namespaces/${namespace}`;
  return `${TOPICS}${within}/topics${name === undefined ? "" : `/${name}`}`;
}

/** A Topic of the same name that was made since is another: the server refuses the patch then. */
function ofUid({ metadata: { uid } }: KubeTopic): { uid: string } {
  return { uid };
}
