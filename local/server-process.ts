/** A Throughline server as a process of its own, in the gateway shape. It ends with this process. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { endProgram, spawnProgram } from "./program-process.ts";
import { restarting } from "./restarts.ts";

const READY_POLL_MS = 20;
const KEPT_LINES = 5;

export interface ServerOptions {
  readonly name: string;
  /** 0: any. */
  readonly port: number;
  readonly brokers: readonly string[];
  readonly deploymentId: string;
  readonly namespace: string;
  readonly flags: readonly string[];
  readonly onLine: (line: string) => void;
}

export class ServerProcess {
  readonly name: string;
  /** host:port for clients; the same after a restart. */
  address: string;
  /** http://host:port of /metrics and /readyz; another after a restart. */
  status = "";
  readonly #options: ServerOptions;
  readonly #revive: (how: string) => Promise<void>;
  #child: ChildProcess | undefined;
  #stopped = false;
  /** We end it, or it never served: its end is no surprise. */
  #endExpected = true;

  constructor(options: ServerOptions) {
    this.name = options.name;
    this.address = `127.0.0.1:${options.port}`;
    this.#options = options;
    this.#revive = restarting(`Server ${this.name}`, () => this.restart(), options.onLine);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts the process; resolves when it is ready to serve. @throws with its own words. */
  async restart(): Promise<void> {
    if (this.#stopped) return;
    const child = this.#spawn();
    this.#child = child;
    const lines: string[] = [];
    let ended = false;
    await new Promise<void>((resolve, reject) => {
      this.#hear(child, lines, resolve);
      child.once("exit", () => {
        ended = true;
        reject(new Error(`Server ${this.name} did not start: ${lines.join(" ") || "no word"}`));
      });
    });
    while (!(await this.#isReady())) {
      if (ended) throw new Error(`Server ${this.name} ended before it was ready: ${lines.at(-1)}`);
      await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    }
    this.#endExpected = false;
  }

  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** For good: nothing starts it again. */
  stop(): Promise<void> {
    this.#stopped = true;
    return this.#end("SIGTERM");
  }

  #spawn(): ChildProcess {
    const { brokers, deploymentId, namespace, flags } = this.#options;
    const child = spawnProgram("sidecar/main.ts", [
      ...["--listen", this.address, "--health-listen", "127.0.0.1:0", "--shape", "gateway"],
      ...["--kafka", brokers.join(","), "--deployment-id", deploymentId],
      ...["--namespace", namespace, "--server-name", this.name, ...flags],
    ]);
    child.once("exit", (code, signal) => {
      if (!this.#endExpected) void this.#revive(signal ?? `exit code ${code}`);
      this.#endExpected = true;
    });
    return child;
  }

  #hear(child: ChildProcess, lines: string[], serving: () => void): void {
    const hear = (line: string): void => {
      const said = parsed(line);
      lines.push(said?.msg ?? line.replace(/^throughline: /, ""));
      if (lines.length > KEPT_LINES) lines.shift();
      if (said?.msg === "serving") {
        this.address = said.listen ?? this.address;
        if (said.health) this.status = `http://${said.health}`;
        serving();
      } else if ((said?.level ?? 0) >= 40) {
        this.#options.onLine(
          `Server ${this.name}: ${said?.msg}${said?.reason ? `: ${said.reason}` : ""}`,
        );
      }
    };
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream }).on("line", hear);
    }
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await fetch(`${this.status}/readyz`)).ok;
    } catch {
      return false;
    }
  }

  #end(signal: NodeJS.Signals): Promise<void> {
    this.#endExpected = true;
    return endProgram(this.#child, signal);
  }
}

interface LogLine {
  readonly msg?: string;
  readonly level?: number;
  readonly reason?: string;
  readonly listen?: string;
  readonly health?: string;
}

function parsed(line: string): LogLine | undefined {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return undefined;
  }
}
