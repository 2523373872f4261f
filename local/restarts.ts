/** Starts again what ended by itself, and says so; what keeps ending is left down. */
const WINDOW_MS = 60_000;
const MOST = 3;

export function restarting(
  what: string,
  start: () => Promise<void>,
  onLine: (line: string) => void,
  nowMs: () => number = () => performance.now(),
): (how: string) => Promise<void> {
  let ends: number[] = [];
  return async (how) => {
    ends = [...ends.filter((at) => nowMs() - at < WINDOW_MS), nowMs()];
    if (ends.length > MOST) {
      onLine(
        `${what} ended by itself (${how}) for the ${ends.length}th time within a minute and is left down. End this with Ctrl-C and look into its log.`,
      );
      return;
    }
    onLine(`${what} ended by itself (${how}); starting it again`);
    try {
      await start();
      onLine(`${what} is back`);
    } catch (error) {
      onLine(
        `${what} does not start again: ${(error as Error).message} End this with Ctrl-C, correct that, and start anew.`,
      );
    }
  };
}
