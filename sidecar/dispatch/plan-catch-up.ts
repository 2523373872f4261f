/**
 * What a client that wants a catch-up dispatcher gets: one that passes its position now, one to wait for,
 * or one of its own. Pure: bytes between two offsets are estimated by the mean size of the events seen.
 *
 * A herd that lost one server resumes from many positions near each other, within a second or so. One
 * sweep from the lowest position serves all, so that Kafka is read about once and not once per client.
 * But who waits for a sweep is slowed by its members (P6), so it waits only
 * - for one that will be there soon; in a herd, whose first second tells little, until it has waited so long, or
 * - for one that goes as fast as the server can: one more would take its time from the same processor.
 */
import type { Cursor } from "./cursor.ts";
import type { Tail } from "./tail.ts";

export interface PlanningPace {
  /** A dispatcher is young for so long: it has no rate yet, and may end for one that starts behind it. */
  readonly youngMs: number;
  /** "Soon". */
  readonly soonMs: number;
  /** Who waits is planned again after so long. */
  readonly againMs: number;
  /** A processor that delivers less than this of catch-ups is saturated by other work, if at all. */
  readonly busyBytesPerSecond: number;
}

export const PLANNING_PACE: PlanningPace = {
  ...{ youngMs: 1000, soonMs: 2000, againMs: 200 },
  // Half a core does ten times as much.
  busyBytesPerSecond: 16 << 20,
};

/** A catch-up dispatcher as the plan sees it. */
export interface Sweep {
  readonly tail: Pick<Tail, "from" | "next" | "bytes">;
  /** Since when the longest waiting of its members wants to be served. */
  readonly sinceMs: number;
  /** Bytes of the log per second; undefined while it is young. */
  progress(nowMs: number): number | undefined;
  /** The server sets its pace, not its members. */
  atFullSpeed(nowMs: number): boolean;
}

export type Plan<S extends Sweep> =
  | { readonly act: "join"; readonly sweep: S }
  | { readonly act: "wait" }
  /** Those that end for it wait for it: what they would read, it reads too. */
  | { readonly act: "start"; readonly insteadOf: readonly S[] };

export interface Situation {
  readonly nowMs: number;
  readonly main: Pick<Tail, "from" | "next" | "bytes">;
  readonly shareDistanceBytes: number;
  /** More clients wait than there are dispatchers: together they will saturate the server soon. */
  readonly isHerd: boolean;
  readonly pace: PlanningPace;
}

const ASSUMED_EVENT_BYTES = 200;

export function planCatchUp<S extends Sweep>(
  cursor: Pick<Cursor, "next" | "alone" | "place">,
  running: Iterable<S>,
  situation: Situation,
): Plan<S> {
  if (cursor.alone) return { act: "start", insteadOf: [] };
  const { nowMs, shareDistanceBytes, pace } = situation;
  const insteadOf: S[] = [];
  const { place } = cursor;
  const waitedMs = place.at === "waiting" ? nowMs - place.sinceMs : 0;
  let waits = false;
  for (const sweep of running) {
    const { tail } = sweep;
    if (passes(tail, cursor.next)) return { act: "join", sweep };
    const offsets = Math.max(cursor.next - tail.next, tail.from - cursor.next);
    const distance = offsets * eventBytes(tail, situation.main);
    if (distance > shareDistanceBytes) continue;
    if (cursor.next > tail.next) waits ||= isWorthWaiting(sweep, distance, waitedMs, situation);
    else if (nowMs - sweep.sinceMs < pace.youngMs) insteadOf.push(sweep);
  }
  return waits ? { act: "wait" } : { act: "start", insteadOf };
}

/** Whether a client at this position can be served from there now, or by the next read. */
export function passes(tail: Pick<Tail, "from" | "next">, position: number): boolean {
  return tail.from <= position && position <= tail.next;
}

function isWorthWaiting(
  sweep: Sweep,
  distance: number,
  waitedMs: number,
  { nowMs, isHerd, pace }: Situation,
): boolean {
  if (sweep.atFullSpeed(nowMs)) return true;
  const progress = sweep.progress(nowMs);
  // A young one is taken to be fast, but not one after another for ever.
  if (waitedMs < pace.soonMs && (isHerd || progress === undefined)) return true;
  return progress !== undefined && distance * 1000 <= progress * pace.soonMs;
}

function eventBytes(tail: Situation["main"], main: Situation["main"]): number {
  for (const known of [tail, main]) {
    const offsets = known.next - known.from;
    if (offsets > 0) return known.bytes / offsets;
  }
  return ASSUMED_EVENT_BYTES;
}
