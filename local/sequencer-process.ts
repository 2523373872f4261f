/**
 * A sequencer of an Outbox as a process of its own, and the schema in its database before. It ends with this
 * process.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { endProgram, spawnProgram } from "./program-process.ts";
import { restarting } from "./restarts.ts";

export interface OutboxIdentity {
  readonly outbox: string;
  readonly deploymentId: string;
  readonly namespace: string;
  /** postgres://user[:password]@host:port/database; its user owns the database and may replicate. */
  readonly databaseUrl: string;
  /** For the password's file. */
  readonly directory: string;
}

export interface SequencerProcessOptions extends OutboxIdentity {
  /** As messages name it. */
  readonly name: string;
  readonly brokers: readonly string[];
  readonly onLine: (line: string) => void;
}

export class SequencerProcess {
  readonly name: string;
  /** As it said last: running, standby, and so on. */
  state = "";
  readonly #flags: readonly string[];
  readonly #onLine: (line: string) => void;
  readonly #revive: (how: string) => Promise<void>;
  #child: ChildProcess | undefined;
  #stopped = false;

  constructor(options: SequencerProcessOptions) {
    this.name = options.name;
    this.#flags = [...outboxFlags(options), "--kafka", options.brokers.join(",")];
    this.#onLine = options.onLine;
    this.#revive = restarting(this.name, () => this.start(), options.onLine);
  }

  async start(): Promise<void> {
    if (this.#stopped) return;
    const child = run(this.#flags, (said) => this.#hear(said));
    this.#child = child;
    child.once("exit", (code, signal) => {
      this.state = "";
      // Nobody here has ended it.
      if (this.#child === child) void this.#revive(signal ?? `exit code ${code}`);
    });
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

  #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    return endProgram(child, signal);
  }

  #hear({ msg, level, reason, state }: Said): void {
    this.state = state ?? this.state;
    const isTold = !level || ["warn", "error", "fatal"].includes(level);
    if (isTold) this.#onLine(`${this.name}: ${msg}${reason ? `: ${reason}` : ""}`);
  }
}

/** Makes the schema, or brings it up to date. @throws with the program's own words. */
export async function migrate(of: OutboxIdentity, onLine: (line: string) => void): Promise<void> {
  const words: string[] = [];
  const child = run(["--do", "migrate", ...outboxFlags(of)], ({ msg }) => words.push(msg));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`The sequencer's schema cannot be made: ${words.join(" ")}`);
  for (const line of words) onLine(line);
}

function outboxFlags(of: OutboxIdentity): string[] {
  const { outbox, deploymentId, namespace } = of;
  const whose = ["--deployment-id", deploymentId, "--namespace", namespace, "--outbox", outbox];
  return [...databaseFlags(of), ...whose];
}

function databaseFlags({ databaseUrl, directory }: OutboxIdentity): string[] {
  const url = new URL(databaseUrl);
  const password = decodeURIComponent(url.password);
  url.password = "";
  if (password === "") return ["--database", url.href];
  mkdirSync(directory, { recursive: true });
  const file = join(directory, "postgres-password");
  writeFileSync(file, password, { mode: 0o600 });
  return ["--database", url.href, "--database-password-file", file];
}

function run(flags: readonly string[], hear: (said: Said) => void): ChildProcess {
  const child = spawnProgram("sequencer/main.ts", flags);
  const listen = (line: string): void => {
    const said = line.startsWith("{") ? (JSON.parse(line) as Said) : { msg: line };
    hear({ ...said, msg: said.msg.replace(/^throughline: /, "") });
  };
  for (const stream of [child.stdout, child.stderr])
    if (stream) createInterface({ input: stream }).on("line", listen);
  return child;
}

interface Said {
  readonly msg: string;
  readonly level?: string;
  readonly reason?: string;
  readonly state?: string;
}
