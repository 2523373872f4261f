/** A benchmark that is stopped, also while its bed starts, leaves nothing running and no files. */
import { onStopSignal } from "../../local/stop-signals.ts";

export function untilStopped<T extends { stop(): Promise<void> }>(
  starting: Promise<T>,
): Promise<T> {
  onStopSignal((exitCode) => {
    void starting.then((bed) => bed.stop()).finally(() => process.exit(exitCode));
  });
  return starting;
}
