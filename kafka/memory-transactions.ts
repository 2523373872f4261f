/** Transactions of the in-memory log: a writer's whole transaction is appended in one step, or not at all. */
import type {
  AdminOutcome,
  NewRecord,
  TransactionalWriter,
  TransactionOutcome,
  TransactionRecord,
} from "./log.ts";
import type { MemoryAdmin } from "./memory-admin.ts";
import type { MemoryPartition } from "./memory-partition.ts";
import type { Partitioner } from "./partitioner.ts";
import { recordBytes } from "./record-batch.ts";

interface World {
  readonly topics: MemoryAdmin;
  readonly partitioner: Partitioner;
  readonly maxRecordBytes: number;
}

type Failed = Exclude<TransactionOutcome, { kind: "committed" }>;

export class MemoryTransactions {
  readonly #world: World;
  readonly #later: <T>(make: () => T) => Promise<T>;
  readonly #newest = new Map<string, number>();
  readonly #failing: { readonly outcome: Failed; readonly written: boolean }[] = [];

  constructor(world: World, later: <T>(make: () => T) => Promise<T>) {
    this.#world = world;
    this.#later = later;
  }

  failNext(outcome: Failed, written: boolean): void {
    this.#failing.push({ outcome, written });
  }

  open(
    id: string,
    whyUnavailable: () => string | undefined,
  ): Promise<AdminOutcome<TransactionalWriter>> {
    return this.#later(() => {
      const reason = whyUnavailable();
      if (reason !== undefined) return { kind: "unavailable", reason };
      const epoch = (this.#newest.get(id) ?? 0) + 1;
      this.#newest.set(id, epoch);
      let over: string | undefined;
      const write = (records: readonly TransactionRecord[]): TransactionOutcome => {
        const unusable = over ?? whyUnavailable();
        if (unusable !== undefined) return { kind: "unavailable", reason: unusable };
        if (this.#newest.get(id) !== epoch) return { kind: "fenced" };
        const failing = this.#failing.shift();
        if (!failing) return this.#append(records);
        if (failing.written) this.#append(records);
        return failing.outcome;
      };
      const writer: TransactionalWriter = {
        write: async (records, ready) => {
          const refusal = await Promise.resolve(ready).then(
            () => undefined,
            ({ message }: Error) => `not committed: ${message}`,
          );
          return this.#later(() => {
            const outcome: TransactionOutcome =
              refusal === undefined ? write(records) : { kind: "unavailable", reason: refusal };
            const goesOn = outcome.kind === "committed" || outcome.kind === "refused";
            if (!goesOn) over ??= `this writer ended: ${outcome.kind}`;
            return outcome;
          });
        },
      };
      return { kind: "done", value: writer };
    });
  }

  #append(records: readonly TransactionRecord[]): TransactionOutcome {
    const { topics, partitioner, maxRecordBytes } = this.#world;
    const parts = new Map<MemoryPartition, { partition: number; records: NewRecord[] }>();
    const places: { readonly at: MemoryPartition; readonly index: number }[] = [];
    for (const { topic, partition, record } of records) {
      const chosen = partition ?? partitioner.choose(record.key, topic.partitions);
      const at = topics.partition(topic, chosen);
      if (!at) return { kind: "gone", topic: topic.name };
      if (recordBytes(record) > maxRecordBytes) {
        const reason = "The request included a message larger than the max message size.";
        return { kind: "refused", tooLarge: true, reason };
      }
      const part = parts.get(at) ?? { partition: chosen, records: [] };
      parts.set(at, part);
      places.push({ at, index: part.records.push(record) - 1 });
    }
    const bases = new Map<MemoryPartition, number>();
    for (const [at, part] of parts) bases.set(at, at.appendTransaction(part.records));
    return {
      kind: "committed",
      positions: places.map(({ at, index }) => ({
        partition: parts.get(at)?.partition ?? 0,
        offset: (bases.get(at) ?? 0) + index,
      })),
    };
  }
}
