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

/** What a token says of a partition that it does not name. */
const NOWHERE: Position = { offset: 0, epoch: -1 };

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
  readonly cursor: Cursor;
  /** Where it began: a token may say less of it, from before the stream held the partition. */
  readonly from: number;
  /** The position while something is out. */
  next: number;
  epoch: number;
  /** Offset of the last event that was sent; -1 before the first. */
  sent = -1;
  /** The last offset that the client acknowledged. */
  acked = -1;
  /** Of what is out: where each leader epoch begins. */
  readonly #epochs: { readonly from: number; readonly epoch: number }[] = [];

  constructor(cursor: Cursor) {
    this.cursor = cursor;
    this.from = cursor.next;
    this.next = cursor.next;
    this.epoch = cursor.epoch;
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

  get position(): Position {
    const { next, epoch, cursor } = this;
    return this.outstanding
      ? { offset: next, epoch }
      : { offset: cursor.next, epoch: cursor.epoch };
  }
}

export class Acks {
  readonly #mode: AckMode;
  readonly #isMember: boolean;
  readonly #partitions = new Map<number, PartitionAcks>();
  /** Of partitions that were held before: the last offset that was sent then. */
  readonly #before = new Map<number, number>();
  readonly #runs: Run[] = [];
  #out = 0;

  /** @param isMember partitions come and go: tokens are also from before one came. */
  constructor(mode: AckMode, isMember = false) {
    this.#mode = mode;
    this.#isMember = isMember;
  }

  /** A partition begins, or begins anew, where the cursor is. What is out of it moves nothing any more. */
  hold(cursor: Cursor): void {
    this.#partitions.set(cursor.partition, new PartitionAcks(cursor));
  }

  /** The partition is another's. Acknowledgements on their way are no mistake, and move nothing. */
  drop(partition: number): void {
    const { sent = -1 } = this.#partitions.get(partition) ?? {};
    this.#before.set(partition, Math.max(sent, this.#sentBefore(partition)));
    this.#partitions.delete(partition);
  }

  /**
   * Recovery moved a partition's cursor. False when it moved forward: acknowledging what is out moves
   * nothing then, but is no mistake. True when it begins anew, further back.
   */
  recovered(partition: number): boolean {
    const acks = this.#partition(partition);
    const { next } = acks.cursor;
    if (next <= acks.sent) this.hold(acks.cursor);
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
   * Cumulative per partition; of a token everything before its positions.
   * @param all the positions of a token of this stream.
   * @throws Failure INVALID_REQUEST, and nothing moved.
   */
  ack(
    positions: readonly { readonly partition: number; readonly offset: bigint }[],
    all?: readonly Position[],
  ): void {
    this.#explicitOnly();
    const through = positions.map(({ partition, offset }, i) =>
      this.#checked(`ack.positions[${i}]`, partition, Number(offset)),
    );
    if (all) this.#checkAll(all);
    for (const { acks, offset } of through) if (offset >= 0) acks?.pass(offset);
    if (!all) return;
    for (const [partition, acks] of this.#partitions) {
      // Past the last event it is a scan's position: what was sent before it is all there is to pass.
      const { offset } = all[partition] ?? NOWHERE;
      if (offset > acks.from) acks.pass(Math.min(offset - 1, acks.sent));
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
    return [...this.#partitions.values()].some(({ outstanding }) => outstanding);
  }

  position(partition: number): Position {
    return this.#partition(partition).position;
  }

  isOut(partition: number): boolean {
    return this.#partition(partition).outstanding;
  }

  /** Where the session stands, per partition that is held. */
  positions(): Map<number, Position> {
    return new Map(
      Array.from(this.#partitions, ([partition, { position }]) => [partition, position]),
    );
  }

  #checkAll(positions: readonly Position[]): void {
    for (const [partition, { acked, from, cursor }] of this.#partitions) {
      const { offset } = positions[partition] ?? NOWHERE;
      if (offset > cursor.next && offset - 1 > this.#sentBefore(partition)) {
        throw invalid("ack.token", `partition ${partition}: offset ${offset} was not sent yet`);
      }
      if (offset <= acked && (offset > from || !this.#isMember)) {
        throw backward("ack.token", partition, offset - 1, acked);
      }
    }
  }

  #checked(field: string, partition: number, offset: number) {
    const acks = this.#partitions.get(partition);
    const before = this.#sentBefore(partition);
    if (!acks) {
      if (offset <= before) return { acks, offset: -1 };
      throw invalid(`${field}.partition`, `this stream holds no partition ${partition}`);
    }
    const { sent, acked } = acks;
    // Of what it was sent when it held the partition before.
    if (offset > sent && offset <= before) return { acks, offset: sent };
    if (!(offset <= sent)) {
      throw invalid(`${field}.offset`, `${offset} of partition ${partition} was not sent yet`);
    }
    if (offset < acked) throw backward(`${field}.offset`, partition, offset, acked);
    return { acks, offset };
  }

  #sentBefore(partition: number): number {
    return this.#before.get(partition) ?? -1;
  }

  #explicitOnly(): void {
    if (this.#mode === "credits") {
      throw invalid("ack", "this stream was opened with acks by credits");
    }
  }

  #partition(partition: number): PartitionAcks {
    return this.#partitions.get(partition) as PartitionAcks;
  }
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
