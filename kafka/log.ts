/**
 * The port: all that Throughline needs of a log. Two implementations keep it, under the same contract
 * tests: `kafka/kafka-log.ts` (Apache Kafka) and `kafka/memory-log.ts` (in memory, for pure tests and
 * the simulation). Nothing outside this room imports a Kafka client.
 *
 * - Failures that a caller must interpret come back as values, never as exceptions.
 * - A position is an offset and the identity it counts in: topic id and leader epoch.
 * - Offsets are numbers (below 2^53), sparse; what comes next is said by `next`, never by arithmetic.
 */

/** Kafka topic id: 32 lower-case hex digits. */
export type TopicId = string;

/** Where to read on in one partition. */
export interface Position {
  readonly offset: number;
  /** Leader epoch of the last batch read before `offset`; -1 when nothing was read yet. */
  readonly epoch: number;
}

/** Why events at a position cannot be had any more. */
export type LogLoss =
  /** Metadata names another topic id for the topic, or none. */
  | { readonly kind: "gone" }
  /** The log was cut: it diverges from the position at `endOffset` of `epoch`. */
  | { readonly kind: "truncated"; readonly epoch: number; readonly endOffset: number }
  /** Retention removed the position; `earliest` is the first offset still there. */
  | { readonly kind: "before-earliest"; readonly earliest: number }
  /** The leader itself says the position lies past the end of its log. */
  | { readonly kind: "past-end"; readonly earliest: number };

/** Why Kafka could not do it. `reason` is one line for people, with Kafka's own words. */
export type LogFailure =
  | { readonly kind: "unavailable"; readonly reason: string }
  | { readonly kind: "unauthorised"; readonly reason: string }
  | { readonly kind: "corrupt"; readonly reason: string; readonly offset: number };

/** An aborted transaction of a fetch: records of the producer from `firstOffset` to its marker. */
export interface AbortedTransaction {
  readonly producerId: bigint;
  readonly firstOffset: number;
}

/** What one fetch brought: raw record batches, which may begin before the wanted offset. */
export interface Fetched {
  readonly kind: "fetched";
  /** Whole record batches (a truncated last one is cut off); empty when nothing new came. */
  readonly records: Buffer;
  readonly aborted: readonly AbortedTransaction[];
  readonly highWatermark: number;
  /** One past the last committed record: a foreign open transaction holds it below highWatermark. */
  readonly lastStable: number;
  readonly logStart: number;
  /** `records` are read, and their memory may be used again. Need not be called; at most once. */
  release(): void;
}

export type FetchOutcome = Fetched | { readonly kind: "loss"; readonly loss: LogLoss } | LogFailure;

/** Reads one partition through a connection of its own. One fetch at a time. */
export interface PartitionReader {
  /**
   * Reads committed batches from `position`; waits up to `maxWaitMs` for at least one byte. Finds the
   * leader, follows leader changes, reconnects with backoff and jitter by itself; after a failure the
   * caller just calls again (the reader paces itself). Never rejects.
   */
  fetch(position: Position, maxBytes: number, maxWaitMs: number): Promise<FetchOutcome>;
  /** Closes the connection; an open fetch ends as unavailable. */
  close(): void;
}

/** A record to append. `headers` keep order and may repeat; a bigint goes as eight bytes, big-endian. */
export interface NewRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [string, Buffer | bigint])[];
  /** Milliseconds since 1970. */
  readonly timeMs: number;
}

export type AppendOutcome =
  | { readonly kind: "appended"; readonly partition: number; readonly offset: number }
  /** It may or may not be in the log. */
  | { readonly kind: "unknown"; readonly reason: string }
  /** It is certainly not in the log. */
  | { readonly kind: "too-large"; readonly reason: string }
  | { readonly kind: "gone" }
  | LogFailure;

export interface TopicInfo {
  readonly name: string;
  readonly id: TopicId;
  readonly partitions: number;
  readonly replicas: number;
}

/** Settings that are set on the topic itself; inherited ones are not here. */
export type TopicSettings = Readonly<Record<string, string>>;

/** An admin step that Kafka refused or could not do: its error name and its own sentence. */
export interface AdminRefusal {
  readonly kind: "refused";
  /** Kafka's error name: TOPIC_ALREADY_EXISTS, POLICY_VIOLATION, INVALID_REPLICATION_FACTOR, … */
  readonly error: string;
  readonly reason: string;
}

export type AdminOutcome<T> =
  | { readonly kind: "done"; readonly value: T }
  | AdminRefusal
  | LogFailure;

export interface LogAdmin {
  /** Topics by name; a name that does not exist is absent from the map. */
  describeTopics(names: readonly string[]): Promise<AdminOutcome<ReadonlyMap<string, TopicInfo>>>;
  /** Names of all topics, internal ones too; with a prefix, of those that begin so. */
  listTopics(prefix?: string): Promise<AdminOutcome<readonly string[]>>;
  createTopic(topic: {
    readonly name: string;
    readonly partitions: number;
    /** -1 means the broker's default. */
    readonly replicas: number;
    readonly settings: TopicSettings;
  }): Promise<AdminOutcome<TopicInfo>>;
  /** Grows to `partitions`. */
  createPartitions(name: string, partitions: number): Promise<AdminOutcome<void>>;
  settings(name: string): Promise<AdminOutcome<TopicSettings>>;
  /** Sets and unsets single settings; others stay. */
  changeSettings(
    name: string,
    set: TopicSettings,
    unset: readonly string[],
  ): Promise<AdminOutcome<void>>;
  /** Deletes by id, so that a newer topic of the same name is never hit. */
  deleteTopic(id: TopicId): Promise<AdminOutcome<void>>;
}

/**
 * Committed offsets of groups that nobody is a member of, for Kafka's tools to show. Both steps may be
 * done twice; each ends within a finite time.
 */
export interface GroupOffsets {
  /** Positions by partition, from partition 0 on. Makes the group when it is not there. */
  commit(group: string, topic: string, positions: readonly Position[]): Promise<AdminOutcome<void>>;
  /** Afterwards it is not there, nor what it committed; also when it was not there before. */
  delete(group: string): Promise<AdminOutcome<void>>;
}

/** A place to look up in a partition. */
export type OffsetSpec = "earliest" | "latest" | { readonly timeMs: number };

export type OffsetOutcome =
  | { readonly kind: "offset"; readonly offset: number; readonly epoch: number }
  | { readonly kind: "gone" }
  | LogFailure;

/** A record as the catalog reader needs it. Not for the hot path. */
export interface KeyedRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly offset: number;
}

/** Writes to partition 0 of a topic, until another one is opened for it. */
export interface FencedWriter {
  /** In the order of the calls. `fenced`: another one was opened, or asked to be; this one writes no more. */
  write(record: NewRecord): Promise<AppendOutcome | { readonly kind: "fenced" }>;
  /** What is on its way ends unknown. */
  close(): void;
}

/** Records of a transaction that go to one partition; `partition` null means as `append` does with the first. */
export interface TransactionPart {
  readonly topic: TopicInfo;
  readonly partition: number | null;
  /** At least one. They are gone through once, and may be made meanwhile. */
  readonly records: Iterable<NewRecord>;
}

/** Where the transactions of an id write. */
export interface TransactionTargets {
  /** Each of them writes here. */
  readonly always: { readonly topic: TopicInfo; readonly partition: number };
  /** Otherwise to partitions of these. */
  readonly others: readonly TopicInfo[];
}

export interface RecordPosition {
  readonly partition: number;
  readonly offset: number;
}

/** After anything but `committed` and `refused` the writer is of no more use. */
export type TransactionOutcome =
  /** All of it is in the log, on all in-sync replicas; positions of each part's first record: the others follow it. */
  | {
      readonly kind: "committed";
      readonly positions: readonly RecordPosition[];
    }
  /** Kafka does not take a batch of it, and nothing of it is in the log. A smaller one may pass. */
  | { readonly kind: "refused"; readonly tooLarge: boolean; readonly reason: string }
  /** This topic was deleted or recreated; nothing is in the log that has the id asked for. */
  | { readonly kind: "gone"; readonly topic: string }
  /** A newer writer has the transactional id. */
  | { readonly kind: "fenced" }
  /** All of it is in the log, or nothing: who opens a writer anew can read which. */
  | { readonly kind: "unknown"; readonly reason: string }
  /** Nothing of it is in the log. */
  | LogFailure;

/**
 * Writes transactions over any partitions, one at a time, under a transactional id. Opening one ends
 * what an older writer of the same id left open, fences it, and returns when that is settled: what was
 * committed lies before whatever this writer writes to the same partition, and who reads committed events gets there.
 */
export interface TransactionalWriter {
  /**
   * All parts or none; parts of one partition in their order. The call before must have ended.
   * @param mayCommit called when all is produced, with the positions that it will have; the commit waits for
   * it. When it rejects, nothing is committed and the writer is of no more use. It should take less than the
   * transaction's time, 10 s.
   */
  write(
    parts: readonly TransactionPart[],
    mayCommit?: (positions: readonly RecordPosition[]) => Promise<unknown>,
  ): Promise<TransactionOutcome>;
  /**
   * Between two writes: the next one comes within a second, and will most likely go to partition 0 of these. It
   * begins ahead of its events, and takes two requests less then. Resolves when it has begun, or cannot: `write`
   * says why. Where no write comes, it is ended again.
   */
  begin(to: readonly TopicInfo[]): Promise<void>;
}

export interface Log {
  readonly admin: LogAdmin;
  readonly groups: GroupOffsets;
  /** A reader with a connection of its own. */
  openReader(topic: TopicInfo, partition: number): PartitionReader;
  /**
   * Appends one record: idempotent, one open send per partition, batched by a linger of time and bytes.
   * `partition` null means: by key (Kafka's murmur2), without a key spread. A partition that the topic
   * does not have is `refused` by an exception RangeError (a bug of the caller).
   */
  append(topic: TopicInfo, partition: number | null, record: NewRecord): Promise<AppendOutcome>;
  /** Committed offsets: "latest" is the last stable offset; a time past the end gives latest. */
  offset(topic: TopicInfo, partition: number, spec: OffsetSpec): Promise<OffsetOutcome>;
  /**
   * Fences older writers of the topic: once this resolves, nothing of them gets into the log any more, also not
   * what was on its way. The topic's name is the transactional id.
   * @param opened written at once, and each hour with the time of then.
   */
  openFencedWriter(topic: TopicInfo, opened: NewRecord): Promise<AdminOutcome<FencedWriter>>;
  /** @param targets of this writer and of those before it; without them, nothing is looked for that one left. */
  openTransactionalWriter(
    transactionalId: string,
    targets?: TransactionTargets,
  ): Promise<AdminOutcome<TransactionalWriter>>;
  /** Closes every connection. */
  close(): Promise<void>;
}
