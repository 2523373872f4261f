/** Processes by a variable in their environment, which each hands on to those that it starts. Linux only. */
import { readdirSync, readFileSync } from "node:fs";
import { until } from "./story/waits.ts";

export interface Marked {
  readonly pid: number;
  readonly command: string;
}

/** @param mark as `NAME=value`. */
function marked(mark: string): Marked[] {
  return pids().flatMap((pid) => {
    try {
      const read = (file: string): string[] =>
        readFileSync(`/proc/${pid}/${file}`, "utf8").split("\0");
      return read("environ").includes(mark) ? [{ pid, command: read("cmdline").join(" ") }] : [];
    } catch {
      // It has ended, or is another user's.
      return [];
    }
  });
}

/**
 * Ends those that have not ended by themselves within `graceMs`.
 * @returns whom it had to end.
 */
export async function endMarked(mark: string, graceMs: number): Promise<Marked[]> {
  const deadline = performance.now() + graceMs;
  const isOver = async () => marked(mark).length === 0 || performance.now() > deadline;
  await until(isOver, 200);
  const left = marked(mark);
  // One may start another until the last is gone.
  await until(async () => {
    const some = marked(mark);
    for (const { pid } of some) kill(pid);
    return some.length === 0;
  });
  return left;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It was faster.
  }
}

function pids(): number[] {
  try {
    return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));
  } catch {
    return [];
  }
}
