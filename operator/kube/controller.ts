/**
 * Makes Topics of an API server true: one reconcile per Topic at a time, then its status, written only
 * when it has changed.
 *
 * A finalizer is on a Topic only while its policy is Delete: with Retain nothing in Kafka goes, and a Topic
 * that is no more is found by its catalog record.
 */
import type { Clock } from "../../process/clock.ts";
import type { Owner, Reconciler } from "../reconcile.ts";
import { WorkQueue } from "../work-queue.ts";
import type { KubeTopic, PatchOutcome, TopicApi } from "./topic-api.ts";
import { changedStatus } from "./topic-status.ts";

export const FINALIZER = "throughline.dev/kafka-topic";
/** Stops all changes to a Topic's Kafka topic; deleting a paused Topic keeps it. */
const PAUSE = "throughline.dev/pause";
/** The reconciler's word for a catalog that is another's; no Topic's fault. */
const SUPERSEDED = "Superseded";

export interface ControllerOptions {
  readonly api: TopicApi;
  /** By `<namespace>/<name>`. */
  readonly topics: ReadonlyMap<string, KubeTopic>;
  /** Whether Topics of this namespace are watched. */
  readonly isInScope: (namespace: string) => boolean;
  readonly reconciler: Pick<Reconciler, "apply" | "delete">;
  readonly clusterUid: string;
  readonly clock: Clock;
  /** 0 to 1. */
  readonly random: () => number;
  /** RFC 3339. */
  readonly now: () => string;
  /** A leader may act; who is none any more must not. */
  readonly mayAct: () => boolean;
  readonly concurrency: number;
  readonly resyncMs: number;
  /** While a Topic is not Ready. */
  readonly retryMs: number;
  readonly onFailure: (name: string, message: string) => void;
  /** A newer leader writes the catalog: this one must end. */
  readonly onSuperseded: () => void;
}

export class Controller {
  readonly queue: WorkQueue;
  readonly #options: ControllerOptions;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { clock, random, concurrency, onFailure } = options;
    this.queue = new WorkQueue({
      ...{ clock, random, concurrency, firstRetryMs: 200, longestRetryMs: 30_000 },
      work: (name) => this.#work(name),
      onFailure: (name, error) => onFailure(name, error.message),
    });
  }

  async #work(name: string): Promise<number | undefined> {
    const { topics, mayAct } = this.#options;
    if (!mayAct()) return undefined;
    const topic = topics.get(name);
    if (topic === undefined) return this.#gone(name);
    if (topic.metadata.deletionTimestamp !== undefined) return this.#delete(name, topic);
    return this.#apply(topic);
  }

  /** It left nothing but its record, or it is there and no concern of this operator (labels). */
  async #gone(fullName: string): Promise<undefined> {
    const [namespace = "", name = ""] = fullName.split("/");
    if (!this.#options.isInScope(namespace)) return;
    const found = await this.#options.api.find(namespace, name);
    if (found.kind === "failed") throw new Error(found.reason);
    if (found.kind === "gone") await this.#options.reconciler.delete(fullName, "Retain");
  }

  async #delete(name: string, topic: KubeTopic): Promise<undefined> {
    const { finalizers = [] } = topic.metadata;
    if (!finalizers.includes(FINALIZER)) return;
    const isKept = isPaused(topic) || topic.spec.deletionPolicy !== "Delete";
    await this.#options.reconciler.delete(name, isKept ? "Retain" : "Delete");
    const rest = finalizers.filter((one) => one !== FINALIZER);
    done(await this.#options.api.patchFinalizers(topic, rest));
  }

  async #apply(topic: KubeTopic): Promise<number | undefined> {
    const { api, reconciler, clusterUid, now, resyncMs, retryMs, random } = this.#options;
    if (isPaused(topic)) return undefined;
    const { finalizers = [], uid, generation } = topic.metadata;
    const needsOne = topic.spec.deletionPolicy === "Delete";
    if (needsOne !== finalizers.includes(FINALIZER)) {
      const others = finalizers.filter((one) => one !== FINALIZER);
      // Its change comes back through the watch, and the work with it.
      done(await api.patchFinalizers(topic, needsOne ? [...others, FINALIZER] : others));
      return undefined;
    }
    const owner: Owner = { uid, generation, clusterUid };
    const found = await reconciler.apply(topic, owner);
    if (found.reason === SUPERSEDED) {
      this.#options.onSuperseded();
      return undefined;
    }
    const status = changedStatus(topic, found, now);
    if (status) done(await api.patchStatus(topic, status));
    return found.ready ? resyncMs * (0.9 + random() / 5) : retryMs * (0.5 + random() / 2);
  }
}

function isPaused({ metadata }: KubeTopic): boolean {
  return metadata.annotations?.[PAUSE] === "true";
}

/** What is gone, or another by now, comes again through the watch. */
function done(outcome: PatchOutcome): void {
  if (outcome.kind === "failed") throw new Error(outcome.reason);
}
