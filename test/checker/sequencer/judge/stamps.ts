/**
 * Judges the stamps (pure): walks through the database's word and knows at each stamp which event is next.
 * That is the first that waits in the order of commits; with a new slot, those that waited before it in the order
 * of their ids.
 */
import type { Anomaly, Class } from "./anomaly.ts";
import type { Shown } from "./evidence.ts";
import type { Inserted, Stamped, Transaction } from "./word.ts";

/** An event that has its number. */
export interface Numbered extends Stamped {
  readonly topic: string;
  readonly content: string;
  /** Of its commit. */
  readonly committedMs: number;
}

export interface Numbers {
  /** By topic, in the order in which they were stamped. */
  readonly byTopic: ReadonlyMap<string, readonly Numbered[]>;
  readonly anomalies: readonly Anomaly[];
  readonly events: number;
}

interface Waiting extends Inserted {
  /** Its commit record lies between. */
  readonly after: bigint;
  readonly endLsn: bigint;
  readonly committedMs: number;
}

export function judgeStamps(word: readonly Transaction[], shown: readonly Shown[]): Numbers {
  const walk = new Walk();
  for (const transaction of word) walk.take(transaction);
  walk.end(shown);
  return { byTopic: walk.byTopic, anomalies: walk.anomalies, events: walk.events };
}

class Walk {
  readonly byTopic = new Map<string, Numbered[]>();
  readonly anomalies: Anomaly[] = [];
  events = 0;
  /** In the order of commits. */
  readonly #waiting = new Map<string, Map<bigint, Waiting>>();
  readonly #inserted = new Map<bigint, Waiting>();
  readonly #stamped = new Map<bigint, Stamped>();
  readonly #cleaned = new Set<bigint>();
  readonly #lastValues = new Map<string, number>();
  #after = 0n;

  take(transaction: Transaction): void {
    const { endLsn, atMs, slotBegins } = transaction;
    for (const event of transaction.events) {
      const one = { ...event, after: this.#after, endLsn, committedMs: atMs };
      this.events++;
      this.#inserted.set(event.id, one);
      ofKey(this.#waiting, event.topic, () => new Map()).set(event.id, one);
    }
    const inOrder = transaction.stamps.toSorted((a, b) => a.sequence - b.sequence);
    const next = slotBegins === undefined ? this.#byCommit() : this.#byId(slotBegins);
    for (const stamp of inOrder) this.#stamp(stamp, next, slotBegins);
    for (const { eventId, sequence } of transaction.changed)
      this.#wrong("renumbered", `event ${eventId} was changed to number ${sequence}`);
    for (const id of transaction.cleaned) this.#cleaned.add(id);
    for (const id of transaction.parked) {
      this.#wrong("missing", `event ${id} was parked`);
      this.#leave(id);
    }
    this.#after = endLsn;
  }

  end(shown: readonly Shown[]): void {
    for (const waiting of this.#waiting.values()) {
      for (const { id, topic, endLsn } of waiting.values())
        this.#wrong(
          "missing",
          `event ${id} of ${topic}, committed before ${endLsn}, has no number`,
        );
    }
    const left = new Map(this.#stamped);
    for (const id of this.#cleaned) left.delete(id);
    for (const { eventId, sequence, commitId } of shown) {
      const stamp = left.get(eventId);
      left.delete(eventId);
      if (stamp?.sequence !== sequence || stamp.commitId !== commitId)
        this.#wrong(
          "differs",
          `SQL shows event ${eventId} as ${sequence}, it was ${stamp?.sequence}`,
        );
    }
    for (const { eventId, sequence } of left.values())
      this.#wrong("differs", `SQL does not show event ${eventId}, stamped as ${sequence}`);
  }

  #stamp(
    stamp: Stamped,
    next: (topic: string) => bigint | undefined,
    slotBegins: bigint | undefined,
  ): void {
    const { eventId, sequence, commitId } = stamp;
    const event = this.#inserted.get(eventId);
    if (!event) {
      this.#wrong("phantom", `event ${eventId} has number ${sequence}`);
      return;
    }
    const { topic } = event;
    const what = `event ${eventId} of ${topic}, number ${sequence}`;
    const before = this.#stamped.get(eventId);
    if (before) {
      const isSame = before.sequence === sequence;
      this.#wrong(isSame ? "repeated" : "renumbered", `${what}, was ${before.sequence}`);
      return;
    }
    const last = this.#lastValues.get(topic) ?? 0;
    if (sequence !== last + 1) this.#wrong("gap", `${what} follows ${last}`);
    const wanted = next(topic);
    if (wanted !== eventId) this.#wrong("disordered", `${what} came before event ${wanted}`);
    const isItsCommit =
      slotBegins === undefined
        ? commitId >= event.after && commitId < event.endLsn
        : commitId <= slotBegins;
    if (!isItsCommit) this.#wrong("differs", `${what} has commit ${commitId}, not its own`);
    this.#lastValues.set(topic, sequence);
    this.#stamped.set(eventId, stamp);
    this.#leave(eventId);
    const { content, committedMs } = event;
    ofKey(this.byTopic, topic, () => []).push({ ...stamp, topic, content, committedMs });
  }

  #byCommit(): (topic: string) => bigint | undefined {
    return (topic) => this.#waiting.get(topic)?.keys().next().value;
  }

  #byId(slotBegins: bigint): (topic: string) => bigint | undefined {
    const inOrder = new Map<string, bigint[]>();
    for (const [topic, waiting] of this.#waiting) {
      const ids = [...waiting.values()].filter(({ endLsn }) => endLsn <= slotBegins);
      inOrder.set(
        topic,
        ids.map(({ id }) => id).sort((a, b) => (a < b ? -1 : 1)),
      );
    }
    return (topic) => inOrder.get(topic)?.shift();
  }

  #leave(id: bigint): void {
    const topic = this.#inserted.get(id)?.topic;
    if (topic !== undefined) this.#waiting.get(topic)?.delete(id);
  }

  #wrong(name: Class, what: string): void {
    this.anomalies.push({ class: name, where: "the stamps", what });
  }
}

function ofKey<K, V>(map: Map<K, V>, key: K, made: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const value = made();
  map.set(key, value);
  return value;
}
