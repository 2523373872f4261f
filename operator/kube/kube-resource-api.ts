/** Objects of one kind of ours at a real API server. */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Clock } from "../../process/clock.ts";
import { API_VERSION, GROUP } from "../topic-schema.ts";
import { failureOf, statusOf } from "./api-error.ts";
import { type CountRequest, KubeClient, microTime } from "./kube-client.ts";
import type {
  FindOutcome,
  KubeResource,
  ListOutcome,
  PatchOutcome,
  ResourceApi,
  ToldEvent,
  WatchEnd,
  WatchEvent,
  WatchScope,
} from "./resource-api.ts";

const OURS = `/apis/${API_VERSION}`;
/** The server ends a watch by itself after so long; a bookmark comes every minute or so. */
const WATCH_SECONDS = 290;
/** Without a byte for so long the connection is taken for dead. */
const SILENCE_MS = 120_000;
const EXPIRED = 410;
const REQUEST_MS = 30_000;
/** For so long a look at a namespace is good for its other objects too. */
const NAMESPACE_MS = 5000;
const MAX_NOTE_LENGTH = 1024;
const CONTROLLER = `${GROUP}/operator`;

export interface KubeResourceApiOptions {
  /** As it is written: "Topic"; its plural in paths is regular. */
  readonly kind: string;
  /** Of this process, in Events; at most 128 characters. */
  readonly identity: string;
  readonly count: CountRequest;
  readonly clock: Clock;
  /** An Event was not written. */
  readonly onUntold: (name: string, reason: string) => void;
}

export class KubeResourceApi<Resource extends KubeResource> implements ResourceApi<Resource> {
  readonly #options: KubeResourceApiOptions;
  readonly #client: KubeClient;
  readonly #namespaces = new Map<
    string,
    { readonly untilMs: number; readonly ends: Promise<boolean> }
  >();

  #telling: Promise<void> = Promise.resolve();

  constructor(config: KubeConfig, options: KubeResourceApiOptions) {
    this.#options = options;
    this.#client = new KubeClient(config, REQUEST_MS, options.count);
  }

  async list(
    { namespace, labelSelector }: WatchScope,
    limit: number,
    next: string,
  ): Promise<ListOutcome<Resource>> {
    const query = { limit, labelSelector: labelSelector || undefined, continue: next || undefined };
    try {
      const page = await this.#client.get<{
        items: Resource[];
        metadata: { resourceVersion: string; continue?: string };
      }>(this.#placeOf(namespace), query);
      const { resourceVersion, continue: after = "" } = page.metadata;
      const resources = page.items.map((one) => kept(one));
      return { kind: "listed", resources, resourceVersion, next: after };
    } catch (error) {
      return statusOf(error) === EXPIRED ? { kind: "expired" } : failureOf(error);
    }
  }

  async watch(
    { namespace, labelSelector }: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent<Resource>) => void,
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
        onEvent({ type, resourceVersion: (object as Resource).metadata.resourceVersion });
      } else onEvent({ type: type as "ADDED", resource: kept(object as Resource) });
    };
    try {
      const options = { onEvent: event, silenceMs: SILENCE_MS, signal };
      await this.#client.watch(this.#placeOf(namespace), query, options);
      return told;
    } catch (error) {
      if (signal.aborted) return { kind: "ended" };
      return statusOf(error) === EXPIRED ? { kind: "expired" } : failureOf(error);
    }
  }

  async find(namespace: string, name: string): Promise<FindOutcome<Resource>> {
    try {
      const found = await this.#client.get<Resource>(this.#placeOf(namespace, name));
      return { kind: "found", resource: kept(found) };
    } catch (error) {
      return statusOf(error) === 404 ? { kind: "gone" } : failureOf(error);
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
  tell(resource: Resource, event: ToldEvent): Promise<void> {
    this.#telling = this.#telling.then(() => this.#tell(resource, event));
    return this.#telling;
  }

  async #tell(resource: Resource, { type, reason, note }: ToldEvent): Promise<void> {
    const { kind, identity } = this.#options;
    const { namespace, name, uid, resourceVersion } = resource.metadata;
    const body = {
      metadata: { generateName: `${name}-`, namespace },
      ...{ type, reason, action: "Reconcile", eventTime: microTime(new Date()) },
      note: note.length > MAX_NOTE_LENGTH ? `${note.slice(0, MAX_NOTE_LENGTH - 1)}…` : note,
      ...{ reportingController: CONTROLLER, reportingInstance: identity },
      regarding: { apiVersion: API_VERSION, kind, namespace, name, uid, resourceVersion },
    };
    try {
      await this.#client.send(
        "POST",
        `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
        body,
      );
    } catch (error) {
      this.#options.onUntold(`${namespace}/${name}`, failureOf(error).reason);
    }
  }

  patchStatus(resource: Resource, status: NonNullable<Resource["status"]>): Promise<PatchOutcome> {
    return this.#patch(resource, "/status", { metadata: ofUid(resource), status });
  }

  patchFinalizers(resource: Resource, finalizers: readonly string[]): Promise<PatchOutcome> {
    const { resourceVersion } = resource.metadata;
    return this.#patch(resource, "", {
      metadata: { ...ofUid(resource), resourceVersion, finalizers },
    });
  }

  async #patch({ metadata }: Resource, part: string, body: object): Promise<PatchOutcome> {
    const { namespace, name } = metadata;
    try {
      await this.#client.send("PATCH", `${this.#placeOf(namespace, name)}${part}`, body);
      return { kind: "patched" };
    } catch (error) {
      const code = statusOf(error);
      if (code === 404) return { kind: "gone" };
      if (code === 409) return { kind: "conflict" };
      return failureOf(error);
    }
  }

  /** Of all, of a namespace's, or of one. */
  #placeOf(namespace?: string, name?: string): string {
    const within = namespace === undefined ? "" : `/namespaces/${namespace}`;
    return `${OURS}${within}/${pluralOf(this.#options.kind)}${name === undefined ? "" : `/${name}`}`;
  }
}

function pluralOf(kind: string): string {
  const name = kind.toLowerCase();
  return name.endsWith("x") ? `${name}es` : `${name}s`;
}

/** Of ten thousand Topics, what nobody asks for is most: who set which field, what was applied last. */
function kept<Resource extends KubeResource>({ metadata, ...of }: Resource): Resource {
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
  } as Resource;
}

/** One of the same name that was made since is another: the server refuses the patch then. */
function ofUid({ metadata: { uid } }: KubeResource): { uid: string } {
  return { uid };
}
