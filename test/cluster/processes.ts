/** Programs of a cluster, each a process that ends with ours. */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { join } from "node:path";

const START_MS = 60_000;
const STOP_MS = 5000;
const KEPT_CHARACTERS = 4000;

export class Processes {
  readonly #running = new Set<ChildProcess>();
  readonly #logs: string | undefined;

  /** @param logs a folder that takes what they say; by default only a start that fails tells of it. */
  constructor(logs?: string) {
    this.#logs = logs;
  }

  /**
   * Resolves when it has said `word` on its standard error.
   * @throws with its last words when it ends before, or does not say it in a minute.
   */
  start(
    program: string,
    flags: readonly string[],
    word: string,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<ChildProcess> {
    const name = program.slice(program.lastIndexOf("/") + 1);
    const env = { ...process.env, ...environment };
    const child = spawn(program, flags, { env, stdio: ["ignore", "ignore", "pipe"] });
    this.#running.add(child);
    const end = (): void => void child.kill("SIGKILL");
    process.once("exit", end);
    return new Promise((resolve, reject) => {
      let last = "";
      AbortSignal.timeout(START_MS).addEventListener("abort", () =>
        reject(new Error(`${name} did not start within ${START_MS} ms:\n${last}`)),
      );
      child.stderr?.on("data", (bytes: Buffer) => {
        if (this.#logs) appendFileSync(join(this.#logs, `${name}.log`), bytes);
        const said = `${last}${bytes}`;
        if (said.includes(word)) resolve(child);
        last = said.slice(-KEPT_CHARACTERS);
      });
      child.once("error", reject);
      child.once("exit", (code) => {
        process.removeListener("exit", end);
        this.#running.delete(child);
        reject(new Error(`${name} ended with code ${code}:\n${last}`));
      });
    });
  }

  /** The last that was started ends first: who depends on others is gone before them. */
  async stop(): Promise<void> {
    for (const child of [...this.#running].reverse()) await ended(child, "SIGTERM");
  }
}

/** Resolves when it is gone; one that does not heed the signal is killed. */
export function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    const hard = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    child.once("exit", () => {
      clearTimeout(hard);
      resolve();
    });
    child.kill(signal);
  });
}
