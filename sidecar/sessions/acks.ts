/**
 * What a session's client has acknowledged of what it was sent. Pure.
 *
 * Invariants:
 * - A1 A partition's position passes an event only when the client acknowledged it, or was never sent it
 *   (P2). With nothing unacknowledged it is the scan's, so that a filter that admits nothing does not
 *   fall out of retention.
 * - A2 A position never moves back but by `restart`; what is refused changes nothing.
 * - A3 Memory: in mode `explicit` a partition costs one number per leader epoch; in mode `credits` what
 *   is out costs at most four bytes an event, nothing where offsets follow one another (P6).
 */
import type { Position } from "../../kafka/log.ts";
import type { Cursor } from "../dispatch/cursor.ts";
import type { Slice } from "../dispatch/partition-dispatch.ts";
import { edgesOf, offsetsOf } from "../dispatch/segment.ts";
import { Failure } from "../failure.ts";

export type AckMode = "explicit" | "credits";

/** Events of one frame that the client has not returned yet. */
interface Run {
  readonly of: PartitionAcks;
  readonly base: number;
  /** Offsets less `base`; undefined where they follow one another. */
  readonly offsets: Uint32Array | undefined;
  readonly count: number;
  returned: number;
}

class PartitionAcks {
  /** The position while something is out. */
  next: number;
  epoch: number;
  /** Offset of the last event that was sent; -1 before the first. */
  sent = -1;
  /** The last offset that the client acknowledged. */
  acked = -1;
  /** Of what is out: where each leader epoch begins. */
  readonly #epochs: { readonly from: number; readonly epoch: number }[] = [];

  constructor({ offset, epoch }: Position) {
    this.next = offset;
    this.epoch = epoch;
  }

  get outstanding(): boolean {
    return this.sent >= this.next;
  }

  /** @param before where the scan stood. */
  send(before: Position, first: number, last: number, epoch: number): void {
    if (!this.outstanding) {
      this.next = before.offset;
      this.epoch = before.epoch;
      this.#epochs.length = 0;
    }
    if (this.#epochs.at(-1)?.epoch !== epoch) this.#epochs.push({ from: first, epoch });
    this.sent = last;
  }

  pass(offset: number): void {
    this.acked = Math.max(this.acked, offset);
    if (offset < this.next) return;
    while ((this.#epochs[1]?.from ?? Number.POSITIVE_INFINITY) <= offset) this.#epochs.shift();
    const [oldest] = this.#epochs;
    if (oldest && oldest.from <= offset) this.epoch = oldest.epoch;
    this.next = offset + 1;
  }

  /** Recovery moved the scan past what is out: acknowledging that moves nothing any more. */
  skipTo(next: number): void {
    this.next = Math.max(this.next, next);
  }
}

export class Acks {
  readonly #mode: AckMode;
  readonly #cursors: readonly Cursor[];
  readonly #partitions: PartitionAcks[] = [];
  readonly #runs: Run[] = [];
  #out = 0;

  /** @param cursors the stream's, where they start; more may be added to the list later. */
  constructor(mode: AckMode, cursors: readonly Cursor[]) {
    this.#mode = mode;
    this.#cursors = cursors;
    for (const { partition } of cursors) this.restart(partition);
  }

  /** A partition begins anew where its cursor is. What is out of it moves nothing any more. */
  restart(partition: number): void {
    this.#partitions[partition] = new PartitionAcks(positionOf(this.#cursor(partition)));
  }

  /**
   * Recovery moved a partition's cursor. False when it moved forward: acknowledging what is out moves
   * nothing then, but is no mistake. True when it begins anew, further back.
   */
  recovered(partition: number): boolean {
    const acks = this.#partition(partition);
    const { next } = this.#cursor(partition);
    if (next <= acks.sent) this.restart(partition);
    else acks.skipTo(next);
    return next <= acks.sent;
  }

  /** What of a segment goes into a frame: at least one event. */
  sent(partition: number, { segment, ranges, count, before }: Slice): void {
    const { epoch, base } = segment;
    const [first, last] = edgesOf(segment, ranges);
    const of = this.#partition(partition);
    of.send(before, base + first, base + last, epoch);
    if (this.#mode === "explicit") return;
    this.#out += count;
    const run = { of, count, returned: 0 };
    const dense = last - first + 1 === count;
    if (dense) this.#runs.push({ ...run, base: base + first, offsets: undefined });
    else this.#runs.push({ ...run, base, offsets: offsetsOf(segment, ranges, count) });
  }

  /**
   * Cumulative per partition.
   * @throws Failure INVALID_REQUEST, and nothing moved.
   */
  ack(positions: readonly { readonly partition: number; readonly offset: bigint }[]): void {
    this.#explicitOnly();
    const through = positions.map(({ partition, offset }, i) => {
      const field = `ack.positions[${i}]`;
      if (this.#cursors[partition] === undefined) {
        throw invalid(`${field}.partition`, `this stream holds no partition ${partition}`);
      }
      return this.#checked(field, partition, Number(offset));
    });
    for (const { partition, offset } of through) this.#partition(partition).pass(offset);
  }

  /**
   * Everything before these positions, as a token of this stream has them.
   * @throws Failure INVALID_REQUEST, and nothing moved.
   */
  ackAll(positions: readonly Position[]): void {
    this.#explicitOnly();
    for (const [partition, { offset }] of positions.entries()) {
      if (offset > this.#cursor(partition).next) {
        throw invalid("ack.token", `partition ${partition}: offset ${offset} was not sent yet`);
      }
      if (offset <= this.#partition(partition).acked) {
        throw backward("ack.token", partition, offset - 1, this.#partition(partition).acked);
      }
    }
    for (const [partition, { offset }] of positions.entries()) {
      // Past the last event it is a scan's position: what was sent before it is all there is to pass.
      const acks = this.#partition(partition);
      acks.pass(Math.min(offset - 1, acks.sent));
    }
  }

  /**
   * Credit that came back: in mode `credits` the events sent first are done with.
   * @throws Failure INVALID_REQUEST when more came back than is out; nothing moved.
   */
  returned(events: number): void {
    if (this.#mode !== "credits") return;
    if (events > this.#out) {
      throw invalid("credit.events", `${events} came back, ${this.#out} are out`);
    }
    this.#out -= events;
    for (let left = events; left > 0; ) {
      const run = this.#runs[0] as Run;
      const taken = Math.min(left, run.count - run.returned);
      run.returned += taken;
      left -= taken;
      const last = run.returned - 1;
      const offset = run.offsets ? (run.offsets[last] as number) : last;
      run.of.pass(run.base + offset);
      if (run.returned === run.count) this.#runs.shift();
    }
  }

  get outstanding(): boolean {
    return this.#partitions.some(({ outstanding }) => outstanding);
  }

  /** Where the session stands, per partition. */
  positions(): Position[] {
    return this.#cursors.map((cursor, partition) => {
      const acks = this.#partition(partition);
      return acks.outstanding ? { offset: acks.next, epoch: acks.epoch } : positionOf(cursor);
    });
  }

  #checked(field: string, partition: number, offset: number) {
    const { sent, acked } = this.#partition(partition);
    if (!(offset <= sent)) {
      throw invalid(`${field}.offset`, `${offset} of partition ${partition} was not sent yet`);
    }
    if (offset < acked) throw backward(`${field}.offset`, partition, offset, acked);
    return { partition, offset };
  }

  #explicitOnly(): void {
    if (this.#mode === "credits") {
      throw invalid("ack", "this stream was opened with acks by credits");
    }
  }

  #cursor(partition: number): Cursor {
    return this.#cursors[partition] as Cursor;
  }

  #partition(partition: number): PartitionAcks {
    // The topic may have grown since.
    for (let i = this.#partitions.length; i <= partition; i++) this.restart(i);
    return this.#partitions[partition] as PartitionAcks;
  }
}

function positionOf({ next, epoch }: Cursor): Position {
  return { offset: next, epoch };
}

function invalid(field: string, why: string): Failure {
  return new Failure("INVALID_REQUEST", `${field}: ${why}.`);
}

function backward(field: string, partition: number, offset: number, acked: number): Failure {
  return invalid(
    field,
    `${offset} of partition ${partition} is before ${acked}, acknowledged before`,
  );
}
