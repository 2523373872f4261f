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
  /** What it started may take so long to be gone after it, unless it is stopped. */
  readonly graceMs: number;
}

export interface TierCounts extends Counts {
  /** What it said of why it did not run, which in CI is a failure that it counts itself. */
  readonly skipped?: string | undefined;
}

export interface Tier {
  /** Never rejects. */
  readonly counts: Promise<TierCounts>;
  /** It and all that it started end; a failure is counted. */
  stop(): Promise<void>;
}

/** @param args of Node, from the root. */
export function startTier(name: string, args: readonly string[], limits: TierLimits): Tier {
  const mark = randomUUID();
  const { runMs, graceMs } = limits;
  const begunMs = performance.now();
  const child = spawn(process.execPath, args, {
    ...{ cwd: ROOT, env: { ...process.env, [MARK]: mark } },
    ...{ stdio: ["ignore", "pipe", "inherit"], timeout: runMs, killSignal: "SIGKILL" },
  });
  let isStopped = false;
  const counts = judge(child).catch((error) => {
    console.error(error);
    return { passed: 0, failed: 1 };
  });
  return {
    counts,
    stop: async () => {
      isStopped = true;
      child.kill("SIGTERM");
      await counts;
    },
  };

  async function judge({ stdout }: ChildProcess): Promise<TierCounts> {
    let last = "";
    let skipped: string | undefined;
    createInterface({ input: stdout as NodeJS.ReadableStream }).on("line", (line) => {
      console.log(line);
      if (line.trim() !== "") last = line;
      skipped ??= /^SKIPPED: (.*)$/.exec(line)?.[1];
    });
    // It cannot be started: that is told once, by the other.
    const closed = once(child, "close").catch(() => {});
    const [code, signal] = await once(child, "exit");
    const left = await endMarked(`${MARK}=${mark}`, isStopped ? 0 : graceMs);
    // What was left may have held its output open.
    await closed;
    const counted = { ...countsOf(last, code, skipped), skipped };
    if (isStopped) return { ...counted, failed: Math.max(counted.failed, 1) };
    const tookMs = performance.now() - begunMs;
    const why = tookMs < runMs ? "" : `: it took longer than ${runMs / 60_000} minutes`;
    if (signal !== null) console.log(`${name} was ended by ${signal}${why}`);
    for (const { pid, command } of left) console.log(`${name} left running: ${pid} ${command}`);
    return { ...counted, failed: counted.failed + (left.length > 0 ? 1 : 0) };
  }
}

/** @param code null: a signal ended it. */
function countsOf(lastLine: string, code: number | null, skipped: string | undefined): Counts {
  const said = /^(\d+) passed, (\d+) failed$/.exec(lastLine);
  const [passed, failed] = [Number(said?.[1] ?? 0), Number(said?.[2] ?? 0)];
  const isWell = code === 0 && said !== null && (passed > 0 || skipped !== undefined);
  return { passed, failed: isWell ? failed : Math.max(failed, 1) };
}
