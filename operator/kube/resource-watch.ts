/**
 * Follows the objects of one kind and scope: lists them, then watches from there on, for ever. What it knows is
 * in `resources`; `changed` says which to look at again.
 *
 * Every end names the next state:
 *   list   → listed: watch; expired: list; failed: list after a pause
 *   watch  → ended: watch from the last version; expired: list; failed: watch after a pause, and after
 *            some failures in a row list, since a version may be what the server cannot take
 *
 * Invariants:
 * - W1 Between a list and the end of its watch no change is missed: the watch begins at the list's version.
 * - W2 After a list, what it does not have is known to be gone: nothing stays for want of a DELETED event.
 */
import type { Clock } from "../../process/clock.ts";
import { backoffMs, pause } from "../pauses.ts";
import type { KubeResource, ResourceApi, WatchEvent, WatchScope } from "./resource-api.ts";

const PAGE = 500;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;
const FAILURES_UNTIL_LIST = 3;

export interface ResourceWatchOptions<Resource extends KubeResource> {
  readonly api: Pick<ResourceApi<Resource>, "list" | "watch">;
  readonly scope: WatchScope;
  /** What they are called, for people: "Topics". */
  readonly kinds: string;
  /** By `<namespace>/<name>`; other scopes' are there too. */
  readonly resources: Map<string, Resource>;
  readonly clock: Clock;
  /** 0 to 1. */
  readonly random: () => number;
  /** `<namespace>/<name>`: it is new, another, or gone. */
  readonly changed: (name: string) => void;
  /** Each list and each watch that begins. */
  readonly onBegin: (what: "list" | "watch") => void;
  /** Each failure that begins a pause. */
  readonly onTrouble: (message: string) => void;
}

export class ResourceWatch<Resource extends KubeResource> {
  readonly #resources: Map<string, Resource>;
  readonly #options: ResourceWatchOptions<Resource>;
  readonly #abort = new AbortController();
  #version = "";
  #failures = 0;
  #turnMs: number;
  readonly #listed = Promise.withResolvers<void>();
  #running: Promise<void> | undefined;

  constructor(options: ResourceWatchOptions<Resource>) {
    this.#options = options;
    this.#resources = options.resources;
    this.#turnMs = options.clock.now();
  }

  /** Resolves when all are known for the first time. */
  get listed(): Promise<void> {
    return this.#listed.promise;
  }

  /** Since it last began a list, a watch or a pause. The server ends a watch by itself: a stuck loop shows here. */
  get idleMs(): number {
    return this.#options.clock.now() - this.#turnMs;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    let state: "list" | "watch" = "list";
    while (!this.#abort.signal.aborted) {
      this.#turnMs = this.#options.clock.now();
      this.#options.onBegin(state);
      state = state === "list" ? await this.#list() : await this.#watch();
    }
  }

  async #list(): Promise<"list" | "watch"> {
    const { api, scope, kinds } = this.#options;
    const found = new Map<string, Resource>();
    for (let next = ""; ; ) {
      const page = await api.list(scope, PAGE, next);
      if (page.kind === "expired") return "list";
      if (page.kind === "failed") {
        await this.#pause(`${kinds} cannot be listed: ${page.reason}`);
        return "list";
      }
      for (const one of page.resources) found.set(nameOf(one), one);
      this.#version = page.resourceVersion;
      next = page.next;
      if (next === "") break;
    }
    this.#failures = 0;
    for (const [name, { metadata }] of [...this.#resources]) {
      const isOurs = scope.namespace === undefined || metadata.namespace === scope.namespace;
      if (isOurs && !found.has(name)) this.#remove(name);
    }
    for (const one of found.values()) this.#put(one);
    this.#listed.resolve();
    return "watch";
  }

  async #watch(): Promise<"list" | "watch"> {
    const { api, scope, kinds } = this.#options;
    const { signal } = this.#abort;
    const end = await api.watch(scope, this.#version, (event) => this.#take(event), signal);
    if (end.kind === "ended") return "watch";
    if (end.kind === "expired") return "list";
    await this.#pause(`The watch of ${kinds} broke: ${end.reason}`);
    return this.#failures >= FAILURES_UNTIL_LIST ? "list" : "watch";
  }

  #take(event: WatchEvent<Resource>): void {
    this.#failures = 0;
    if (event.type === "BOOKMARK") {
      this.#version = event.resourceVersion;
      return;
    }
    const { resource } = event;
    this.#version = resource.metadata.resourceVersion;
    if (event.type === "DELETED") this.#remove(nameOf(resource));
    else this.#put(resource);
  }

  #put(resource: Resource): void {
    const name = nameOf(resource);
    const known = this.#resources.get(name);
    this.#resources.set(name, resource);
    if (known === undefined || wish(known) !== wish(resource)) this.#options.changed(name);
  }

  #remove(name: string): void {
    if (this.#resources.delete(name)) this.#options.changed(name);
  }

  #pause(trouble: string): Promise<void> {
    const { clock, random, onTrouble } = this.#options;
    const { signal } = this.#abort;
    if (signal.aborted) return Promise.resolve();
    onTrouble(trouble);
    const ms = backoffMs(this.#failures++, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, random);
    return pause(clock, ms, signal);
  }
}

function nameOf({ metadata: { namespace, name } }: KubeResource): string {
  return `${namespace}/${name}`;
}

/** What of it asks for work; a change of its status alone does not. */
function wish({ metadata, spec }: KubeResource): string {
  const { uid, annotations, finalizers, deletionTimestamp } = metadata;
  return JSON.stringify([uid, spec, annotations, finalizers, deletionTimestamp]);
}
