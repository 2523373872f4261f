/** An API server in memory: versions, watches with a short memory, conflicts, and faults on command. */
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
} from "../../../operator/kube/resource-api.ts";

interface Watcher<Resource> {
  readonly scope: WatchScope;
  readonly onEvent: (event: WatchEvent<Resource>) => void;
  readonly end: (how: WatchEnd) => void;
}

export class MemoryResourceApi<Resource extends KubeResource> implements ResourceApi<Resource> {
  readonly resources = new Map<string, Resource>();
  readonly watchers = new Set<Watcher<Resource>>();
  readonly calls: string[] = [];
  /** Events: `<name> <type> <reason>: <note>`. */
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
  readonly #events: { readonly version: number; readonly event: WatchEvent<Resource> }[] = [];

  put(
    name: string,
    spec: Resource["spec"],
    metadata: Partial<KubeResource["metadata"]> = {},
  ): void {
    const known = this.resources.get(name);
    const [namespace = "", short = ""] = name.split("/");
    const sameSpec = JSON.stringify(known?.spec) === JSON.stringify(spec);
    this.#store(known ? "MODIFIED" : "ADDED", {
      metadata: {
        ...{ uid: `uid-${++this.#version}`, generation: 0 },
        ...known?.metadata,
        ...{ namespace, name: short, resourceVersion: "" },
        ...metadata,
        ...(!sameSpec && { generation: (known?.metadata.generation ?? 0) + 1 }),
      },
      spec,
      ...(known?.status && { status: known.status }),
    } as Resource);
  }

  /** As `kubectl delete`: gone at once, or when its last finalizer goes. */
  delete(name: string): void {
    const resource = this.resources.get(name);
    if (!resource) return;
    if ((resource.metadata.finalizers ?? []).length === 0) this.#remove(resource);
    else this.put(name, resource.spec, { deletionTimestamp: "2026-01-01T00:00:00Z" });
  }

  /** As a label selector does whose labels it does not have any more: told as deleted, and still there. */
  hide(name: string): void {
    const resource = this.resources.get(name) as Resource;
    this.#tell({ type: "DELETED", resource });
  }

  /** Forgets events: who asks for what came after an older version is told that it expired. */
  compact(): void {
    this.#oldest = this.#version;
  }

  endWatches(how: WatchEnd): void {
    for (const watcher of [...this.watchers]) watcher.end(how);
  }

  async list(scope: WatchScope, limit: number, next: string): Promise<ListOutcome<Resource>> {
    this.calls.push("list");
    if (this.failing === "list") return { kind: "failed", reason: "no answer" };
    const all = [...this.resources.values()].filter((resource) => isIn(scope, resource));
    const from = Number(next || 0);
    const more = from + limit < all.length ? String(from + limit) : "";
    const page = all.slice(from, from + limit);
    return { kind: "listed", resources: page, resourceVersion: String(this.#version), next: more };
  }

  watch(
    scope: WatchScope,
    resourceVersion: string,
    onEvent: (event: WatchEvent<Resource>) => void,
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
      const watcher: Watcher<Resource> = {
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

  async find(namespace: string, name: string): Promise<FindOutcome<Resource>> {
    this.calls.push("find");
    const resource = this.resources.get(`${namespace}/${name}`);
    return resource ? { kind: "found", resource } : { kind: "gone" };
  }

  async isTerminating(namespace: string): Promise<boolean> {
    return this.terminating.has(namespace);
  }

  async tell(resource: Resource, { type, reason, note }: ToldEvent): Promise<void> {
    this.told.push(`${nameOf(resource)} ${type} ${reason}: ${note}`);
  }

  async patchStatus(
    resource: Resource,
    status: NonNullable<Resource["status"]>,
  ): Promise<PatchOutcome> {
    this.calls.push("status");
    const known = this.resources.get(nameOf(resource));
    if (known?.metadata.uid !== resource.metadata.uid) return { kind: "gone" };
    const merged = { ...known.status, ...status };
    this.#store("MODIFIED", { ...known, status: merged });
    return { kind: "patched" };
  }

  async patchFinalizers(resource: Resource, finalizers: readonly string[]): Promise<PatchOutcome> {
    this.calls.push("finalizers");
    const known = this.resources.get(nameOf(resource));
    if (known?.metadata.uid !== resource.metadata.uid) return { kind: "gone" };
    if (known.metadata.resourceVersion !== resource.metadata.resourceVersion)
      return { kind: "conflict" };
    const changed = { ...known, metadata: { ...known.metadata, finalizers } };
    if (known.metadata.deletionTimestamp !== undefined && finalizers.length === 0) {
      this.#remove(changed);
    } else this.#store("MODIFIED", changed);
    return { kind: "patched" };
  }

  #store(type: "ADDED" | "MODIFIED", resource: Resource): void {
    const resourceVersion = String(++this.#version);
    const stored = { ...resource, metadata: { ...resource.metadata, resourceVersion } };
    this.resources.set(nameOf(stored), stored);
    this.#tell({ type, resource: stored });
  }

  #remove(resource: Resource): void {
    const resourceVersion = String(++this.#version);
    this.resources.delete(nameOf(resource));
    const last = { ...resource, metadata: { ...resource.metadata, resourceVersion } };
    this.#tell({ type: "DELETED", resource: last });
  }

  #tell(event: Extract<WatchEvent<Resource>, { resource: Resource }>): void {
    this.#events.push({ version: this.#version, event });
    for (const { scope, onEvent } of [...this.watchers])
      if (isIn(scope, event.resource)) onEvent(event);
  }
}

function isIn({ namespace }: WatchScope, { metadata }: KubeResource): boolean {
  return namespace === undefined || namespace === metadata.namespace;
}

function nameOf({ metadata: { namespace, name } }: KubeResource): string {
  return `${namespace}/${name}`;
}
