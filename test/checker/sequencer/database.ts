/**
 * The database under fire: a PostgreSQL that is killed, frozen, copied, restored and followed by a standby. Apps
 * come to it by one address, whichever PostgreSQL is the true one now, and each sequencer by a leg of its own.
 */
import { execFile } from "node:child_process";
import { appendFileSync, chownSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { type EmbeddedPostgres, startPostgres } from "../../../local/embedded-postgres.ts";
import { FaultProxy } from "../../faults/fault-proxy.ts";
import { until } from "../../story/waits.ts";
import { within } from "./seat.ts";
import { WORD_SLOT } from "./word-watch.ts";

export const DATABASE = "shop";
/** What is on disk survives a SIGKILL without it. */
const SETTINGS = { fsync: "off", max_prepared_transactions: "40", max_wal_senders: "20" };
const FOLLOWS_MS = 60_000;
/** PostgreSQL's code of the error. */
const IN_USE = "55006";
const run = promisify(execFile);

export class Database {
  /** Where apps come. */
  readonly apps: FaultProxy;
  readonly #folder: string;
  readonly #legs: FaultProxy[] = [];
  #postgres: EmbeddedPostgres;
  #directory: string;
  #standbys = 0;

  private constructor(apps: FaultProxy, folder: string, postgres: EmbeddedPostgres) {
    this.apps = apps;
    this.#folder = folder;
    this.#postgres = postgres;
    this.#directory = join(folder, "postgres");
    apps.target = this.port;
  }

  static async open(folder: string, say: (line: string) => void): Promise<Database> {
    const directory = join(folder, "postgres");
    const postgres = await startPostgres({ directory, settings: SETTINGS, onProgress: say });
    const database = new Database(await FaultProxy.listen(), folder, postgres);
    const admin = new pg.Client(postgres.url);
    await admin.connect();
    await admin.query("create role sequencer login replication");
    await admin.query(`create database ${DATABASE}`);
    await admin.end();
    return database;
  }

  get port(): number {
    return Number(new URL(this.#postgres.url).port);
  }

  /** A leg of a sequencer's, which leads to the true one from now on. */
  lead(leg: FaultProxy): void {
    leg.target = this.port;
    this.#legs.push(leg);
  }

  /** As superuser, with no proxy between. */
  connect(): Promise<pg.Client> {
    return connected(this.port);
  }

  /** Asks once. */
  async ask(query: string, values: unknown[] = []): Promise<pg.QueryResultRow[]> {
    const client = await this.connect();
    try {
      return (await client.query(query, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** SIGKILL to all of it, at once. */
  killNow(): void {
    this.#signal("SIGKILL");
  }

  freeze(): void {
    this.#signal("SIGSTOP");
  }

  thaw(): void {
    this.#signal("SIGCONT");
  }

  /** On the same port, with its data. */
  revive(): Promise<void> {
    return this.#postgres.restart();
  }

  /** @returns where the copy is. It is down meanwhile: what a copy of a running one has nobody knows. */
  async coldCopy(): Promise<string> {
    const copy = join(this.#folder, "backup");
    await this.#postgres.stop();
    await run("cp", ["-a", join(this.#directory, "data"), copy]);
    await this.revive();
    return copy;
  }

  /**
   * The data become those of the copy.
   * @param anew on a timeline of its own, as a standby that was late and is promoted.
   * @returns what puts the true ones back.
   */
  async restore(copy: string, anew: boolean): Promise<() => Promise<void>> {
    if (anew) {
      // Recovery finds no more than it has, and begins a timeline.
      appendFileSync(join(copy, "postgresql.auto.conf"), "restore_command = 'false'\n");
      this.#write(copy, "recovery.signal", "");
    }
    const data = join(this.#directory, "data");
    const kept = join(this.#folder, "kept");
    await this.#exchange([data, kept], [copy, data]);
    return async () => {
      await this.#exchange([data, copy], [kept, data]);
      rmSync(copy, { recursive: true });
    };
  }

  async #exchange(...moves: (readonly [string, string])[]): Promise<void> {
    this.killNow();
    await this.#postgres.kill();
    for (const [from, to] of moves) await run("mv", [from, to]);
    await this.revive();
  }

  /**
   * A standby is made and follows until it has all. It is synchronous, and slots are those of a failover: so it
   * has whatever was committed or told.
   * @param slot the sequencer's. @returns what lets the primary die and the standby take its place.
   */
  async makeStandby(slot: string): Promise<() => Promise<void>> {
    const name = `standby_${++this.#standbys}`;
    const directory = join(this.#folder, name);
    const primary = await this.connect();
    await this.#copyTo(directory, name, primary);
    const standby = await startPostgres({ directory, settings: SETTINGS });
    for (const setting of ["synchronous_standby_names", "synchronized_standby_slots"])
      await primary.query(`alter system set ${setting} = '${name}'`);
    await primary.query("select pg_reload_conf()");
    const follower = await connected(Number(new URL(standby.url).port));
    const hasAll = async (): Promise<boolean> => {
      // Slots can be taken over only from such a place in the log on.
      await primary.query("select pg_log_standby_snapshot()");
      const { rows } = await follower.query(
        "select count(*) = 2 as ready from pg_replication_slots where slot_name = any($1) and synced and not temporary and invalidation_reason is null",
        [[slot, WORD_SLOT]],
      );
      const states = await primary.query(
        "select sync_state from pg_stat_replication where application_name = $1",
        [name],
      );
      return rows[0].ready && states.rows[0]?.sync_state === "sync";
    };
    if (!(await within(FOLLOWS_MS, hasAll, 200)))
      throw new Error(`${name} did not follow; see ${directory}`);
    return async () => {
      this.killNow();
      await primary.end().catch(() => {});
      await follower.query("select pg_promote(true, 30)");
      await follower.end();
      await this.#postgres.stop();
      rmSync(this.#directory, { recursive: true, force: true });
      this.#postgres = standby;
      this.#directory = directory;
      for (const leg of [this.apps, ...this.#legs]) leg.target = this.port;
    };
  }

  /** Of a running primary, by its own low-level calls. */
  async #copyTo(directory: string, name: string, primary: pg.Client): Promise<void> {
    await run("mkdir", ["-p", directory]);
    await primary.query("select pg_create_physical_replication_slot($1, true)", [name]);
    await primary.query("select pg_backup_start($1, true)", [name]);
    const data = join(directory, "data");
    // Files may go while they are copied: the log has what was in them.
    await run("cp", ["-a", join(this.#directory, "data"), data]).catch(() => {});
    const label = await primary.query("select labelfile from pg_backup_stop(false)");
    // The log comes from the primary; slots are its own.
    const others = `rm -rf "$0"/pg_wal/* "$0"/pg_replslot/* "$0"/postmaster.*`;
    await run("sh", ["-c", others, data]);
    this.#write(data, "backup_label", label.rows[0].labelfile);
    this.#write(data, "standby.signal", "");
    const to = `host=127.0.0.1 port=${this.port} user=postgres dbname=${DATABASE} application_name=${name}`;
    const settings = {
      ...{ primary_conninfo: to, primary_slot_name: name },
      ...{ hot_standby_feedback: "on", sync_replication_slots: "on" },
    };
    const lines = Object.entries(settings).map(([key, value]) => `${key} = '${value}'\n`);
    appendFileSync(join(data, "postgresql.auto.conf"), lines.join(""));
  }

  /** Whoever runs PostgreSQL must be able to take it away. */
  #write(data: string, file: string, text: string): void {
    const { uid, gid } = statSync(join(data, "PG_VERSION"));
    writeFileSync(join(data, file), text, { mode: 0o600 });
    chownSync(join(data, file), uid, gid);
  }

  /** Under whoever reads it. */
  async dropSlot(slot: string): Promise<void> {
    const client = await this.connect();
    await until(async () => {
      await client.query(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active_pid is not null",
        [slot],
      );
      try {
        await client.query("select pg_drop_replication_slot($1)", [slot]);
        return true;
      } catch (error) {
        if ((error as { code?: string }).code === IN_USE) return false;
        throw error;
      }
    }, 20);
    await client.end();
  }

  async close(): Promise<void> {
    await this.#postgres.stop();
    await this.apps.close();
  }

  #signal(signal: NodeJS.Signals): void {
    const pid = this.#postgres.pid();
    if (pid === 0) throw new Error("PostgreSQL does not run");
    // Each session is a process; a postmaster that is frozen alone would take no harm.
    const sessions = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    for (const one of [pid, ...sessions.split(" ").filter(Boolean).map(Number)]) {
      try {
        process.kill(one, signal);
      } catch {
        // It ended by itself.
      }
    }
  }
}

async function connected(port: number): Promise<pg.Client> {
  const client = new pg.Client(`postgres://postgres@127.0.0.1:${port}/${DATABASE}`);
  client.on("error", () => {});
  await client.connect();
  return client;
}
