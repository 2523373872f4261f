/**
 * Which running catch-up dispatcher a resuming client shares, if any. Pure: bytes between two offsets
 * are estimated by the mean size of the events that the main dispatcher has seen.
 *
 * A herd that lost one server resumes from many positions near each other; one sweep from the lowest
 * serves all, so Kafka is read about once, not once per client.
 */
import type { CatchUpDispatcher } from "./catch-up-dispatcher.ts";
import type { Cursor } from "./cursor.ts";
import type { Tail } from "./tail.ts";

const ASSUMED_EVENT_BYTES = 200;

export function planCatchUp(
  cursor: Cursor,
  running: Iterable<CatchUpDispatcher>,
  main: Tail,
  shareDistanceBytes: number,
): CatchUpDispatcher | undefined {
  if (cursor.alone) return undefined;
  let best: CatchUpDispatcher | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const catchUp of running) {
    const { tail } = catchUp;
    if (catchUp.closed || cursor.next < tail.from) continue;
    const distance = Math.max(0, cursor.next - tail.next) * eventBytes(tail, main);
    if (distance > shareDistanceBytes || distance >= bestDistance) continue;
    best = catchUp;
    bestDistance = distance;
  }
  return best;
}

function eventBytes(tail: Tail, main: Tail): number {
  for (const known of [tail, main]) {
    const offsets = known.next - known.from;
    if (offsets > 0) return known.bytes / offsets;
  }
  return ASSUMED_EVENT_BYTES;
}
