/**
 * A real Redis (or Valkey) on this machine, for local mode and tests: on loopback, without eviction, and
 * with every write on disk before it is answered for longer than a second.
 *
 * Its process ends with ours, also when ours is killed.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { environment } from "./config.ts";
import { EmbeddedProgram } from "./embedded-program.ts";
import { freePorts } from "./free-ports.ts";
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
  const server = new EmbeddedProgram({
    ...{ name: "The session store", log, ready: READY, onUnexpectedEnd },
    ...{ startMs: START_MS, stopMs: STOP_MS },
    spawn: () => {
      mkdirSync(data, { recursive: true });
      return spawn(program, [file], {
        stdio: ["ignore", "pipe", "pipe"],
        detached: options.ownGroup ?? false,
      });
    },
  });

  onProgress("Starting the session store");
  await server.start();
  return {
    port,
    url: `${tls ? "rediss" : "redis"}://127.0.0.1:${port}`,
    pid: () => server.pid,
    stop: () => server.end("SIGTERM"),
    kill: () => server.end("SIGKILL"),
    freeze: () => server.signal("SIGSTOP"),
    thaw: () => server.signal("SIGCONT"),
    restart: async (kept) => {
      await server.end("SIGKILL");
      if (kept === "lost") rmSync(data, { recursive: true, force: true });
      await server.start();
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
