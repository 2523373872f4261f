/**
 * One subscriber's stream: its cursors, its credit, its frames under way, and the token after each frame.
 *
 * Invariants:
 * - R1 A frame's token is made in the same go in which its events were pulled, so it is never ahead of
 *   what was delivered before it and in it (P2, P3).
 * - R2 At most two frames are not yet taken by the transport, and beyond one small frame they come from
 *   the server's budget (P6). Frames start small and grow while the client takes them.
 * - R3 Nothing is pulled without credit: a client without credit holds only its position.
 */
import type { LogLoss, Position } from "../kafka/log.ts";
import type { Recovery } from "../proto/gen/throughline/v1/throughline.ts";
import type { CreditBalance } from "./credit.ts";
import { Cursor, type CursorOwner, type Selection } from "./dispatch/cursor.ts";
import type { Slice } from "./dispatch/partition-dispatch.ts";
import { firstAt, fitting, type Segment } from "./dispatch/segment.ts";
import type { TopicDispatch } from "./dispatch/topic-dispatch.ts";
import { Failure } from "./failure.ts";
import type { Admits } from "./filter.ts";
import { BatchFrame, type Frame } from "./frame.ts";
import type { InFlightBudget } from "./in-flight-budget.ts";
import { encodeToken, type TokenIdentity } from "./token.ts";

const FIRST_FRAME_BYTES = 16 * 1024;
const MAX_FRAMES_UNDER_WAY = 2;

/** Prefix, partition and token of a frame at their longest. */
export function frameOverhead(partitions: number): number {
  return 512 + 16 * partitions;
}

/** Where a stream's frames go. */
export interface StreamWire {
  /** `taken` is called once the transport has taken the frame. */
  write(frame: Frame, taken: () => void): void;
  /** The stream ends with this failure. Called once. */
  end(failure: Failure): void;
  /** All the credit there will ever be is used up, and what it brought is taken. Called once. */
  spent(): void;
  /** A position was lost: recover or end. */
  lost(cursor: Cursor, loss: LogLoss): void;
}

export interface StreamOptions {
  readonly identity: TokenIdentity;
  readonly dispatch: TopicDispatch;
  readonly credit: CreditBalance;
  readonly admits: Admits | undefined;
  readonly recovery: Recovery;
  readonly maxFrameBytes: number;
  readonly targetFrameBytes: number;
  readonly budget: InFlightBudget;
  readonly wire: StreamWire;
  readonly delivered: (events: number, bytes: number) => void;
}

/** What a session wants to know of its stream. */
export interface SessionFrames {
  /** From here on this cursor serves its partition. */
  holds(cursor: Cursor): void;
  sent(partition: number, slice: Slice): void;
  maybeRedelivered(cursor: Cursor, slice: Slice): boolean;
  /** Asked before each frame. */
  readonly mayDeliver: boolean;
}

/** A partition that is new to the topic. */
const NOWHERE: Position = { offset: 0, epoch: -1 };
const NOTHING: Selection = { ranges: [], count: 0, bytes: 0, end: -1 };

export class SubscriberStream implements CursorOwner {
  /** Of the partitions that this stream delivers. */
  readonly cursors = new Map<number, Cursor>();
  /** What its token says of the partitions that it does not deliver. */
  elsewhere: readonly Position[] = [];
  readonly options: StreamOptions;
  session: SessionFrames | undefined;
  readonly #ready = new Set<Cursor>();
  readonly #held = new Set<Cursor>();
  #frameBytes: number;
  #framesUnderWay = 0;
  #bytesUnderWay = 0;
  #pumping = false;
  #open = true;
  #lastCredit = false;
  /** Frames written so far; heartbeats go out when it stands still. */
  framesSent = 0;
  /** Of those the transport has taken. */
  framesTaken = 0;

  constructor(options: StreamOptions) {
    this.options = options;
    this.#frameBytes = Math.min(FIRST_FRAME_BYTES, options.targetFrameBytes);
  }

  get open(): boolean {
    return this.#open;
  }

  /** Something was written that the transport has not taken: a heartbeat would only pile up. */
  get waitsForClient(): boolean {
    return this.framesSent > this.framesTaken;
  }

  /** Nothing is sent from there before `ready`. */
  addCursor(partition: number, { offset, epoch }: Position, verified: boolean): Cursor {
    const cursor = new Cursor(this, partition, offset, epoch);
    if (verified) cursor.verified = true;
    this.cursors.set(partition, cursor);
    this.options.dispatch.partition(partition).add(cursor);
    this.session?.holds(cursor);
    return cursor;
  }

  /** The partition is delivered no more. */
  removeCursor(partition: number): void {
    const cursor = this.cursors.get(partition);
    if (cursor === undefined) return;
    this.options.dispatch.partition(partition).remove(cursor);
    this.cursors.delete(partition);
    this.#held.delete(cursor);
    this.#ready.delete(cursor);
  }

  token(): Buffer {
    const positions = [...this.elsewhere];
    for (const { partition, next, epoch } of this.cursors.values()) {
      while (positions.length < partition) positions.push(NOWHERE);
      positions[partition] = { offset: next, epoch };
    }
    return encodeToken(this.options.identity, positions);
  }

  /** Sends what there is; called after every change. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#open && this.#ready.size > 0 && this.#mayPull()) {
      const [cursor] = this.#ready;
      if (cursor === undefined) break;
      this.#ready.delete(cursor);
      const slice = this.options.dispatch.partition(cursor.partition).pull(cursor);
      if (slice === undefined || !this.#open) continue;
      this.#send(cursor, slice);
      this.#ready.add(cursor);
    }
    this.#pumping = false;
    this.#endWhenSpent();
  }

  noMoreCredit(): void {
    this.#lastCredit = true;
    this.#endWhenSpent();
  }

  start(): void {
    for (const cursor of this.cursors.values()) this.#ready.add(cursor);
    this.pump();
  }

  /** False for a cursor that `reposition` has replaced. */
  has(cursor: Cursor): boolean {
    return this.cursors.get(cursor.partition) === cursor;
  }

  canTake(): boolean {
    return this.#open && this.#mayPull();
  }

  ready(cursor: Cursor): void {
    if (!this.#open || this.#held.has(cursor) || !this.has(cursor)) return;
    this.#ready.add(cursor);
    this.pump();
  }

  lost(cursor: Cursor, loss: LogLoss): void {
    if (!this.#open) return;
    this.#ready.delete(cursor);
    this.#held.add(cursor);
    this.options.wire.lost(cursor, loss);
  }

  /** A lost cursor goes on elsewhere. */
  recover(cursor: Cursor, next: number, epoch: number): void {
    if (this.cursors.get(cursor.partition) !== cursor) return;
    cursor.moveTo(next, epoch);
    cursor.verified = true;
    cursor.onMain = false;
    this.#held.delete(cursor);
    this.ready(cursor);
  }

  /** Every cursor goes on elsewhere, one position per partition; nothing is sent from there yet. */
  reposition(positions: readonly Position[]): void {
    for (const [partition, position] of positions.entries()) {
      if (!this.cursors.has(partition)) continue;
      this.removeCursor(partition);
      this.#ready.add(this.addCursor(partition, position, false));
    }
  }

  failed(_cursor: Cursor, reason: { kind: "unauthorised" | "corrupt"; reason: string }): void {
    const name = reason.kind === "corrupt" ? "LOG_CORRUPT" : "KAFKA_REFUSED";
    this.fail(new Failure(name, reason.reason, { token: this.token() }));
  }

  fail(failure: Failure): void {
    if (!this.#open) return;
    this.close();
    this.options.wire.end(failure);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.options.budget.forget(this.#budgetFreed);
    this.options.budget.give(this.#bytesUnderWay);
    this.#bytesUnderWay = 0;
    for (const cursor of this.cursors.values()) {
      this.options.dispatch.partition(cursor.partition).remove(cursor);
    }
    this.#ready.clear();
  }

  /** A control message: small, never held back by credit. */
  write(message: Frame, taken = (): void => {}): void {
    if (!this.#open) return;
    this.framesSent++;
    this.options.wire.write(message, () => {
      this.framesTaken++;
      taken();
    });
  }

  select(cursor: Cursor, segment: Segment, from: number): Selection {
    const { dropThrough } = cursor;
    const first = dropThrough < 0 ? from : Math.max(from, firstAt(segment, dropThrough + 1));
    if (first >= segment.count) return { ...NOTHING, end: segment.count };
    const { credit, admits } = this.options;
    const wanted = Math.min(this.#frameBytes, this.#roomInBudget(), credit.bytes);
    const selection = admits
      ? filtered(segment, first, credit.events, wanted, admits)
      : plain(segment, first, credit.events, wanted);
    if (selection.bytes > wanted && !this.#mayExceed(selection.bytes)) {
      return { ...NOTHING, end: first };
    }
    if (selection.bytes + this.#overhead() <= this.options.maxFrameBytes) return selection;
    this.#tooLarge(cursor, segment, selection);
    return { ...NOTHING, end: first };
  }

  #mayPull(): boolean {
    if (this.session && !this.session.mayDeliver) return false;
    if (this.options.credit.none || this.#framesUnderWay >= MAX_FRAMES_UNDER_WAY) return false;
    return this.#framesUnderWay === 0 || this.options.budget.free >= this.#frameBytes;
  }

  #roomInBudget(): number {
    if (this.options.budget.free >= this.#frameBytes) return this.#frameBytes;
    return FIRST_FRAME_BYTES;
  }

  /** One event larger than the frame wanted: needs the budget unless it is small. */
  #mayExceed(bytes: number): boolean {
    if (bytes <= FIRST_FRAME_BYTES || this.options.budget.free >= bytes) return true;
    this.options.budget.whenGiven(this.#budgetFreed);
    return false;
  }

  #endWhenSpent(): void {
    if (!this.#lastCredit || !this.#open) return;
    if (!this.options.credit.none || this.#framesUnderWay > 0) return;
    this.close();
    this.options.wire.spent();
  }

  readonly #budgetFreed = (): void => {
    for (const cursor of this.cursors.values())
      if (!this.#held.has(cursor)) this.#ready.add(cursor);
    this.pump();
  };

  #overhead(): number {
    return frameOverhead(Math.max(this.cursors.size, this.elsewhere.length));
  }

  #tooLarge(cursor: Cursor, segment: Segment, selection: Selection): void {
    // `plain` and `filtered` exceed only with a single event: the last one looked at.
    const index = selection.end - 1;
    const offset = segment.base + (segment.deltas[index] as number);
    cursor.moveTo(offset + 1, segment.epoch);
    this.fail(
      new Failure(
        "EVENT_TOO_LARGE",
        `The event at offset ${offset} needs a frame of ${selection.bytes + this.#overhead()} bytes; this stream takes ${this.options.maxFrameBytes}.`,
        { token: this.token() },
      ),
    );
  }

  #send(cursor: Cursor, slice: Slice): void {
    const { bytes, lease } = slice.segment;
    lease.hold();
    const frame = new BatchFrame(bytes, slice.ranges, slice.bytes, {
      partition: cursor.partition,
      maybeRedelivered: this.session?.maybeRedelivered(cursor, slice) ?? false,
      token: this.token(),
    });
    this.session?.sent(cursor.partition, slice);
    const { byteLength } = frame;
    this.options.credit.spend(slice.count, slice.bytes);
    this.options.budget.take(byteLength);
    this.#framesUnderWay++;
    this.#bytesUnderWay += byteLength;
    this.framesSent++;
    this.options.delivered(slice.count, slice.bytes);
    this.options.wire.write(frame, () => {
      lease.release();
      this.#framesUnderWay--;
      this.framesTaken++;
      if (!this.#open) return;
      this.#bytesUnderWay -= byteLength;
      this.options.budget.give(byteLength);
      this.#frameBytes = Math.min(this.options.targetFrameBytes, this.#frameBytes * 2);
      this.pump();
    });
  }
}

function plain(segment: Segment, first: number, maxEvents: number, maxBytes: number): Selection {
  const count = fitting(segment, first, maxEvents, maxBytes);
  const start = segment.starts[first] as number;
  const end = segment.starts[first + count] as number;
  return { ranges: [start, end], count, bytes: end - start, end: first + count };
}

function filtered(
  segment: Segment,
  first: number,
  maxEvents: number,
  maxBytes: number,
  admits: Admits,
): Selection {
  const { starts, bytes: source } = segment;
  const ranges: number[] = [];
  let count = 0;
  let bytes = 0;
  let index = first;
  for (; index < segment.count && count < maxEvents; index++) {
    const start = starts[index] as number;
    const end = starts[index + 1] as number;
    // The message begins behind its tag and length.
    let body = start + 1;
    while ((source[body++] as number) >= 128);
    if (!admits(source, body, end)) continue;
    if (count > 0 && bytes + end - start > maxBytes) break;
    if (ranges.at(-1) === start) ranges[ranges.length - 1] = end;
    else ranges.push(start, end);
    count++;
    bytes += end - start;
  }
  return { ranges, count, bytes, end: index };
}
