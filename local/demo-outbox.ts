/**
 * The demo's second chapter: writers in several processes put events into an outbox, with random transactions,
 * rollbacks and savepoints; the sequencer at work is killed, and another takes over. What the subscriber
 * received is compared with the order of commits, which the database itself tells through a slot of its own,
 * read by PostgreSQL's `test_decoding`: nothing of ours takes part.
 */
import { BookingSubscriber, DemoWriter, SequencerKiller } from "./demo-outbox-clients.ts";
import { type LoggedRow, outboxRows } from "./demo-outbox-report.ts";
import type { Row } from "./demo-report.ts";
import type { DemoView, Progress } from "./demo-view.ts";
import { connectSql, type Sql } from "./postgres-client.ts";
import type { LocalSequencer } from "./throughline.ts";

export const BOOKINGS = "bookings";
export const OUTBOX = "travel";
const WRITERS = 3;
/** The writers go on until so many are committed, and longer where takeovers do. */
const EVENTS = 12_000;
const KILLS_AT = [EVENTS / 4, EVENTS / 2];
const READY_MS = 60_000;
const WRITE_MS = 60_000;
const FINISH_MS = 30_000;
const LOOK_MS = 20;
const SHOW_MS = 100;
const SUM_MS = 1000;
const SLOT = "throughline_demo_commits";

export interface OutboxChapter {
  readonly databaseUrl: string;
  readonly sequencers: readonly LocalSequencer[];
  /** Of the servers. */
  readonly addresses: readonly string[];
  readonly view: DemoView;
  readonly signal: AbortSignal;
}

/** @returns what the audit found. @throws when it cannot be carried out. */
export async function outboxChapter(chapter: OutboxChapter): Promise<Row[]> {
  const { databaseUrl, sequencers, addresses, view, signal } = chapter;
  const sql = await connectSql(databaseUrl);
  const ends: (() => Promise<unknown>)[] = [() => sql.end()];
  try {
    const killer = new SequencerKiller(sequencers, sql, KILLS_AT, view.say);
    if (!(await until(() => killer.isReady, READY_MS, signal)))
      throw new Error(
        `After ${READY_MS / 1000} s no sequencer works while another stands by: ${sequencers.map(({ name, state }) => `${name} is ${state || "down"}`).join(", ")}; see above.`,
      );
    await sql.query("select pg_create_logical_replication_slot($1, 'test_decoding')", [SLOT]);
    const subscriber = new BookingSubscriber(addresses, BOOKINGS);
    ends.push(() => subscriber.stop());
    const names = sequencers.map(({ name, state }) =>
      state === "running" ? `${name} works` : `${name} stands by`,
    );
    view.say(`Outbox ${OUTBOX}: ${WRITERS} writers as processes; ${names.join(", ")}`);
    const writers = Array.from({ length: WRITERS }, (_, i) => {
      const name = `writer ${i + 1}`;
      const task = { name, databaseUrl, topic: BOOKINGS, seed: i + 1 };
      const writer = new DemoWriter(task);
      ends.push(() => writer.stop());
      return writer;
    });
    const committed = (): number =>
      writers.reduce((sum, { record }) => sum + record.committed.length, 0);
    const shown = showing(view, () => [
      {
        ...{ name: "committed", count: committed(), of: Math.max(EVENTS, committed()) },
        note: `undone: ${writers.reduce((sum, { record }) => sum + record.undone.length, 0)}`,
      },
      {
        ...{ name: "received", count: subscriber.seen.length, of: Math.max(EVENTS, committed()) },
        note: killer.atWork ? `${killer.atWork.name} works` : "no sequencer works",
      },
    ]);
    ends.push(async () => shown.end());
    const ended = Promise.all(writers.map((writer) => writer.ended));
    const deadline = performance.now() + WRITE_MS;
    while ((committed() < EVENTS || !killer.isDone) && performance.now() < deadline) {
      await Promise.race([ended, pause(LOOK_MS, signal)]);
      await killer.at(committed());
    }
    for (const writer of writers) writer.finish();
    await ended;
    const isAll = (): boolean =>
      subscriber.failure !== undefined || subscriber.seen.length >= committed();
    await until(isAll, FINISH_MS, signal);
    shown.end();
    return outboxRows({
      ...{ writers: writers.map(({ record }) => record), logged: await loggedRows(sql) },
      ...{ seen: subscriber.seen, failure: subscriber.failure, stamped: await stamped(sql) },
      ...{ kills: killer.kills, killsDue: KILLS_AT.length },
    });
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** A panel that changes in place, or a line each second. */
function showing(view: DemoView, progress: () => Progress[]): { end(): void } {
  const timers = [
    setInterval(() => view.show(progress()), SHOW_MS),
    setInterval(() => view.sum(progress()), SUM_MS),
  ];
  return {
    end: () => {
      for (const timer of timers) clearInterval(timer);
      view.show([]);
    },
  };
}

/** In the order of commits. */
async function loggedRows(sql: Sql): Promise<LoggedRow[]> {
  const { rows } = await sql.query(
    `select (regexp_match(data, '^table throughline\\.outbox: INSERT: id\\[bigint\\]:(\\d+)'))[1] as id,
       convert_from(decode((regexp_match(data, 'payload\\[bytea\\]:''\\\\x([0-9a-f]*)'''))[1], 'hex'), 'UTF8') as value
     from pg_logical_slot_get_changes($1, null, null)
     where data like 'table throughline.outbox: INSERT:%'`,
    [SLOT],
  );
  return rows.map(({ id, value }) => ({ id: Number(id), value }));
}

async function stamped(sql: Sql): Promise<Map<string, number>> {
  const { rows } = await sql.query(
    "select convert_from(payload, 'UTF8') as value, sequence from throughline.events",
  );
  return new Map(rows.map(({ value, sequence }) => [value, Number(sequence)]));
}

/** @returns false when the time is over before. */
async function until(
  holds: () => boolean,
  withinMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > deadline) return false;
    await pause(LOOK_MS, signal);
  }
  return true;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  signal.throwIfAborted();
}
