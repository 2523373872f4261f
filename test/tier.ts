/**
 * One tier of tests as a process of its own, and its counts by the last line that it says. One that crashes, hangs,
 * or leaves a process running has failed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Counts } from "./jest-run.ts";
import { endMarked } from "./marked-processes.ts";

const ROOT = join(import.meta.dirname, "..");
const MARK = "THROUGHLINE_TIER";

export interface TierLimits {
  /** One that runs longer has hung, and is ended. */
  readonly runMs: number;
  /** What it started may take so long to be gone after it. */
  readonly graceMs: number;
}

export interface Tier {
  /** Never rejects. */
  readonly counts: Promise<Counts>;
  /** It and all that it started end. */
  stop(): Promise<void>;
}

/** @param args of Node, from the root. */
export function startTier(name: string, args: readonly string[], limits: TierLimits): Tier {
  const mark = randomUUID();
  const { runMs, graceMs } = limits;
  const child = spawn(process.execPath, args, {
    ...{ cwd: ROOT, env: { ...process.env, [MARK]: mark } },
    ...{ stdio: ["ignore", "pipe", "inherit"], timeout: runMs, killSignal: "SIGKILL" },
  });
  const counts = judge(child).catch((error) => {
    console.error(error);
    return { passed: 0, failed: 1 };
  });
  return {
    counts,
    stop: async () => {
      child.kill("SIGTERM");
      await counts;
    },
  };

  async function judge({ stdout }: ChildProcess): Promise<Counts> {
    let last = "";
    createInterface({ input: stdout as NodeJS.ReadableStream }).on("line", (line) => {
      console.log(line);
      if (line.trim() !== "") last = line;
    });
    const closed = once(child, "close");
    const [code] = await once(child, "exit");
    const left = await endMarked(`${MARK}=${mark}`, graceMs);
    for (const { pid, command } of left) console.log(`${name} left running: ${pid} ${command}`);
    // What was left may have held its output open.
    await closed;
    const { passed, failed } = countsOf(last, code);
    return { passed, failed: failed + (left.length > 0 ? 1 : 0) };
  }
}

/** @param code null: a signal ended it. */
function countsOf(lastLine: string, code: number | null): Counts {
  const said = /^(\d+) passed, (\d+) failed$/.exec(lastLine);
  const [passed, failed] = [Number(said?.[1] ?? 0), Number(said?.[2] ?? 0)];
  const isWell = code === 0 && passed > 0;
  return { passed, failed: isWell ? failed : Math.max(failed, 1) };
}
