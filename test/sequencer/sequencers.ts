/** Sequencers as processes: started, heard, killed and frozen. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { DatabaseAddress } from "../../sequencer/postgres.ts";
import type { Identity } from "../../sequencer/term.ts";
import { ROOT } from "../source-files.ts";

/** Where it ends itself: at the n-th time that this is done. */
export interface Death {
  readonly step: "decoded" | "stamped" | "sent" | "confirmed";
  readonly batch: number;
}

export interface Told {
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  readonly brokers: readonly string[];
  readonly death: Death | undefined;
}

export interface SequencerProcess {
  readonly child: ChildProcess;
  /** All that it has logged. */
  readonly lines: readonly string[];
  /** Resolves when it logs a line with these words; rejects when it ends before. */
  said(words: string): Promise<void>;
  readonly ended: Promise<void>;
}

/** @param program what is told, from the root. */
export function startProcess<T = Told>(
  told: T,
  program = "test/sequencer/mortal.ts",
): SequencerProcess {
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(ROOT, program), JSON.stringify(told)],
    { stdio: ["ignore", "pipe", "inherit", "ipc"] },
  );
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const input = child.stdout as NonNullable<typeof child.stdout>;
  createInterface({ input }).on("line", (line) => {
    lines.push(line);
    for (const look of [...waiting]) look();
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return {
    ...{ child, lines, ended },
    said: (words) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (!lines.some((line) => line.includes(words))) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
        void ended.then(() => reject(new Error(`it ended; it said:\n${lines.join("\n")}`)));
      }),
  };
}
