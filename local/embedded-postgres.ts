/**
 * A real PostgreSQL on this machine, for local mode and tests: on loopback, with logical decoding, and open
 * to everyone on this machine (no password).
 *
 * Its processes end with ours, also when ours is killed. Under root it runs as another user, who must be
 * able to reach the directory.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { appendFileSync, chownSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { environment } from "./config.ts";
import { endWithUs } from "./end-with-us.ts";
import { freePorts } from "./free-ports.ts";
import { ensurePostgres } from "./postgres-binaries.ts";

const START_MS = 60_000;
const STOP_MS = 20_000;
const READY = "database system is ready to accept connections";
/** `nobody`: PostgreSQL does not run as root. */
const UNPRIVILEGED = 65_534;
const run = promisify(execFile);

export interface EmbeddedPostgresOptions {
  /** Holds data and log; kept between runs. */
  readonly directory: string;
  /** Beside or instead of ours. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly onProgress?: (line: string) => void;
  /** Ctrl-C at the terminal does not reach it: this process stops it, in its order. */
  readonly ownGroup?: boolean;
  /** It ended and was neither killed here nor stopped: by signal or exit code. */
  readonly onUnexpectedEnd?: (how: string) => void;
}

export interface EmbeddedPostgres {
  /** Of the superuser, without a password. */
  readonly url: string;
  pid(): number;
  /** Ends sessions and writes what it has. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** On the same port, with its data, after `stop` or `kill` or instead of them. */
  restart(): Promise<void>;
}

/** @throws with the next step when it cannot be had or does not start. */
export async function startPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { directory, settings = {}, onProgress = () => {}, onUnexpectedEnd = () => {} } = options;
  const { cache, npmRegistry } = environment;
  const native = await ensurePostgres(cache, npmRegistry, onProgress);
  const port = (await freePorts(1))[0] as number;
  const data = join(directory, "data");
  const log = join(directory, "log");
  mkdirSync(directory, { recursive: true });
  const as = process.getuid?.() === 0 ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {};
  if (as.uid !== undefined) chownSync(directory, as.uid, as.gid);
  const how = { ...as, cwd: directory };
  if (!existsSync(join(data, "PG_VERSION"))) {
    onProgress("Making the data directory of PostgreSQL");
    const args = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"];
    await run(join(native, "bin", "initdb"), [...args, "--no-sync"], how);
  }
  const all = {
    ...{ listen_addresses: "127.0.0.1", port: String(port), unix_socket_directories: "" },
    ...{ wal_level: "logical", max_prepared_transactions: "10", ...settings },
  };
  const flags = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  let running: ChildProcess | undefined;
  let expected = false;

  const start = async (): Promise<void> => {
    expected = false;
    const child = spawn(join(native, "bin", "postgres"), ["-D", data, ...flags], {
      ...{ ...how, stdio: ["ignore", "pipe", "pipe"], detached: options.ownGroup ?? false },
    });
    const release = endWithUs(child.pid as number);
    await new Promise<void>((resolve, reject) => {
      const failed = (why: string): void => {
        const end = readFileSync(log, { encoding: "utf8", flag: "a+" }).split("\n").slice(-6);
        reject(new Error(`PostgreSQL ${why}; the end of ${log}:\n${end.join("\n")}`));
      };
      const late = setTimeout(() => {
        child.kill("SIGKILL");
        failed(`did not start within ${START_MS} ms`);
      }, START_MS);
      const listen = (bytes: Buffer): void => {
        appendFileSync(log, bytes);
        if (!bytes.includes(READY)) return;
        clearTimeout(late);
        resolve();
      };
      child.stdout?.on("data", listen);
      child.stderr?.on("data", listen);
      child.once("error", (error) => failed(`cannot be run: ${error.message}`));
      child.once("close", (code, signal) => {
        clearTimeout(late);
        release();
        const wasRunning = running === child;
        running = undefined;
        const ended = signal ?? `exit code ${code}`;
        if (!wasRunning) failed(`ended with ${ended}`);
        else if (!expected) onUnexpectedEnd(ended);
      });
    });
    running = child;
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const child = running;
    if (!child) return;
    expected = true;
    await new Promise<void>((resolve) => {
      const hard = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
      child.once("close", () => {
        clearTimeout(hard);
        resolve();
      });
      child.kill(signal);
    });
  };

  onProgress("Starting PostgreSQL");
  await start();
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    pid: () => running?.pid ?? 0,
    // The fast shutdown.
    stop: () => end("SIGINT"),
    kill: () => end("SIGKILL"),
    restart: async () => {
      await end("SIGKILL");
      await start();
    },
  };
}
