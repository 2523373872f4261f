/** Transactions of the in-memory log: a writer's whole transaction is appended in one step, or not at all. */
import type {
  AdminOutcome,
  NewRecord,
  RecordPosition,
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
        begin: () => this.#later(() => {}),
        write: async (records, mayCommit) => {
          const placed = mayCommit && this.#place(records);
          const refusal =
            placed?.kind === "placed"
              ? await mayCommit?.(placed.positions).then(
                  () => undefined,
                  ({ message }: Error) => `not committed: ${message}`,
                )
              : undefined;
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
    const placed = this.#place(records);
    if (placed.kind !== "placed") return placed;
    for (const [at, part] of placed.parts) at.appendTransaction(part.records);
    return { kind: "committed", positions: placed.positions };
  }

  /** Where they come to lie if they are appended now. */
  #place(records: readonly TransactionRecord[]): Failed | Placed {
    const { topics, partitioner, maxRecordBytes } = this.#world;
    const parts: Placed["parts"] = new Map();
    const positions: RecordPosition[] = [];
    for (const { topic, partition, record } of records) {
      const chosen = partition ?? partitioner.choose(record.key, topic.partitions);
      const at = topics.partition(topic, chosen);
      if (!at) return { kind: "gone", topic: topic.name };
      if (recordBytes(record) > maxRecordBytes) {
        const reason = "The request included a message larger than the max message size.";
        return { kind: "refused", tooLarge: true, reason };
      }
      const part = parts.get(at) ?? { records: [] };
      parts.set(at, part);
      const nth = part.records.push(record) - 1;
      positions.push({ partition: chosen, offset: at.end + nth });
    }
    return { kind: "placed", parts, positions };
  }
}

interface Placed {
  readonly kind: "placed";
  readonly parts: Map<MemoryPartition, { readonly records: NewRecord[] }>;
  readonly positions: readonly RecordPosition[];
}
