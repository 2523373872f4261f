/**
 * One sequencer at a time: a lock of the database, held by a session. A standby waits for it.
 *
 * - O1 Who has the lock says so each second by the database's clock. One that is silent for
 *   `FROZEN_MS` is frozen, or cut off: a standby ends its sessions, which frees lock and slot. A word from the
 *   future is as old: the clock was set back.
 * - O2 A frozen one that thaws finds its sessions gone, and its transactional id fenced: it can neither
 *   stamp nor send.
 * - O3 A slot is confirmed for idle time only up to what the heartbeat has stored before, so that a slot that
 *   somebody else moved is known.
 */
import type { Socket } from "node:net";
import type { Client } from "pg";
import { lsnText } from "./lsn.ts";

const FROZEN_MS = 5000;
const LOOK_MS = 200;
/** Of a path to PostgreSQL that is gone nothing else would tell a standby. */
const ANSWER_MS = 10_000;
/** "thro". */
const LOCK_CLASS = 0x7468726f;
const LOCK = 1;

interface LockHooks {
  onStandby(): void;
  /** Rejects when it is given up. */
  pause(ms: number): Promise<void>;
}

/** Resolves when the lock is this session's. A connection that is not answered is closed. */
export async function takeLock(
  sql: Pick<Client, "query" | "connection">,
  hooks: LockHooks,
): Promise<void> {
  const stream = sql.connection.stream as Socket;
  const giveUp = (): void => void stream.destroy();
  stream.setTimeout(ANSWER_MS, giveUp);
  try {
    await waitForLock(sql, hooks);
  } finally {
    stream.setTimeout(0, giveUp);
  }
}

async function waitForLock(sql: Pick<Client, "query">, hooks: LockHooks): Promise<void> {
  for (let said = false; ; ) {
    const { rows } = await sql.query("select pg_try_advisory_lock($1, $2) as taken", [
      ...[LOCK_CLASS, LOCK],
    ]);
    if (rows[0].taken) return;
    if (!said) hooks.onStandby();
    said = true;
    await sql.query(
      // One that has just taken the lock has not told yet: its last statement is new. One that waits for a
      // long statement is not frozen.
      `select pg_terminate_backend(l.pid)
       from pg_locks l join pg_stat_activity a using (pid), throughline.heartbeat h
       where l.locktype = 'advisory' and l.classid = $1 and l.objid = $2 and l.objsubid = 2 and l.granted
         and a.state <> 'active'
         and l.database = (select oid from pg_database where datname = current_database())
         and abs(extract(epoch from clock_timestamp() - greatest(h.at, a.query_start))) * 1000 > $3`,
      [LOCK_CLASS, LOCK, FROZEN_MS],
    );
    await hooks.pause(LOOK_MS);
  }
}

/** Ends a session that still reads the slot: who has the lock is the only one who may. */
export async function freeSlot(
  sql: Client,
  slot: string,
  pause: (ms: number) => Promise<void>,
): Promise<void> {
  for (;;) {
    const { rows } = await sql.query(
      `select pg_terminate_backend(active_pid) from pg_replication_slots
       where slot_name = $1 and active_pid is not null`,
      [slot],
    );
    if (rows.length === 0) return;
    await pause(LOOK_MS);
  }
}

/** @param safe up to here there is nothing to send that was not sent. */
export async function beat(sql: Client, instance: string, safe: bigint): Promise<void> {
  await sql.query({
    name: "beat",
    text: `insert into throughline.heartbeat as h (instance, at, safe_lsn)
      values ($1, clock_timestamp(), $2::text::pg_lsn)
      on conflict (single) do update set instance = excluded.instance, at = excluded.at,
        safe_lsn = greatest(h.safe_lsn, excluded.safe_lsn)`,
    values: [instance, lsnText(safe)],
  });
}
