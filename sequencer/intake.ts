/**
 * Decoded changes gathered into batches (pure). A batch ends at a transaction's end where it can, and in the
 * middle of a large one where it must: order and place of each event are the same either way (P8).
 *
 * - I1 What Kafka has already (up to `sent`) is passed over: after a restart the slot begins earlier.
 * - I2 A batch names the LSN up to which the slot may be confirmed with it, if a transaction ends in it.
 * - I3 Bounded: a batch is sealed before it is more than Kafka takes at once, and `isFull` says when to stop
 *   reading (P6).
 */
import { isAfter, type Place } from "./lsn.ts";
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

/** Of a record beside its key, payload, type and headers, in Kafka. */
const RECORD_BYTES = 120;

export class Intake implements Changes {
  readonly #limits: IntakeLimits;
  readonly #sent: Place;
  readonly #waiting: Batch[] = [];
  #events: CommittedEvent[] = [];
  #bytes = new Map<string, number>();
  #commit: Commit | undefined;
  #index = 0;
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
  }

  insert(row: OutboxRow): void {
    const commit = this.#commit as Commit;
    const index = this.#index++;
    if (!isAfter({ commitId: commit.id, index }, this.#sent)) return;
    const { topic, type, key, payload, headers } = row;
    let bytes = RECORD_BYTES + type.length + (key?.length ?? 0) + (payload?.length ?? 0);
    bytes += (headers?.length ?? 0) * 2;
    let total = (this.#bytes.get(topic) ?? 0) + bytes;
    const isTooMuch = total > this.#limits.maxBytes(topic) && total > bytes;
    if (isTooMuch || this.#events.length >= this.#limits.maxEvents) {
      this.#seal();
      total = bytes;
    }
    this.#bytes.set(topic, total);
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

  #seal(): void {
    const last = this.#events.at(-1);
    if (!last) return;
    this.#waiting.push({
      events: this.#events,
      place: { commitId: last.commit.id, index: last.index },
      confirms: this.#confirms,
    });
    this.#events = [];
    this.#bytes.clear();
    this.#confirms = undefined;
  }
}
