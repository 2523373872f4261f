/**
 * Makes Topics of an API server true: one reconcile per Topic at a time, then its status, written only
 * when it has changed, and an Event where a person must know.
 *
 * A finalizer is on a Topic only while its policy is Delete: with Retain nothing in Kafka goes, and a Topic
 * that is no more is found by its catalog record.
 */
import {
  ABANDON,
  annotationOf,
  DELETE_ADOPTED,
  isOn,
  misunderstood,
  PAUSE,
} from "../annotations.ts";
import type { IndexedMap } from "../indexed-map.ts";
import type { Owner, Reconciler, Why } from "../reconcile.ts";
import { kafkaTopicOf, nameOf } from "../topic-spec.ts";
import type { WorkQueue } from "../work-queue.ts";
import { sentence } from "./condition.ts";
import {
  assertDone,
  CHANGED_MEANWHILE,
  type Done,
  LEFT_ALONE,
  queueOf,
  setFinalizer,
  UNSELECTED_MS,
  type WorkOptions,
} from "./resource-work.ts";
import type { KubeTopic, TopicApi } from "./topic-api.ts";
import { eventsOf } from "./topic-events.ts";
import { changedStatus, type Found } from "./topic-status.ts";

export const FINALIZER = "throughline.dev/kafka-topic";
/** The reconciler's word for a catalog that is another's; no Topic's fault. */
const SUPERSEDED = "Superseded";
/** Nobody could look at Kafka. */
const UNSEEN: readonly string[] = ["KafkaUnavailable", "CatalogUnavailable"];

export interface ControllerOptions extends WorkOptions {
  readonly api: TopicApi;
  /** By `<namespace>/<name>`, and by Kafka topic. */
  readonly topics: IndexedMap<KubeTopic>;
  /** Whether Topics of this namespace are watched. */
  readonly isInScope: (namespace: string) => boolean;
  readonly reconciler: Pick<Reconciler, "apply" | "delete">;
  readonly clusterUid: string;
  /** RFC 3339. */
  readonly now: () => string;
  /** A leader may act; who is none any more must not. */
  readonly mayAct: () => boolean;
  readonly resyncMs: number;
  /** While a Topic is not Ready. */
  readonly retryMs: number;
  /** A newer leader writes the catalog: this one must end. */
  readonly onSuperseded: () => void;
}

export class Controller {
  readonly queue: WorkQueue;
  readonly #options: ControllerOptions;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.queue = queueOf(options, (name) => this.#work(name));
  }

  async #work(name: string): Promise<Done> {
    const { topics, mayAct, retryMs } = this.#options;
    // Its Lease may yet be renewed: nothing is forgotten over it.
    if (!mayAct()) return { ...LEFT_ALONE, againMs: retryMs };
    const topic = topics.get(name);
    if (topic === undefined) return this.#gone(name);
    if (topic.metadata.deletionTimestamp !== undefined) return this.#delete(topic);
    return this.#apply(topic);
  }

  /** It left nothing but its record, or it is there and no concern of this operator (labels). */
  async #gone(fullName: string): Promise<Done> {
    const [namespace = "", name = ""] = fullName.split("/");
    if (!this.#options.isInScope(namespace)) return LEFT_ALONE;
    const found = await this.#options.api.find(namespace, name);
    if (found.kind === "failed") throw new Error(found.reason);
    const { metadata } = found.kind === "found" ? found.resource : {};
    const isHeldByUs = metadata?.deletionTimestamp && metadata.finalizers?.includes(FINALIZER);
    // Its stream goes on, and nothing is changed. Nobody but us would ever let it go.
    if (found.kind === "found" && !isHeldByUs) return { ...LEFT_ALONE, againMs: UNSELECTED_MS };
    const { reconciler, retryMs, random } = this.#options;
    const why = await reconciler.delete(fullName, "Retain");
    // What befalls all of them is told once, elsewhere.
    if (why && UNSEEN.includes(why.reason))
      return { outcome: "deletion-waits", againMs: retryMs * (0.5 + random() / 2) };
    if (why) return this.#failed(why);
    return found.kind === "found" ? this.#letGo(found.resource) : { outcome: "deleted" };
  }

  async #delete(topic: KubeTopic): Promise<Done> {
    const { reconciler, topics, retryMs, random } = this.#options;
    const name = nameOf(topic);
    if (!topic.metadata.finalizers?.includes(FINALIZER)) return LEFT_ALONE;
    if (!isOn(topic, ABANDON)) {
      const isKept = isLeftAlone(topic) || topic.spec.deletionPolicy !== "Delete";
      const adopted = annotationOf(topic, DELETE_ADOPTED);
      const why = await reconciler.delete(name, isKept ? "Retain" : "Delete", adopted);
      if (why?.reason === SUPERSEDED) return this.#failed(why);
      if (why) {
        await this.#say(topic, { ready: "False", ...waiting(topic, why) });
        return { outcome: "deletion-waits", againMs: retryMs * (0.5 + random() / 2) };
      }
    }
    for (const [other] of topics.sharing(kafkaTopicOf(topic)))
      if (other !== name) this.queue.add(other);
    // What was abandoned has its record until Kafka can be asked; then it is retained.
    return this.#letGo(topic);
  }

  async #apply(topic: KubeTopic): Promise<Done> {
    const { api, reconciler, clusterUid, resyncMs, retryMs, random } = this.#options;
    const { finalizers = [], uid, generation, namespace } = topic.metadata;
    const halt = isLeftAlone(topic);
    if (halt) {
      await this.#say(topic, { ready: "Unknown", ...halt });
      return LEFT_ALONE;
    }
    const isNew = !topic.status?.topicId;
    // What is about to go with its namespace is not begun. Its deletion comes through the watch.
    if (isNew && (await api.isTerminating(namespace))) return { ...LEFT_ALONE, againMs: resyncMs };
    const needsFinalizer = topic.spec.deletionPolicy === "Delete";
    if (needsFinalizer !== finalizers.includes(FINALIZER)) {
      // Its change comes back through the watch, and the work with it.
      const isSet = await this.#finalizer(topic, needsFinalizer);
      return isSet ? LEFT_ALONE : CHANGED_MEANWHILE;
    }
    const { topicId = "", adopted = false } = topic.status ?? {};
    const owner: Owner = {
      ...{ uid, generation, clusterUid },
      ...(isNew ? { older: this.#olderThan(topic) } : { recorded: { topicId, adopted } }),
    };
    const found = await reconciler.apply(topic, owner);
    if (found.reason === SUPERSEDED) return this.#failed(found);
    const { ready, reason, message, ...kafka } = found;
    const isSaid = await this.#say(topic, {
      ...{ ready: ready ? "True" : "False", reason, message },
      // Nobody knows better than before.
      ...(!UNSEEN.includes(reason) && { kafka }),
    });
    if (ready) return { outcome: "ready", againMs: resyncMs * (0.9 + random() / 5) };
    // What stays refused is looked at with the others; a person's change comes through the watch.
    const isLasting = !isSaid && !UNSEEN.includes(reason);
    const againMs = (isLasting ? resyncMs : retryMs) * (0.5 + random() / 2);
    return { outcome: "not-ready", againMs };
  }

  /** @returns whether there was something new to say. */
  async #say(topic: KubeTopic, found: Found): Promise<boolean> {
    const { api, now } = this.#options;
    const status = changedStatus(topic, found, now);
    if (!status) return false;
    const patched = await api.patchStatus(topic, status);
    assertDone(patched);
    // Nothing waits for what a person may read.
    if (patched.kind === "patched")
      for (const event of eventsOf(topic, status)) void api.tell(topic, event);
    return true;
  }

  async #letGo(topic: KubeTopic): Promise<Done> {
    return (await this.#finalizer(topic, false)) ? { outcome: "deleted" } : CHANGED_MEANWHILE;
  }

  #finalizer(topic: KubeTopic, isThere: boolean): Promise<boolean> {
    return setFinalizer(this.#options.api, topic, FINALIZER, isThere);
  }

  /** Others that wait for the same Kafka topic and came first. */
  #olderThan(topic: KubeTopic): KubeTopic[] {
    const order = (one: KubeTopic): string =>
      `${one.metadata.creationTimestamp ?? ""} ${nameOf(one)}`;
    return this.#options.topics
      .sharing(kafkaTopicOf(topic))
      .map(([, other]) => other)
      .filter((other) => order(other) < order(topic))
      .filter((other) => other.metadata.deletionTimestamp === undefined && !isLeftAlone(other))
      .toSorted((a, b) => (order(a) < order(b) ? -1 : 1));
  }

  #failed({ reason, message }: Why): Done {
    if (reason !== SUPERSEDED) throw new Error(message);
    this.#options.onSuperseded();
    return LEFT_ALONE;
  }
}

/** Why nothing is done for it, as a person asked; undefined: it is to be made true. */
function isLeftAlone(topic: KubeTopic): Why | undefined {
  const message = misunderstood(topic);
  if (message) {
    const untouched = `${message} Until then its Kafka topic is left alone; the stream goes on.`;
    return { reason: "InvalidAnnotation", message: untouched };
  }
  return isOn(topic, PAUSE)
    ? {
        reason: "Paused",
        message: `Its Kafka topic is left alone while the annotation ${PAUSE} is "true"; the stream goes on. Deleting the Topic now keeps its Kafka topic.`,
      }
    : undefined;
}

function waiting(topic: KubeTopic, { reason, message }: Why): Why {
  return {
    reason: "DeletionWaits",
    message: `Kafka topic "${kafkaTopicOf(topic)}" cannot be deleted now: ${reason}: ${sentence(message)} It is tried again. To let the Topic go and keep the Kafka topic, set spec.deletionPolicy to Retain, or annotate the Topic with ${ABANDON}: "true" when Kafka cannot be reached.`,
  };
}
