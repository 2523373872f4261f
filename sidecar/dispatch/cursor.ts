/**
 * One client's place in one partition: its own next position (P3) and where it is served from.
 *
 * `place` is one state, not a family of booleans:
 *   idle      does not want events now (no credit, frames not taken); holds only its position
 *   live      at the end of the main dispatcher's tail, waits for the next append
 *   member    is served by a catch-up dispatcher
 *   waiting   wants a catch-up dispatcher and has none yet
 *   closed    its stream has ended
 */
import type { LogLoss } from "../../kafka/log.ts";
import type { CatchUpDispatcher } from "./catch-up-dispatcher.ts";
import type { Segment } from "./segment.ts";

export type Place =
  | { readonly at: "idle" }
  | { readonly at: "live" }
  | { readonly at: "member"; readonly of: CatchUpDispatcher }
  | { readonly at: "waiting"; readonly sinceMs: number }
  | { readonly at: "closed" };

/** The stream that owns a cursor, as dispatchers see it. */
export interface CursorOwner {
  /** False while it has no credit or its frames are not taken: it would pull nothing. */
  canTake(): boolean;
  /** There may be something to pull. */
  ready(cursor: Cursor): void;
  /** Events at the cursor's position cannot be had any more. */
  lost(cursor: Cursor, loss: LogLoss): void;
  /** Kafka's data or rights make going on impossible. */
  failed(cursor: Cursor, reason: { kind: "unauthorised" | "corrupt"; reason: string }): void;
  /** Picks events of a segment for this client (credits, frame size, filter). */
  select(cursor: Cursor, segment: Segment, first: number): Selection;
}

/** Byte ranges of a segment that go to one client; `end` is the index after the last event looked at. */
export interface Selection {
  readonly ranges: readonly number[];
  readonly count: number;
  readonly bytes: number;
  readonly end: number;
}

export class Cursor {
  readonly owner: CursorOwner;
  readonly partition: number;
  next: number;
  epoch: number;
  /** Events up to this offset were seen by the app already (Start.after). */
  dropThrough = -1;
  /** False until the log was seen to agree with `epoch`; then its position is known to be of this log. */
  verified: boolean;
  /** True while the main dispatcher serves it: leaving it is a demotion, joining it a merge. */
  onMain = false;
  /** It disagreed with a shared catch-up, so Kafka itself must judge its position. */
  alone = false;
  place: Place = { at: "idle" };

  constructor(owner: CursorOwner, partition: number, next: number, epoch: number) {
    this.owner = owner;
    this.partition = partition;
    this.next = next;
    this.epoch = epoch;
    this.verified = epoch === -1;
  }

  moveTo(next: number, epoch: number): void {
    this.next = next;
    this.epoch = epoch;
  }
}
