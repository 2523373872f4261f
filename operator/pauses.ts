/** Pauses between attempts: how long, and one that ends at once when nobody waits any more. */
import type { Clock } from "../process/clock.ts";

/**
 * Doubles with each failure up to the longest; of that a half to the whole.
 * @param failures before this one.
 * @param random 0 to 1.
 */
export function backoffMs(
  failures: number,
  firstMs: number,
  longestMs: number,
  random: () => number,
): number {
  const longest = Math.min(longestMs, firstMs * 2 ** Math.min(failures, 30));
  return longest * (0.5 + random() / 2);
}

/** Resolves after that time, or when `signal` aborts. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      cancel();
      signal.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.setTimer(ms, end);
    signal.addEventListener("abort", end);
  });
}
