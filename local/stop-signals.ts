/**
 * Ctrl-C and its like. The terminal, npm and tools/ensure.mjs each pass the same one on, so signals that
 * come together are one; a later one ends the process at once.
 */
const TOGETHER_MS = 1000;
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export function onStopSignal(stop: (exitCode: number) => void): void {
  let sinceMs: number | undefined;
  const hear = (exitCode: number): void => {
    const nowMs = performance.now();
    if (sinceMs === undefined) {
      sinceMs = nowMs;
      stop(exitCode);
    } else if (nowMs - sinceMs > TOGETHER_MS) process.exit(exitCode);
  };
  for (const [signal, exitCode] of Object.entries(SIGNALS)) {
    process.on(signal, () => hear(exitCode));
  }
  // tools/ensure.mjs was killed: nobody is there any more to end this.
  process.once("disconnect", () => hear(SIGNALS.SIGTERM));
}
