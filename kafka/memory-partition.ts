/** One partition of the in-memory log: batches, leader epochs, aborted transactions, waiting fetches. */
import type { AbortedTransaction, LogLoss, NewRecord, Position } from "./log.ts";
import { encodeBatch, NO_PRODUCER } from "./record-batch.ts";

export interface Batch {
  readonly base: number;
  readonly last: number;
  readonly epoch: number;
  readonly timeMs: number;
  readonly bytes: Buffer;
  readonly abortedBy?: bigint;
}

const ABORT_MARKER = marker(0);
const COMMIT_MARKER = marker(1);

function marker(type: number): NewRecord {
  return { key: Buffer.from([0, 0, 0, type]), value: Buffer.alloc(6), headers: [], timeMs: 0 };
}

export class MemoryPartition {
  readonly #batches: Batch[] = [];
  readonly #waiting = new Set<() => void>();
  /** Where each leader epoch begins. */
  readonly #epochs: { readonly epoch: number; readonly from: number }[] = [{ epoch: 0, from: 0 }];
  start = 0;
  end = 0;
  epoch = 0;
  #producers = 0n;

  append(records: readonly NewRecord[]): number {
    const base = this.#push(records, {});
    this.#wake();
    return base;
  }

  /** A committed transaction: its marker takes an offset too. */
  appendTransaction(records: readonly NewRecord[]): number {
    const base = this.#push(records, {});
    this.#push([COMMIT_MARKER], { control: ++this.#producers });
    this.#wake();
    return base;
  }

  appendAborted(records: readonly NewRecord[]): number {
    const producer = ++this.#producers;
    const base = this.#push(records, { abortedBy: producer });
    this.#push([ABORT_MARKER], { control: producer });
    this.#wake();
    return base;
  }

  retainFrom(offset: number): void {
    this.start = offset;
    while (this.#batches[0] && this.#batches[0].last < offset) this.#batches.shift();
  }

  /** Cuts the log and begins a leader epoch, as a leader does that had not everything. */
  truncateTo(offset: number): void {
    while ((this.#batches.at(-1)?.last ?? -1) >= offset) this.#batches.pop();
    this.end = offset;
    while ((this.#epochs.at(-1)?.from ?? -1) >= offset) this.#epochs.pop();
    this.#epochs.push({ epoch: ++this.epoch, from: offset });
    this.#wake();
  }

  offsetAt(timeMs: number): number {
    return this.#batches.find((batch) => batch.timeMs >= timeMs)?.base ?? this.end;
  }

  canWait(offset: number): boolean {
    return offset === this.end;
  }

  /** Calls back once at the next append or after `ms`; returns: call back now. */
  waitForAppend(
    setTimer: (ms: number, fire: () => void) => () => void,
    ms: number,
    done: () => void,
  ): () => void {
    const fire = (): void => {
      if (!this.#waiting.delete(fire)) return;
      cancel();
      done();
    };
    const cancel = setTimer(ms, fire);
    this.#waiting.add(fire);
    return fire;
  }

  /** Why the position cannot be read on, judged as a Kafka leader does (KIP-320); undefined when it can. */
  judge({ offset, epoch }: Position): LogLoss | undefined {
    if (offset < this.start) return { kind: "before-earliest", earliest: this.start };
    if (epoch >= 0) {
      const known = this.#epochs.findLast((begun) => begun.epoch <= epoch);
      const after = this.#epochs.find((begun) => begun.epoch > epoch);
      const endOffset = after?.from ?? this.end;
      if (known && (known.epoch < epoch || endOffset < offset)) {
        return { kind: "truncated", epoch: known.epoch, endOffset };
      }
    }
    if (offset > this.end) return { kind: "past-end", earliest: this.start };
    return undefined;
  }

  read(from: number, maxBytes: number): Batch[] {
    let low = 0;
    let high = this.#batches.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#batches[middle] as Batch).last < from) low = middle + 1;
      else high = middle;
    }
    const found: Batch[] = [];
    let bytes = 0;
    for (let i = low; i < this.#batches.length; i++) {
      const batch = this.#batches[i] as Batch;
      bytes += batch.bytes.length;
      if (found.length > 0 && bytes > maxBytes) break;
      found.push(batch);
    }
    return found;
  }

  abortedIn(batches: readonly Batch[]): AbortedTransaction[] {
    return batches.flatMap((batch) =>
      batch.abortedBy === undefined
        ? []
        : [{ producerId: batch.abortedBy, firstOffset: batch.base }],
    );
  }

  #push(records: readonly NewRecord[], of: { abortedBy?: bigint; control?: bigint }): number {
    const base = this.end;
    const producer = of.abortedBy ?? of.control;
    const bytes = encodeBatch(records, {
      ...NO_PRODUCER,
      baseOffset: base,
      leaderEpoch: this.epoch,
      ...(producer === undefined
        ? {}
        : { producerId: producer, producerEpoch: 0, baseSequence: 0, transactional: true }),
      control: of.control !== undefined,
    });
    this.end = base + records.length;
    this.#batches.push({
      base,
      last: this.end - 1,
      epoch: this.epoch,
      timeMs: records[0]?.timeMs ?? 0,
      bytes,
      ...(of.abortedBy === undefined ? {} : { abortedBy: of.abortedBy }),
    });
    return base;
  }

  #wake(): void {
    for (const fire of [...this.#waiting]) fire();
  }
}
