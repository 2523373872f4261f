/**
 * The log in memory, for pure tests and the simulation: real record batches, the same port and contract
 * as Kafka's. Time and the order of answers come in by `schedule` and `setTimer`.
 */
import type {
  AdminOutcome,
  AppendOutcome,
  FencedWriter,
  FetchOutcome,
  Log,
  LogAdmin,
  LogFailure,
  LogLoss,
  NewRecord,
  OffsetOutcome,
  OffsetSpec,
  PartitionReader,
  Position,
  TopicInfo,
  TransactionalWriter,
  TransactionOutcome,
} from "./log.ts";
import { MemoryAdmin } from "./memory-admin.ts";
import { MemoryGroups } from "./memory-groups.ts";
import type { Batch, MemoryPartition } from "./memory-partition.ts";
import { MemoryTransactions } from "./memory-transactions.ts";
import { Partitioner } from "./partitioner.ts";
import { recordBytes } from "./record-batch.ts";

/** Kafka's default max.message.bytes. */
const MAX_RECORD_BYTES = 1_048_588;

export interface MemoryLogOptions {
  /** When an answer is delivered; by default as a microtask. */
  readonly schedule?: (deliver: () => void) => void;
  readonly setTimer?: (ms: number, fire: () => void) => () => void;
}

export class MemoryLog implements Log {
  readonly admin: LogAdmin;
  readonly topics: MemoryAdmin;
  readonly groups: MemoryGroups;
  readonly #schedule: (deliver: () => void) => void;
  readonly #setTimer: (ms: number, fire: () => void) => () => void;
  /** The fenced writer that may write, by topic id. */
  readonly #writers = new Map<string, FencedWriter>();
  readonly #failingAppends: AppendOutcome[] = [];
  readonly #failingFetches: LogFailure[] = [];
  #unavailable: string | undefined;
  readonly #partitioner = new Partitioner(() => 0);
  readonly #transactions: MemoryTransactions;

  constructor(options: MemoryLogOptions = {}) {
    this.#schedule = options.schedule ?? queueMicrotask;
    this.#setTimer = options.setTimer ?? wallTimer;
    this.topics = new MemoryAdmin((make) => this.#later(make));
    this.admin = this.topics;
    this.groups = new MemoryGroups({
      later: (make) => this.#later(make),
      topic: (name) => this.topics.info(name),
      unavailable: () => this.#unavailable,
    });
    this.#transactions = new MemoryTransactions(
      { topics: this.topics, partitioner: this.#partitioner, maxRecordBytes: MAX_RECORD_BYTES },
      (make) => this.#later(make),
    );
  }

  createTopicNow(name: string, partitions: number): TopicInfo {
    return this.topics.create(name, partitions, {});
  }

  /** Appends one batch; returns its first offset. */
  appendNow(topic: string, partition: number, records: readonly NewRecord[]): number {
    return this.#partition(topic, partition).append(records);
  }

  /** An aborted transaction: its records and its marker take offsets and are never delivered. */
  appendAbortedNow(topic: string, partition: number, records: readonly NewRecord[]): number {
    return this.#partition(topic, partition).appendAborted(records);
  }

  retainFrom(topic: string, partition: number, offset: number): void {
    this.#partition(topic, partition).retainFrom(offset);
  }

  truncateTo(topic: string, partition: number, offset: number): void {
    this.#partition(topic, partition).truncateTo(offset);
  }

  recreate(topic: string): TopicInfo {
    const old = this.topics.info(topic);
    this.topics.remove(topic);
    return this.topics.create(topic, old?.partitions ?? 1, {});
  }

  /** The next append ends so, and writes nothing. */
  failNextAppend(outcome: Exclude<AppendOutcome, { kind: "appended" }>): void {
    this.#failingAppends.push(outcome);
  }

  /** The next transaction ends so; `written` says whether an unknown one is in the log. */
  failNextTransaction(
    outcome: Exclude<TransactionOutcome, { kind: "committed" }>,
    written = false,
  ): void {
    this.#transactions.failNext(outcome, written);
  }

  /** The next fetch that is answered ends so. */
  failNextFetch(outcome: LogFailure): void {
    this.#failingFetches.push(outcome);
  }

  /** Every call ends unavailable until `heal`. */
  fail(reason: string): void {
    this.#unavailable = reason;
  }

  heal(): void {
    this.#unavailable = undefined;
  }

  openReader(topic: TopicInfo, partition: number): PartitionReader {
    let closed = false;
    let wake: (() => void) | undefined;
    return {
      fetch: (position, maxBytes, maxWaitMs) =>
        new Promise((resolve) => {
          const answer = (): void => {
            this.#schedule(() => {
              const outcome: FetchOutcome = closed
                ? { kind: "unavailable", reason: "closed" }
                : this.#fetch(topic, partition, position, maxBytes);
              resolve(outcome);
            });
          };
          const at = this.topics.partition(topic, partition);
          const empty = at?.canWait(position.offset) === true && this.#unavailable === undefined;
          if (!empty || maxWaitMs <= 0 || closed) return answer();
          wake = at.waitForAppend(this.#setTimer, maxWaitMs, answer);
        }),
      close: () => {
        closed = true;
        wake?.();
      },
    };
  }

  append(topic: TopicInfo, partition: number | null, record: NewRecord): Promise<AppendOutcome> {
    const chosen = partition ?? this.#partitioner.choose(record.key, topic.partitions);
    if (!Number.isInteger(chosen) || chosen < 0 || chosen >= topic.partitions) {
      throw new RangeError(`${topic.name} has ${topic.partitions} partitions, not ${chosen}`);
    }
    return this.#later(() => this.#append(topic, chosen, record));
  }

  offset(topic: TopicInfo, partition: number, spec: OffsetSpec): Promise<OffsetOutcome> {
    return this.#later((): OffsetOutcome => {
      if (this.#unavailable !== undefined)
        return { kind: "unavailable", reason: this.#unavailable };
      const at = this.topics.partition(topic, partition);
      if (at === undefined) return { kind: "gone" };
      if (spec === "latest") return { kind: "offset", offset: at.end, epoch: at.epoch };
      if (spec === "earliest") return { kind: "offset", offset: at.start, epoch: -1 };
      return { kind: "offset", offset: at.offsetAt(spec.timeMs), epoch: -1 };
    });
  }

  async openFencedWriter(topic: TopicInfo, opened: NewRecord): Promise<AdminOutcome<FencedWriter>> {
    let closed = false;
    const writer: FencedWriter = {
      write: (record) =>
        this.#later(() => {
          if (this.#writers.get(topic.id) !== writer) return { kind: "fenced" };
          if (closed) return { kind: "unavailable", reason: "the log is closed" };
          return this.#append(topic, 0, record);
        }),
      close: () => {
        closed = true;
      },
    };
    const written = await this.#later(() => {
      const outcome = this.#append(topic, 0, opened);
      if (outcome.kind === "appended") this.#writers.set(topic.id, writer);
      return outcome;
    });
    if (written.kind === "appended") return { kind: "done", value: writer };
    const reason = "reason" in written ? written.reason : `${topic.name} is gone`;
    return { kind: "unavailable", reason };
  }

  openTransactionalWriter(id: string): Promise<AdminOutcome<TransactionalWriter>> {
    return this.#transactions.open(id, () => this.#unavailable);
  }

  async close(): Promise<void> {}

  #fetch(topic: TopicInfo, partition: number, position: Position, maxBytes: number): FetchOutcome {
    if (this.#unavailable !== undefined) return { kind: "unavailable", reason: this.#unavailable };
    const failing = this.#failingFetches.shift();
    if (failing) return failing;
    const at = this.topics.partition(topic, partition);
    if (at === undefined) return lost({ kind: "gone" });
    const loss = at.judge(position);
    if (loss) return lost(loss);
    const batches: Batch[] = at.read(position.offset, maxBytes);
    return {
      kind: "fetched",
      records: Buffer.concat(batches.map((batch) => batch.bytes)),
      release: () => {},
      aborted: at.abortedIn(batches),
      highWatermark: at.end,
      lastStable: at.end,
      logStart: at.start,
    };
  }

  #partition(topic: string, partition: number): MemoryPartition {
    const info = this.topics.info(topic);
    const found = info && this.topics.partition(info, partition);
    if (!found) throw new Error(`no partition ${partition} of ${topic}`);
    return found;
  }

  #append(topic: TopicInfo, partition: number, record: NewRecord): AppendOutcome {
    if (this.#unavailable !== undefined) return { kind: "unavailable", reason: this.#unavailable };
    const failing = this.#failingAppends.shift();
    if (failing) return failing;
    const at = this.topics.partition(topic, partition);
    if (at === undefined) return { kind: "gone" };
    if (recordBytes(record) > MAX_RECORD_BYTES) {
      const reason = "The request included a message larger than the max message size.";
      return { kind: "too-large", reason };
    }
    return { kind: "appended", partition, offset: at.append([record]) };
  }

  #later<T>(make: () => T): Promise<T> {
    return new Promise((resolve) => this.#schedule(() => resolve(make())));
  }
}

function lost(loss: LogLoss): FetchOutcome {
  return { kind: "loss", loss };
}

function wallTimer(ms: number, fire: () => void): () => void {
  const timer = setTimeout(fire, ms).unref();
  return () => clearTimeout(timer);
}
