/** An API server in memory: versions, watches with a short memory, conflicts, and faults on command. */
import type {
  ListOutcome,
  PatchOutcome,
  ToldEvent,
  WatchEnd,
  WatchEvent,
  WatchScope,
} from "../../../operator/kube/resource-api.ts";
import type { KubeStatus, KubeTopic, TopicApi } from "../../../operator/kube/topic-api.ts";
import type { TopicSpec } from "../../../operator/topic-schema.ts";
import { nameOf } from "../../../operator/topic-spec.ts";

interface Watcher {
  readonly scope: WatchScope;
  readonly onEvent: (event: WatchEvent<KubeTopic>) => void;
  readonly end: (how: WatchEnd) => void;
}

export class MemoryTopicApi implements TopicApi {
  readonly topics = new Map<string, KubeTopic>();
  readonly watchers = new Set<Watcher>();
  readonly calls: string[] = [];
  /** Events: `<Topic> <type> <reason>: <note>`. */
  readonly told: string[] = [];
  /** Namespaces that are being deleted. */
  readonly terminating = new Set<string>();
  /** Answers of this call fail so long. */
  failing: string | undefined;
  /** Of the last watch that was asked for. */
  signal: AbortSignal | undefined;
  #version = 0;
  /** What came after a version older than this is forgotten. */
  #oldest = 0;
  readonly #events: { readonly version: number; readonly event: WatchEvent<KubeTopic> }[] = [];

  put(name: string, spec: TopicSpec, metadata: Partial<KubeTopic["metadata"]> = {}): void {
    const known = this.topics.get(name);
    const [namespace = "", short = ""] = name.split("/");
    const sameSpec = JSON.stringify(known?.spec) === JSON.stringify(spec);
    this.#store(known ? "MODIFIED" : "ADDED", {
      metadata: {
        ...{ uid: `uid-${++this.#version}`, generation: 0 },
        ...known?.metadata,
        ...{ namespace, name: short, resourceVersion: "" },
        ...metadata,
        ...(!sameSpec && { generation: (known?.metadata.generation ?? 0) + 1 }),
      } as KubeTopic["metadata"],
      spec,
      ...(known?.status && { status: known.status }),
    });
  }

  /** As `kubectl delete`: gone at once, or when its last finalizer goes. */
  delete(name: string): void {
    const topic = this.topics.get(name);
    if (!topic) return;
    if ((topic.metadata.finalizers ?? []).length === 0) this.#remove(topic);
    else this.put(name, topic.spec, { deletionTimestamp: "2026-01-01T00:00:00Z" });
  }

  /** As a label selector does whose labels it does not have any more: told as deleted, and still there. */
  hide(name: string): void {
    const topic = this.topics.get(name) as KubeTopic;
    this.#tell({ type: "DELETED", resource: topic });
  }

  /** Forgets events: who asks for what came after an older version is told that it expired. */
  compact(): void {
    this.#oldest = this.#version;
  }

  endWatches(how: WatchEnd): void {
    for (const watcher of [...this.watchers]) watcher.end(how);
  }

  async list(scope: WatchScope, limit: number, next: string): Promise<ListOutcome<KubeTopic>> {
    this.calls.push("list");
    if (this.failing === "list") return { kind: "failed", reason: "no answer" };
    const all = [...this.topics.values()].filter((topic) => isIn(scope, topic));
    const from = Number(next || 0);
    const more = from + limit < all.length ? String(from + limit) : "";
    const page = all.slice(from, from + limit);
    return { kind: "listed", resources: page, resourceVersion: String(this.#version), next: more };
  }

  watch(
    scope: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent<KubeTopic>) => void,
    signal: AbortSignal,
  ): Promise<WatchEnd> {
    this.calls.push(`watch ${resourceVersion}`);
    this.signal = signal;
    if (this.failing === "watch")
      return Promise.resolve({ kind: "failed", reason: "connection refused" });
    if (Number(resourceVersion) < this.#oldest) return Promise.resolve({ kind: "expired" });
    for (const { version, event } of this.#events)
      if (version > Number(resourceVersion) && "resource" in event && isIn(scope, event.resource))
        onEvent(event);
    return new Promise((resolve) => {
      const watcher: Watcher = {
        ...{ scope, onEvent },
        end: (how) => {
          this.watchers.delete(watcher);
          resolve(how);
        },
      };
      this.watchers.add(watcher);
      signal.addEventListener("abort", () => watcher.end({ kind: "ended" }), { once: true });
    });
  }

  async find(namespace: string, name: string) {
    this.calls.push("find");
    const topic = this.topics.get(`${namespace}/${name}`);
    return topic ? ({ kind: "found", resource: topic } as const) : ({ kind: "gone" } as const);
  }

  async isTerminating(namespace: string): Promise<boolean> {
    return this.terminating.has(namespace);
  }

  async tell(topic: KubeTopic, { type, reason, note }: ToldEvent): Promise<void> {
    this.told.push(`${nameOf(topic)} ${type} ${reason}: ${note}`);
  }

  async patchStatus(topic: KubeTopic, status: KubeStatus): Promise<PatchOutcome> {
    this.calls.push("status");
    const known = this.topics.get(nameOf(topic));
    if (known?.metadata.uid !== topic.metadata.uid) return { kind: "gone" };
    const merged = { ...known.status, ...status };
    this.#store("MODIFIED", { ...known, status: merged });
    return { kind: "patched" };
  }

  async patchFinalizers(topic: KubeTopic, finalizers: readonly string[]): Promise<PatchOutcome> {
    this.calls.push("finalizers");
    const known = this.topics.get(nameOf(topic));
    if (known?.metadata.uid !== topic.metadata.uid) return { kind: "gone" };
    if (known.metadata.resourceVersion !== topic.metadata.resourceVersion)
      return { kind: "conflict" };
    const changed = { ...known, metadata: { ...known.metadata, finalizers } };
    if (known.metadata.deletionTimestamp !== undefined && finalizers.length === 0) {
      this.#remove(changed);
    } else this.#store("MODIFIED", changed);
    return { kind: "patched" };
  }

  #store(type: "ADDED" | "MODIFIED", topic: KubeTopic): void {
    const resourceVersion = String(++this.#version);
    const stored = { ...topic, metadata: { ...topic.metadata, resourceVersion } };
    this.topics.set(nameOf(stored), stored);
    this.#tell({ type, resource: stored });
  }

  #remove(topic: KubeTopic): void {
    const resourceVersion = String(++this.#version);
    this.topics.delete(nameOf(topic));
    const last = { ...topic, metadata: { ...topic.metadata, resourceVersion } };
    this.#tell({ type: "DELETED", resource: last });
  }

  #tell(event: Extract<WatchEvent<KubeTopic>, { resource: KubeTopic }>): void {
    this.#events.push({ version: this.#version, event });
    for (const { scope, onEvent } of [...this.watchers])
      if (isIn(scope, event.resource)) onEvent(event);
  }
}

function isIn({ namespace }: WatchScope, { metadata }: KubeTopic): boolean {
  return namespace === undefined || namespace === metadata.namespace;
}
