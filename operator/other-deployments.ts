/**
 * What other deployments on the same Kafka hold, by their catalogs. They are read before a Kafka topic is
 * taken and again when one's own record is written, so that of two that take it at once at least the second
 * sees the first; the older record keeps it (DESIGN: Topic).
 */
import type { Log } from "../kafka/log.ts";
import type { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { CatalogReader } from "./catalog-reader.ts";
import { catalogTopicOf } from "./catalog-writer.ts";
import { done } from "./kafka-outcome.ts";

const INTERNAL = "_throughline.";

export interface OtherHolder {
  readonly deploymentId: string;
  readonly record: CatalogRecord;
}

export class OtherDeployments {
  readonly #log: Log;
  readonly #ownId: string;
  readonly #catalogs = new Map<string, CatalogReader>();
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(log: Log, ownId: string) {
    this.#log = log;
    this.#ownId = ownId;
  }

  /** As of the last `refresh`. */
  holders(kafkaTopic: string): readonly OtherHolder[] {
    return [...this.#catalogs].flatMap(([deploymentId, { records }]) =>
      records.sharing(kafkaTopic).map(([, record]) => ({ deploymentId, record })),
    );
  }

  /**
   * Reads what was written until now. Who asks while a reading runs shares the next one.
   * @throws when a catalog cannot be read: nobody knows then what is taken.
   */
  refresh(): Promise<void> {
    if (this.#running === undefined) return this.#start();
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.#start();
      });
    return this.#next;
  }

  #start(): Promise<void> {
    const running = this.#read().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  async #read(): Promise<void> {
    const { admin } = this.#log;
    const names = done(await admin.listTopics(INTERNAL));
    const ids = names.flatMap((name) => deploymentIdIn(name) ?? []);
    const others = ids.filter((id) => id !== this.#ownId);
    const found =
      others.length > 0 ? done(await admin.describeTopics(others.map(catalogTopicOf))) : new Map();
    for (const id of [...this.#catalogs.keys()]) {
      const topic = found.get(catalogTopicOf(id));
      if (topic?.id !== this.#catalogs.get(id)?.topic.id) this.#catalogs.delete(id);
    }
    for (const id of others) {
      const topic = found.get(catalogTopicOf(id));
      if (topic && !this.#catalogs.has(id))
        this.#catalogs.set(id, new CatalogReader(this.#log, topic));
    }
    await Promise.all([...this.#catalogs.values()].map((catalog) => catalog.read()));
  }
}

function deploymentIdIn(kafkaTopic: string): string | undefined {
  return /^_throughline\.([a-z0-9-]{1,40})\.catalog$/.exec(kafkaTopic)?.[1];
}
