/** Transactions of the in-memory log: a writer's whole transaction is appended in one step, or not at all. */
import type {
  AdminOutcome,
  NewRecord,
  RecordPosition,
  TransactionalWriter,
  TransactionOutcome,
  TransactionPart,
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
      const write = (parts: readonly Part[]): TransactionOutcome => {
        const unusable = over ?? whyUnavailable();
        if (unusable !== undefined) return { kind: "unavailable", reason: unusable };
        if (this.#newest.get(id) !== epoch) return { kind: "fenced" };
        const failing = this.#failing.shift();
        if (!failing) return this.#append(parts);
        if (failing.written) this.#append(parts);
        return failing.outcome;
      };
      const writer: TransactionalWriter = {
        begin: () => this.#later(() => {}),
        write: async (of, mayCommit) => {
          const parts = of.map((part) => ({ ...part, records: [...part.records] }));
          const placed = mayCommit && this.#place(parts);
          const refusal =
            placed?.kind === "placed"
              ? await mayCommit?.(placed.positions).then(
                  () => undefined,
                  ({ message }: Error) => `not committed: ${message}`,
                )
              : undefined;
          return this.#later(() => {
            const outcome: TransactionOutcome =
              refusal === undefined ? write(parts) : { kind: "unavailable", reason: refusal };
            const goesOn = outcome.kind === "committed" || outcome.kind === "refused";
            if (!goesOn) over ??= `this writer ended: ${outcome.kind}`;
            return outcome;
          });
        },
      };
      return { kind: "done", value: writer };
    });
  }

  #append(parts: readonly Part[]): TransactionOutcome {
    const placed = this.#place(parts);
    if (placed.kind !== "placed") return placed;
    for (const [at, records] of placed.of) at.appendTransaction(records);
    return { kind: "committed", positions: placed.positions };
  }

  /** Where they come to lie if they are appended now. */
  #place(parts: readonly Part[]): Failed | Placed {
    const { topics, partitioner, maxRecordBytes } = this.#world;
    const of: Placed["of"] = new Map();
    const positions: RecordPosition[] = [];
    for (const { topic, partition, records } of parts) {
      const [first] = records;
      const chosen = partition ?? partitioner.choose(first?.key ?? null, topic.partitions);
      const at = topics.partition(topic, chosen);
      if (!at) return { kind: "gone", topic: topic.name };
      if (records.some((record) => recordBytes(record) > maxRecordBytes)) {
        const reason = "The request included a message larger than the max message size.";
        return { kind: "refused", tooLarge: true, reason };
      }
      const all = of.get(at) ?? [];
      of.set(at, all);
      positions.push({ partition: chosen, offset: at.end + all.length });
      all.push(...records);
    }
    return { kind: "placed", of, positions };
  }
}

interface Part extends TransactionPart {
  readonly records: readonly NewRecord[];
}

interface Placed {
  readonly kind: "placed";
  readonly of: Map<MemoryPartition, NewRecord[]>;
  readonly positions: readonly RecordPosition[];
}
