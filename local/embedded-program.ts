/**
 * A program that is not ours as a child process: started until it says that it is ready, ended, started again.
 * What it says goes to a log. It ends with this process, also when that is killed.
 */
import type { ChildProcess } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { endWithUs } from "./end-with-us.ts";

export interface EmbeddedProgramOptions {
  /** As messages name it. */
  readonly name: string;
  /** With pipes at its output. */
  readonly spawn: () => ChildProcess;
  readonly log: string;
  /** It says this when it serves. */
  readonly ready: string;
  readonly startMs: number;
  /** A program that takes longer to end is killed. */
  readonly stopMs: number;
  /** It ended and was not ended here: by signal or exit code. */
  readonly onUnexpectedEnd: (how: string) => void;
}

export class EmbeddedProgram {
  readonly #options: EmbeddedProgramOptions;
  #running: ChildProcess | undefined;
  #expected = false;

  constructor(options: EmbeddedProgramOptions) {
    this.#options = options;
  }

  /** 0 while it does not run. */
  get pid(): number {
    return this.#running?.pid ?? 0;
  }

  /** @throws with the end of its log when it does not start. */
  async start(): Promise<void> {
    const { name, spawn, log, ready, startMs, onUnexpectedEnd } = this.#options;
    this.#expected = false;
    const child = spawn();
    const release = endWithUs(child.pid as number);
    await new Promise<void>((resolve, reject) => {
      const failed = (how: string): void => {
        const end = readFileSync(log, { encoding: "utf8", flag: "a+" }).split("\n").slice(-6);
        reject(new Error(`${name} ${how}; the end of ${log}:\n${end.join("\n")}`));
      };
      const late = setTimeout(() => {
        child.kill("SIGKILL");
        failed(`did not start within ${startMs} ms`);
      }, startMs);
      const listen = (bytes: Buffer): void => {
        appendFileSync(log, bytes);
        if (!bytes.includes(ready)) return;
        clearTimeout(late);
        resolve();
      };
      child.stdout?.on("data", listen);
      child.stderr?.on("data", listen);
      child.once("error", (error) => failed(`cannot be run: ${error.message}`));
      child.once("close", (code, signal) => {
        clearTimeout(late);
        release();
        const wasRunning = this.#running === child;
        this.#running = undefined;
        const how = signal ?? `exit code ${code}`;
        if (!wasRunning) failed(`ended with ${how}`);
        else if (!this.#expected) onUnexpectedEnd(how);
      });
    });
    this.#running = child;
  }

  /** Resolves when it is gone. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#running;
    if (!child) return;
    this.#expected = true;
    await new Promise<void>((resolve) => {
      const hard = setTimeout(() => child.kill("SIGKILL"), this.#options.stopMs);
      child.once("close", () => {
        clearTimeout(hard);
        resolve();
      });
      child.kill(signal);
      // Else a frozen one would take the signal only when it thaws.
      child.kill("SIGCONT");
    });
  }

  /** @throws when it does not run. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#running?.kill(signal)) throw new Error(`${this.#options.name} does not run`);
  }
}
