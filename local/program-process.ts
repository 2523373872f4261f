/** A program of Throughline as a child process: how it is started, and ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

const STOP_MS = 5000;
const root = join(import.meta.dirname, "..");

/** It ends with this process, also when that is killed. @param main from the root. */
export function spawnProgram(main: string, flags: readonly string[]): ChildProcess {
  return spawn(
    process.execPath,
    [
      ...["--disable-warning=ExperimentalWarning", "--import"],
      ...[join(import.meta.dirname, "end-with-parent.ts"), join(root, main), ...flags],
    ],
    // A group of its own: Ctrl-C is ours to pass on, in our order.
    { stdio: ["ignore", "pipe", "pipe", "ipc"], detached: true },
  );
}

/** Resolves when it is gone; one that takes too long is killed. */
export function endProgram(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const hard = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    child.once("exit", () => {
      clearTimeout(hard);
      resolve();
    });
    child.kill(signal);
  });
}
