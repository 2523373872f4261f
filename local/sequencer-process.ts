/**
 * The sequencer of one Outbox as a process of its own, and the schema in its database before. It ends with
 * this process.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { endProgram, spawnProgram } from "./program-process.ts";
import { restarting } from "./restarts.ts";

export interface SequencerProcessOptions {
  readonly outbox: string;
  /** postgres://user[:password]@host:port/database; its user owns the database and may replicate. */
  readonly databaseUrl: string;
  readonly brokers: readonly string[];
  readonly deploymentId: string;
  readonly namespace: string;
  /** For the password's file. */
  readonly directory: string;
  readonly onLine: (line: string) => void;
}

/** @returns its end. @throws with its own words when the schema cannot be made. */
export async function startSequencerProcess(
  options: SequencerProcessOptions,
): Promise<() => Promise<void>> {
  const { outbox, brokers, deploymentId, namespace, onLine } = options;
  const whose = ["--deployment-id", deploymentId, "--namespace", namespace, "--outbox", outbox];
  const flags = [...databaseFlags(options), ...whose];
  await migrate(flags, onLine);
  let running: ChildProcess | undefined;
  let expected = false;
  const start = async (): Promise<void> => {
    running = run([...flags, "--kafka", brokers.join(",")], onLine);
    running.once("exit", (code, signal) => {
      if (!expected) void revive(signal ?? `exit code ${code}`);
    });
  };
  const revive = restarting("The sequencer", start, onLine);
  await start();
  return () => {
    expected = true;
    return endProgram(running, "SIGTERM");
  };
}

function databaseFlags({ databaseUrl, directory }: SequencerProcessOptions): string[] {
  if (!URL.canParse(databaseUrl))
    throw new Error("POSTGRES_URL is not postgres://user@host:port/database.");
  const url = new URL(databaseUrl);
  const password = decodeURIComponent(url.password);
  url.password = "";
  if (password === "") return ["--database", url.href];
  mkdirSync(directory, { recursive: true });
  const file = join(directory, "postgres-password");
  writeFileSync(file, password, { mode: 0o600 });
  return ["--database", url.href, "--database-password-file", file];
}

async function migrate(flags: readonly string[], onLine: (line: string) => void): Promise<void> {
  const words: string[] = [];
  const child = run(["--do", "migrate", ...flags], (line) => words.push(line));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`The sequencer's schema cannot be made: ${words.join(" ")}`);
  for (const line of words) onLine(line);
}

function run(flags: readonly string[], onLine: (line: string) => void): ChildProcess {
  const child = spawnProgram("sequencer/main.ts", flags);
  const hear = (line: string): void => {
    const said = line.startsWith("{") ? (JSON.parse(line) as Said) : { msg: line };
    const isTold = !said.level || ["warn", "error", "fatal"].includes(said.level);
    const why = said.reason ? `: ${said.reason}` : "";
    if (isTold) onLine(`Sequencer: ${said.msg.replace(/^throughline: /, "")}${why}`);
  };
  for (const stream of [child.stdout, child.stderr])
    if (stream) createInterface({ input: stream }).on("line", hear);
  return child;
}

interface Said {
  readonly msg: string;
  readonly level?: string;
  readonly reason?: string;
}
