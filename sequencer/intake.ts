/**
 * Decoded changes gathered into batches (pure). A batch ends at a transaction's end where it can, and in the
 * middle of a large one where it must: order and place of each event are the same either way (P8).
 *
 * - I1 What Kafka has already (up to `sent`) is passed over: after a restart the slot begins earlier.
 * - I2 A batch names the LSN up to which the slot may be confirmed with it, if a transaction ends in it.
 * - I3 Bounded: a batch is sealed before it is more than Kafka takes at once, and `isFull` says when to stop
 *   reading (P6).
 */
import type { Place } from "./lsn.ts";
import type { Changes, Commit, OutboxRow } from "./pgoutput.ts";

export interface CommittedEvent extends OutboxRow {
  readonly commit: Commit;
  /** Among the events of its transaction. */
  readonly index: number;
}

export interface Batch {
  readonly events: readonly CommittedEvent[];
  /** Of the last event. */
  readonly place: Place;
  /** Where the log goes on after the last transaction that is whole with this batch. */
  readonly confirms: bigint | undefined;
}

export interface IntakeLimits {
  readonly maxEvents: number;
  /** Of one topic in one batch. */
  maxBytes(topic: string): number;
  /** Batches that wait. */
  readonly maxWaiting: number;
}

interface TopicBytes {
  readonly name: string | undefined;
  readonly most: number;
  bytes: number;
}

const NONE: TopicBytes = { name: undefined, most: 0, bytes: 0 };

/** Of a record beside its key, payload, type and headers, in Kafka. */
const RECORD_BYTES = 120;

export class Intake implements Changes {
  readonly #limits: IntakeLimits;
  readonly #sent: Place;
  readonly #waiting: Batch[] = [];
  #events: CommittedEvent[] = [];
  /** What the batch has of each topic. */
  readonly #topics = new Map<string, TopicBytes>();
  /** The one that came last. */
  #topic: TopicBytes = NONE;
  #commit: Commit | undefined;
  #index = 0;
  /** Its first event that Kafka does not have (I1). */
  #firstNew = 0;
  #confirms: bigint | undefined;

  /** @param sent the last event that Kafka has. */
  constructor(limits: IntakeLimits, sent: Place) {
    this.#limits = limits;
    this.#sent = sent;
  }

  get isFull(): boolean {
    return this.#waiting.length >= this.#limits.maxWaiting;
  }

  /** As much waits as Kafka takes at once. */
  get hasWholeBatch(): boolean {
    return this.#waiting.length > 0;
  }

  /** Nothing is held, and no transaction is on its way. */
  get isIdle(): boolean {
    return this.#waiting.length === 0 && this.#events.length === 0 && this.#commit === undefined;
  }

  begin(commit: Commit): void {
    this.#commit = commit;
    this.#index = 0;
    const { commitId, index } = this.#sent;
    this.#firstNew = commit.id > commitId ? 0 : commit.id < commitId ? Infinity : index + 1;
  }

  insert(row: OutboxRow): void {
    const commit = this.#commit as Commit;
    const index = this.#index++;
    if (index < this.#firstNew) return;
    const { topic, type, key, payload, headers } = row;
    let bytes = RECORD_BYTES + type.length + (key?.length ?? 0) + (payload?.length ?? 0);
    bytes += (headers?.length ?? 0) * 2;
    if (topic !== this.#topic.name) this.#topic = this.#bytesOf(topic);
    const { bytes: before, most } = this.#topic;
    const isTooMuch = before > 0 && before + bytes > most;
    if (isTooMuch || this.#events.length >= this.#limits.maxEvents) {
      this.#seal();
      this.#topic = this.#bytesOf(topic);
    }
    this.#topic.bytes += bytes;
    this.#events.push({ id: row.id, topic, type, key, payload, headers, commit, index });
  }

  commit(endLsn: bigint): void {
    this.#commit = undefined;
    if (this.#events.length > 0) this.#confirms = endLsn;
  }

  /** The next batch: a sealed one, else what there is once its transaction is whole. */
  take(): Batch | undefined {
    if (this.#waiting.length === 0 && this.#commit === undefined) this.#seal();
    return this.#waiting.shift();
  }

  #bytesOf(name: string): TopicBytes {
    const known = this.#topics.get(name) ?? { name, most: this.#limits.maxBytes(name), bytes: 0 };
    this.#topics.set(name, known);
    return known;
  }

  #seal(): void {
    const last = this.#events.at(-1);
    if (!last) return;
    this.#waiting.push({
      events: this.#events,
      place: { commitId: last.commit.id, index: last.index },
      confirms: this.#confirms,
    });
    this.#events = [];
    this.#topics.clear();
    this.#topic = NONE;
    this.#confirms = undefined;
  }
}
