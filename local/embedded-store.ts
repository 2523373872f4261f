/**
 * A real Redis (or Valkey) on this machine, for local mode and tests: on loopback, without eviction, and
 * with every write on disk before it is answered for longer than a second.
 *
 * Its process ends with ours, also when ours is killed: a shell waits at the other end of a pipe.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { environment } from "./config.ts";
import { freePorts } from "./free-ports.ts";
import { killWithUs } from "./kill-with-us.ts";
import { ensureStoreBinary, storeMachine } from "./store-binary.ts";

const START_MS = 30_000;
const STOP_MS = 10_000;
const EVERYTHING = "~* +@all";
const READY = "Ready to accept connections";

export interface EmbeddedStoreOptions {
  /** Holds data, settings and log; kept between runs. */
  readonly directory: string;
  /** 0, the default, takes one that is free. */
  readonly port?: number;
  readonly password?: string;
  /** Without one the password is everybody's. */
  readonly user?: string;
  /** What the user may, as an ACL; by default everything. */
  readonly rights?: string;
  /** Another user, who may everything. */
  readonly admin?: { readonly user: string; readonly password: string };
  /** Files in PEM; then nothing else is spoken. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  /** Beside or instead of ours. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly onProgress?: (line: string) => void;
  /** Ctrl-C at the terminal does not reach it: this process stops it, in its order. */
  readonly ownGroup?: boolean;
  /** It ended and was neither killed here nor stopped: by signal or exit code. */
  readonly onUnexpectedEnd?: (how: string) => void;
}

export interface EmbeddedStore {
  readonly port: number;
  /** Without secrets. */
  readonly url: string;
  pid(): number;
  /** SIGTERM: it writes what it has. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  freeze(): void;
  thaw(): void;
  /** On the same port, after `stop` or `kill` or instead of them. */
  restart(data: "kept" | "lost"): Promise<void>;
}

/** @throws with the next step when the program cannot be had or does not start. */
export async function startStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const { directory, tls, onProgress = () => {}, onUnexpectedEnd = () => {} } = options;
  const { cache, mavenRepository } = environment;
  const program = await ensureStoreBinary(storeMachine(cache, mavenRepository), onProgress);
  const port = options.port || ((await freePorts(1))[0] as number);
  const data = join(directory, "data");
  const file = join(directory, "store.conf");
  const log = join(directory, "log");
  mkdirSync(directory, { recursive: true });
  // It may hold a password.
  writeFileSync(file, settingsText(options, port, data), { mode: 0o600 });
  let running: ChildProcess | undefined;
  let expected = false;

  const start = async (): Promise<void> => {
    mkdirSync(data, { recursive: true });
    expected = false;
    const child = spawn(program, [file], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: options.ownGroup ?? false,
    });
    const release = killWithUs(child);
    await new Promise<void>((resolve, reject) => {
      const failed = (how: string): void => {
        const end = readFileSync(log, { encoding: "utf8", flag: "a+" }).split("\n").slice(-6);
        reject(new Error(`The session store ${how}; the end of ${log}:\n${end.join("\n")}`));
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
        const how = signal ?? `exit code ${code}`;
        if (!wasRunning) failed(`ended with ${how}`);
        else if (!expected) onUnexpectedEnd(how);
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
      // Else a frozen one would take the signal only when it thaws.
      child.kill("SIGCONT");
    });
  };
  const signalled = (signal: NodeJS.Signals): void => {
    if (!running?.kill(signal)) throw new Error("the session store does not run");
  };

  onProgress("Starting the session store");
  await start();
  return {
    port,
    url: `${tls ? "rediss" : "redis"}://127.0.0.1:${port}`,
    pid: () => running?.pid ?? 0,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    freeze: () => signalled("SIGSTOP"),
    thaw: () => signalled("SIGCONT"),
    restart: async (kept) => {
      await end("SIGKILL");
      if (kept === "lost") rmSync(data, { recursive: true, force: true });
      await start();
    },
  };
}

function settingsText(options: EmbeddedStoreOptions, port: number, data: string): string {
  const { password, user, rights = EVERYTHING, admin, tls, settings = {} } = options;
  const users: string[] = [];
  if (user !== undefined && password !== undefined)
    users.push(userLine(user, password, rights), "user default off");
  if (admin) users.push(userLine(admin.user, admin.password, EVERYTHING));
  const everybody = user === undefined && password !== undefined;
  const all: Record<string, string> = {
    bind: "127.0.0.1",
    port: tls ? "0" : String(port),
    ...(tls && {
      "tls-port": String(port),
      "tls-cert-file": quoted(tls.certFile),
      "tls-key-file": quoted(tls.keyFile),
      "tls-auth-clients": "no",
    }),
    dir: quoted(data),
    daemonize: "no",
    appendonly: "yes",
    "maxmemory-policy": "noeviction",
    ...(everybody && { requirepass: quoted(password) }),
    ...settings,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name} ${value}`);
  return `${[...lines, ...users].join("\n")}\n`;
}

function userLine(name: string, password: string, rights: string): string {
  const secret = createHash("sha256").update(password).digest("hex");
  return `user ${name} on #${secret} ${rights}`;
}

function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
}
