/**
 * Catch-up dispatcher: reads one partition from an old position towards the main dispatcher's tail and
 * serves every client it passes. It ends when its last member has merged or left.
 *
 * Invariants:
 * - C1 Its tail is one run without a hole from where it started to `tail.next`.
 * - C2 It reads on only when its window has room; the oldest segment goes only when no member needs it,
 *   so a member is never skipped: it is served, or it leaves with its position (P2).
 * - C3 A member that takes nothing leaves: after `sharedStallMs` when others wait for it, or for a
 *   dispatcher of their own; after `aloneStallMs` otherwise. Nobody is stalled by another for longer (P6).
 */
import type { FetchOutcome, PartitionReader, Position } from "../../kafka/log.ts";
import { scanNext } from "../../kafka/scan.ts";
import type { Cursor } from "./cursor.ts";
import type { DispatchHost } from "./dispatch-host.ts";
import { type Segment, sizeOf } from "./segment.ts";
import { Tail } from "./tail.ts";

/** What its partition does when something happens here. */
export interface CatchUpEvents {
  /** New events, or an outcome its members must look at. */
  advanced(dispatcher: CatchUpDispatcher): void;
  /** The fetch at `tail.next` failed for good; members at that position are judged by it. */
  refused(dispatcher: CatchUpDispatcher, outcome: Exclude<FetchOutcome, { kind: "fetched" }>): void;
  /** A member stalled the others. */
  left(dispatcher: CatchUpDispatcher, cursor: Cursor): void;
}

export class CatchUpDispatcher {
  readonly tail: Tail;
  readonly members = new Set<Cursor>();
  readonly #host: DispatchHost;
  readonly #reader: PartitionReader;
  readonly #events: CatchUpEvents;
  readonly #stopBefore: () => number;
  #reading = false;
  /** The fetch that was sent before what came before it was encoded. */
  #ahead: { readonly from: number; readonly outcome: Promise<FetchOutcome> } | undefined;
  #closed = false;
  #cancelStall: (() => void) | undefined;

  /** @param stopBefore where the main dispatcher's tail begins: reading past it would be wasted. */
  constructor(
    host: DispatchHost,
    reader: PartitionReader,
    start: { offset: number; epoch: number },
    stopBefore: () => number,
    events: CatchUpEvents,
  ) {
    this.#host = host;
    this.#reader = reader;
    this.#stopBefore = stopBefore;
    this.#events = events;
    this.tail = new Tail(start.offset, start.epoch);
  }

  get closed(): boolean {
    return this.#closed;
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
    for (const segment of encoded.segments) {
      this.tail.append(segment);
      this.#host.catchUpBytes(sizeOf(segment));
    }
    this.#events.advanced(this);
    if (encoded.segments.length === 0) this.#pause();
    else this.poke();
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
    }
  }

  #watchStall(): void {
    if (this.#cancelStall) return;
    const oldest = this.tail.oldest;
    const before = new Map([...this.members].map((cursor) => [cursor, cursor.next]));
    this.#judgeStall(oldest, before, this.#host.clock.now());
  }

  /** Judged again and again: who waits may come long after the stall began. */
  #judgeStall(
    oldest: Segment | undefined,
    before: ReadonlyMap<Cursor, number>,
    sinceMs: number,
  ): void {
    const { clock, budget, limits } = this.#host;
    this.#cancelStall = clock.setTimer(Math.min(limits.sharedStallMs, limits.aloneStallMs), () => {
      this.#cancelStall = undefined;
      if (this.#closed) return;
      const shared = this.#someoneWaits();
      if (!shared && !budget.contended && clock.now() - sinceMs < limits.aloneStallMs) {
        this.#judgeStall(oldest, before, sinceMs);
        return;
      }
      const held = shared && this.tail.oldest === oldest && oldest !== undefined;
      for (const cursor of [...this.members]) {
        if (cursor.next >= this.tail.next) continue;
        if (held ? cursor.next < oldest.next : before.get(cursor) === cursor.next) {
          this.#events.left(this, cursor);
        }
      }
      this.poke();
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
