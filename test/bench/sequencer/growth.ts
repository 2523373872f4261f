/** How fast a count grew to its end, as somebody saw it who looked often. */
import { setTimeout as pause } from "node:timers/promises";
import { quantile } from "../figures.ts";

const LOOK_MS = 20;
const STUCK_MS = 60_000;
const SECOND_MS = 1000;

export interface Growth {
  /** From the last look that saw nothing to the first that saw all. */
  readonly perSecond: number;
  readonly firstSecond: number;
  readonly medianSecond: number;
}

interface Seen {
  readonly atMs: number;
  readonly count: number;
}

/** @param onNothing called at each look that sees nothing yet. @throws when it stops growing. */
export async function growth(
  count: () => Promise<number>,
  total: number,
  onNothing: () => void,
): Promise<Growth> {
  let begun: Seen = { count: await count(), atMs: performance.now() };
  let last = begun;
  const grown: Seen[] = [begun];
  while (last.count < total) {
    await pause(LOOK_MS);
    const now = { count: await count(), atMs: performance.now() };
    if (now.count > last.count) grown.push(now);
    else if (now.count === 0) {
      begun = now;
      grown.splice(0, 1, begun);
      onNothing();
    } else if (now.atMs - last.atMs > STUCK_MS)
      throw new Error(`it has stopped at ${now.count} of ${total}`);
    if (now.count > last.count || now.count === 0) last = now;
  }
  return told(grown, begun, last);
}

function told(grown: readonly Seen[], begun: Seen, last: Seen): Growth {
  const countAt = (atMs: number): number => {
    const next = grown.findIndex((one) => one.atMs >= atMs);
    const [before, after] = [grown[next - 1] ?? begun, grown[next] ?? last];
    const passed = (atMs - before.atMs) / (after.atMs - before.atMs || 1);
    return before.count + (after.count - before.count) * passed;
  };
  const seconds = Array.from(
    { length: Math.floor((last.atMs - begun.atMs) / SECOND_MS) },
    (_, i) => countAt(begun.atMs + (i + 1) * SECOND_MS) - countAt(begun.atMs + i * SECOND_MS),
  );
  return {
    perSecond: ((last.count - begun.count) / (last.atMs - begun.atMs)) * SECOND_MS,
    firstSecond: seconds[0] ?? Number.NaN,
    medianSecond: quantile(seconds, 0.5),
  };
}
