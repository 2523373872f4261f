/** The Topics of all scopes of an operator: one watch for all namespaces, or one for each that was named. */
import type { Clock } from "../../process/clock.ts";
import { IndexedMap } from "../indexed-map.ts";
import { kafkaTopicOf } from "../topic-spec.ts";
import type { KubeTopic, TopicApi } from "./topic-api.ts";
import { TopicWatch } from "./topic-watch.ts";

export interface TopicWatchesOptions {
  readonly api: TopicApi;
  /** Undefined: all. */
  readonly namespaces: readonly string[] | undefined;
  readonly labelSelector: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly changed: (name: string) => void;
  readonly onBegin: (what: "list" | "watch") => void;
  readonly onTrouble: (message: string) => void;
}

export class TopicWatches {
  /** By `<namespace>/<name>`, and by Kafka topic. */
  readonly topics = new IndexedMap<KubeTopic>(kafkaTopicOf);
  readonly listed: Promise<void>;
  areListed = false;
  readonly #watches: readonly TopicWatch[];

  constructor({ namespaces, labelSelector, ...rest }: TopicWatchesOptions) {
    this.#watches = (namespaces ?? [undefined]).map(
      (namespace) =>
        new TopicWatch({ ...rest, scope: { namespace, labelSelector }, topics: this.topics }),
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
