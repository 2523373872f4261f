/**
 * A real PostgreSQL on this machine, for local mode and tests: on loopback, with logical decoding, and open
 * to everyone on this machine (no password).
 *
 * Its processes end with ours, also when ours is killed. Under root it runs as another user, who must be
 * able to reach the directory.
 */
import { execFile, spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { environment } from "./config.ts";
import { EmbeddedProgram } from "./embedded-program.ts";
import { freePorts } from "./free-ports.ts";
import { limited } from "./full-disk.ts";
import { ensurePostgres } from "./postgres-binaries.ts";

const START_MS = 60_000;
const STOP_MS = 20_000;
const READY = "database system is ready to accept connections";
/** One that follows another takes no writes until it is promoted. */
const STANDBY_READY = "database system is ready to accept read-only connections";
/** `nobody`: PostgreSQL does not run as root. */
export const UNPRIVILEGED = 65_534;
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
  /**
   * On the same port, with its data, after `stop` or `kill` or instead of them.
   * @param maxFileBytes its disk is full for a file that grew so far, as tests want it; by default never.
   */
  restart(maxFileBytes?: number): Promise<void>;
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
  let most: number | undefined;
  const server = new EmbeddedProgram({
    ...{ name: "PostgreSQL", log, onUnexpectedEnd },
    // Looked at with each start: it may have been promoted since.
    get ready() {
      return existsSync(join(data, "standby.signal")) ? STANDBY_READY : READY;
    },
    ...{ startMs: START_MS, stopMs: STOP_MS },
    spawn: () => {
      const program = [join(native, "bin", "postgres"), "-D", data, ...flags] as const;
      const [command, ...args] = limited(program, most);
      return spawn(command, args, {
        ...{ ...how, stdio: ["ignore", "pipe", "pipe"], detached: options.ownGroup ?? false },
      });
    },
  });

  onProgress("Starting PostgreSQL");
  await server.start();
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    pid: () => server.pid,
    // The fast shutdown.
    stop: () => server.end("SIGINT"),
    kill: () => server.end("SIGKILL"),
    restart: async (maxFileBytes) => {
      most = maxFileBytes;
      await server.end("SIGKILL");
      await server.start();
    },
  };
}
