/** All objects of a kind in an operator's scopes: one watch for all namespaces, or one for each that was named. */
import type { KubeResource } from "./resource-api.ts";
import { ResourceWatch, type ResourceWatchOptions } from "./resource-watch.ts";

export interface ResourceWatchesOptions<Resource extends KubeResource>
  extends Omit<ResourceWatchOptions<Resource>, "scope"> {
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly labelSelector: string;
}

export class ResourceWatches<Resource extends KubeResource> {
  readonly listed: Promise<void>;
  areListed = false;
  readonly #watches: readonly ResourceWatch<Resource>[];

  constructor({ namespaces, labelSelector, ...rest }: ResourceWatchesOptions<Resource>) {
    this.#watches = (namespaces ?? [undefined]).map(
      (namespace) => new ResourceWatch({ ...rest, scope: { namespace, labelSelector } }),
    );
    this.listed = Promise.all(this.#watches.map(({ listed }) => listed)).then(() => {
      this.areListed = true;
    });
  }

  /** Of the one that is idle for longest. */
  get idleMs(): number {
    return Math.max(...this.#watches.map(({ idleMs }) => idleMs));
  }

  start(): void {
    for (const watch of this.#watches) watch.start();
  }

  async close(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.close()));
  }
}
