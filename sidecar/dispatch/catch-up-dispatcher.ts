/**
 * Catch-up dispatcher: reads one partition from an old position towards the main dispatcher's tail and
 * serves every client it passes. It ends when its last member has merged or left.
 *
 * Invariants:
 * - C1 Its tail is one run without a hole from where it started to `tail.next`: one read at a time.
 * - C2 It reads on only when its window has room; the oldest segment goes only when no member needs it,
 *   so a member is never skipped: it is served, or it leaves with its position (P2).
 * - C3 A member that takes nothing, or that needs the oldest segment when others have passed it, leaves:
 *   after `sharedStallMs` while others wait for it, or for a dispatcher of their own; after eight times
 *   that while the server itself sets the pace (CatchUpLoad); who takes nothing and is waited for by
 *   nobody, after `aloneStallMs`. Nobody is stalled by another for longer (P6).
 */
import type { FetchOutcome, PartitionReader, Position } from "../../kafka/log.ts";
import { scanNext } from "../../kafka/scan.ts";
import type { Cursor } from "./cursor.ts";
import type { DispatchHost } from "./dispatch-host.ts";
import type { Sweep } from "./plan-catch-up.ts";
import { Rate } from "./rate.ts";
import type { Segment } from "./segment.ts";
import { Tail } from "./tail.ts";

/** What its partition does when something happens here. */
export interface CatchUpEvents {
  /** New events, or an outcome its members must look at. */
  advanced(dispatcher: CatchUpDispatcher): void;
  /** The fetch at `tail.next` failed for good; members at that position are judged by it. */
  refused(dispatcher: CatchUpDispatcher, outcome: Exclude<FetchOutcome, { kind: "fetched" }>): void;
  /** What comes at its end is in the window of another one: who stands there goes on there. */
  servedElsewhere(dispatcher: CatchUpDispatcher): boolean;
  /** A member stalled the others. */
  left(dispatcher: CatchUpDispatcher, cursor: Cursor): void;
}

const PATIENCE_AT_FULL_SPEED = 8;
/** A timer may fire so much before the clock says that it should. */
const TIMER_EARLY_MS = 2;

/** What was seen of a member since the window was full. */
interface Progress {
  readonly sinceMs: number;
  next: number;
  movedMs: number;
}

interface Stall {
  readonly oldest: Segment | undefined;
  readonly seen: Map<Cursor, Progress>;
}

export class CatchUpDispatcher implements Sweep {
  readonly tail: Tail;
  readonly sinceMs: number;
  readonly #members = new Set<Cursor>();
  readonly #host: DispatchHost;
  readonly #reader: PartitionReader;
  readonly #events: CatchUpEvents;
  readonly #stopBefore: () => number;
  #reading = false;
  /** The fetch that was sent before what came before it was encoded. */
  #ahead: { readonly from: number; readonly outcome: Promise<FetchOutcome> } | undefined;
  #closed = false;
  #stall: Stall | undefined;
  #cancelStall: (() => void) | undefined;
  readonly #progress: Rate;
  readonly #delivered: Rate;

  /** @param stopBefore where the main dispatcher's tail begins: reading past it would be wasted. */
  constructor(
    host: DispatchHost,
    reader: PartitionReader,
    start: { offset: number; epoch: number; sinceMs: number },
    stopBefore: () => number,
    events: CatchUpEvents,
  ) {
    this.#host = host;
    this.#reader = reader;
    this.#stopBefore = stopBefore;
    this.#events = events;
    this.tail = new Tail(start.offset, start.epoch);
    this.sinceMs = start.sinceMs;
    const { clock, load, pace } = host;
    this.#progress = new Rate(pace.youngMs, clock.now());
    this.#delivered = load.share(clock.now());
  }

  get closed(): boolean {
    return this.#closed;
  }

  progress(nowMs: number): number | undefined {
    return this.#progress.perSecond(nowMs);
  }

  atFullSpeed(nowMs: number): boolean {
    const delivered = this.#delivered.perSecond(nowMs);
    return this.#host.load.setsPaceOf(delivered, this.#members.size, nowMs);
  }

  /** A member took so much. */
  delivered(bytes: number): void {
    const nowMs = this.#host.clock.now();
    this.#delivered.note(bytes, nowMs);
    this.#host.load.delivered(bytes, nowMs);
  }

  get members(): ReadonlySet<Cursor> {
    return this.#members;
  }

  enter(cursor: Cursor): void {
    this.#members.add(cursor);
    this.#host.load.members(1);
  }

  leave(cursor: Cursor): void {
    if (this.#members.delete(cursor)) this.#host.load.members(-1);
  }

  /** Reads on when there is room and someone to read for. Called after every change. */
  poke(): void {
    if (this.#closed || this.#reading) return;
    this.#dropServed();
    if (this.members.size === 0) return;
    if (this.tail.length > 0 && this.tail.next >= this.#stopBefore() && this.#allVerified()) {
      this.#watchStall();
      return;
    }
    // Who comes to its end goes on there. Kafka is asked once for both.
    if (this.tail.length > 0 && this.#events.servedElsewhere(this)) {
      if (!this.#closed) this.#watchStall();
      return;
    }
    // A single segment may be larger than the window: it is no reason to stop once all have it.
    if (this.tail.bytes >= this.#host.limits.catchUpWindowBytes && this.#someoneTakes()) {
      this.#watchStall();
      return;
    }
    void this.#read();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelStall?.();
    this.#host.catchUpBytes(-this.tail.bytes);
    for (const cursor of [...this.#members]) this.leave(cursor);
    this.#reader.close();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    const from = { offset: this.tail.next, epoch: this.tail.epoch };
    const outcome = await this.#fetch(from);
    if (outcome.kind === "fetched") await this.#host.turns.take();
    this.#reading = false;
    if (this.#closed) return;
    if (outcome.kind !== "fetched") {
      this.#events.refused(this, outcome);
      return;
    }
    this.#host.metrics.logBytesRead(outcome.records.length, "catch-up");
    this.#readAhead(from, outcome.records);
    const encoded = this.#host.encoder.encode(outcome, from.offset);
    outcome.release();
    // With something before the damage, the next fetch begins at the damage itself.
    if (encoded.kind === "corrupt" && encoded.segments.length === 0) {
      this.#events.refused(this, encoded);
      return;
    }
    const before = this.tail.bytes;
    for (const segment of encoded.segments) this.tail.append(segment);
    const bytes = this.tail.bytes - before;
    this.#host.catchUpBytes(bytes);
    this.#progress.note(bytes, this.#host.clock.now());
    // Before anybody hears of it: who does pokes, and what is read twice at once comes twice (C1).
    if (encoded.segments.length === 0) this.#pause();
    this.#events.advanced(this);
    this.poke();
  }

  async #fetch(from: Position): Promise<FetchOutcome> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    if (ahead) {
      const outcome = await ahead.outcome;
      if (ahead.from === from.offset) return outcome;
      // What came before it was damaged: it ended elsewhere.
      if (outcome.kind === "fetched") outcome.release();
    }
    return await this.#reader.fetch(from, this.#host.limits.fetchBytes, 0);
  }

  /** Kafka and we work at the same time, where the window surely has room for what comes then. */
  #readAhead(from: Position, records: Buffer): void {
    const { catchUpWindowBytes, fetchBytes } = this.#host.limits;
    const { next, epoch } = scanNext(records, from.offset);
    const room = this.tail.bytes + records.length + fetchBytes <= catchUpWindowBytes;
    if (!room || next === from.offset || next >= this.#stopBefore()) return;
    const outcome = this.#reader.fetch({ offset: next, epoch }, fetchBytes, 0);
    this.#ahead = { from: next, outcome };
  }

  /** At the end of the log: the main dispatcher is about to have what comes. */
  #pause(): void {
    this.#reading = true;
    this.#host.clock.setTimer(5, () => {
      this.#reading = false;
      this.poke();
    });
  }

  #allVerified(): boolean {
    for (const cursor of this.members) if (!cursor.verified) return false;
    return true;
  }

  #dropServed(): void {
    let needed = Number.POSITIVE_INFINITY;
    for (const cursor of this.members) needed = Math.min(needed, cursor.next);
    for (let oldest = this.tail.oldest; oldest; oldest = this.tail.oldest) {
      // The newest stays: who comes back at once from credit finds its place.
      if (this.tail.length === 1 || oldest.next > needed) return;
      this.#host.catchUpBytes(-this.tail.dropOldest());
      this.#cancelStall?.();
      this.#cancelStall = undefined;
      this.#stall = undefined;
    }
  }

  /** Watched again and again: who waits may come long after the stall began, and so may who stalls. */
  #watchStall(): void {
    if (this.#cancelStall) return;
    const { clock, limits } = this.#host;
    const { oldest } = this.tail;
    if (this.#stall?.oldest !== oldest) this.#stall = { oldest, seen: new Map() };
    const { seen } = this.#stall as Stall;
    const nowMs = clock.now();
    for (const cursor of this.members) {
      const { next } = cursor;
      const known = seen.get(cursor);
      if (!known) seen.set(cursor, { sinceMs: nowMs, next, movedMs: nowMs });
      else if (known.next !== next) Object.assign(known, { next, movedMs: nowMs });
    }
    const ms = Math.min(limits.sharedStallMs, limits.aloneStallMs) + TIMER_EARLY_MS;
    this.#cancelStall = clock.setTimer(ms, () => {
      this.#cancelStall = undefined;
      if (this.#closed) return;
      for (const cursor of this.#stalled(oldest, seen)) this.#events.left(this, cursor);
      this.poke();
    });
  }

  /**
   * On a saturated server everybody takes slowly, and now and then nothing for a while: who left would
   * be read for again. Should a member hold up all others, they take less and less, and it leaves then.
   */
  #stalled(oldest: Segment | undefined, seen: ReadonlyMap<Cursor, Progress>): Cursor[] {
    const { clock, budget, limits } = this.#host;
    const nowMs = clock.now();
    const shared = this.#someoneWaits();
    const patienceMs = this.atFullSpeed(nowMs)
      ? Math.min(limits.aloneStallMs, PATIENCE_AT_FULL_SPEED * limits.sharedStallMs)
      : limits.sharedStallMs;
    const idleMs = shared || budget.contended ? patienceMs : limits.aloneStallMs;
    const held = shared && this.tail.oldest === oldest && oldest !== undefined;
    return [...this.members].filter((cursor) => {
      const known = seen.get(cursor);
      // It came since: it is judged next time.
      if (known === undefined || cursor.next >= this.tail.next) return false;
      if (cursor.next === known.next && nowMs - known.movedMs >= idleMs) return true;
      return held && cursor.next < oldest.next && nowMs - known.sinceMs >= patienceMs;
    });
  }

  #someoneTakes(): boolean {
    for (const cursor of this.members) if (cursor.next < this.tail.next) return true;
    return false;
  }

  #someoneWaits(): boolean {
    for (const cursor of this.members) if (cursor.next >= this.tail.next) return true;
    return false;
  }
}
