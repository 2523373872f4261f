/**
 * The audit of the demo's outbox as rows, decided from what was written down (pure): what the writers committed
 * by their own records, the order of commits by the database's own log, and what the subscriber received.
 */
import type { Row } from "./demo-report.ts";

/** What a writer says of itself. */
export interface WriterRecord {
  readonly committed: string[];
  readonly undone: string[];
  /** Committed ones. */
  transactions: number;
  rolledBack: number;
  savepointsUndone: number;
}

export interface BookedEvent {
  readonly sequence: number;
  readonly commitId: bigint;
  readonly value: string;
  /** When it was received. */
  readonly atMs: number;
}

export interface SequencerKill {
  readonly sequencer: string;
  readonly afterEvents: number;
  readonly atMs: number;
  /** Later commits are none of the killed one's. */
  readonly afterCommit: bigint;
}

export interface LoggedRow {
  readonly id: number;
  readonly value: string;
}

export interface OutboxRecords {
  readonly writers: readonly WriterRecord[];
  /** In the order of commits, from the database's log. */
  readonly logged: readonly LoggedRow[];
  readonly seen: readonly BookedEvent[];
  readonly failure: Error | undefined;
  /** Order values in SQL. */
  readonly stamped: ReadonlyMap<string, number>;
  readonly kills: readonly SequencerKill[];
  /** So many sequencers were to be killed. */
  readonly killsDue: number;
}

export function outboxRows(records: OutboxRecords): Row[] {
  const { writers, logged, seen, failure, stamped, kills, killsDue } = records;
  const rows: Row[] = [];
  const row = (good: boolean, text: string): void => void rows.push({ good, text });
  const sum = (of: (writer: WriterRecord) => number): number =>
    writers.reduce((total, writer) => total + of(writer), 0);

  const committed = new Set(writers.flatMap((writer) => writer.committed));
  const undone = sum((writer) => writer.undone.length);
  const rolledBack = sum((writer) => writer.rolledBack);
  const savepoints = sum((writer) => writer.savepointsUndone);
  row(
    writers.length > 1 && writers.every((writer) => writer.committed.length > 0),
    `outbox, committed by ${writers.length} writers' own records: ${committed.size} events in ${sum((writer) => writer.transactions)} transactions`,
  );
  row(
    rolledBack > 0 && savepoints > 0,
    `outbox, rolled back: ${undone} events, by ${rolledBack} transactions and ${savepoints} savepoints`,
  );
  const place = new Map(logged.map(({ value }, i) => [value, i]));
  const unlogged = [...committed].filter((value) => !place.has(value)).length;
  row(
    unlogged === 0 && logged.length === committed.size,
    `outbox, in the database's log by test_decoding: ${logged.length}, without ${unlogged} of the committed`,
  );
  const overtaken = stepsBack(logged.map(({ id }) => id));
  row(overtaken > 0, `outbox, committed after one with a higher id: ${overtaken}`);

  const received = new Set(seen.map(({ value }) => value));
  if (failure) row(false, `outbox, the subscriber failed: ${failure.message}`);
  row(
    seen.length === committed.size,
    `outbox, received: ${seen.length} of ${committed.size} committed`,
  );
  const missing = [...committed].filter((value) => !received.has(value));
  row(
    missing.length === 0,
    `outbox, missing: ${missing.length}${missing[0] ? `, the first ${missing[0]}` : ""}`,
  );
  row(received.size === seen.length, `outbox, repeated: ${seen.length - received.size}`);
  const phantoms = [...received].filter((value) => !committed.has(value)).length;
  row(phantoms === 0, `outbox, received and never committed: ${phantoms}`);
  const late = stepsBack(seen.map(({ value }) => place.get(value) ?? -1));
  row(late === 0, `outbox, out of order against the order of commits: ${late}`);
  const misnumbered = seen.filter(({ sequence }, i) => sequence !== i + 1).length;
  row(misnumbered === 0, `outbox, numbered otherwise than 1, 2, 3 …: ${misnumbered}`);
  const otherwise = seen.filter(({ value, sequence }) => stamped.get(value) !== sequence).length;
  row(otherwise === 0, `outbox, numbered otherwise in SQL: ${otherwise}`);

  row(kills.length === killsDue, `outbox, sequencers killed with SIGKILL: ${kills.length}`);
  for (const { sequencer, afterEvents, atMs, afterCommit } of kills) {
    const next = seen.find(({ commitId }) => commitId > afterCommit);
    row(
      next !== undefined,
      `outbox, ${sequencer} killed after ${afterEvents} events, takeover in ms: ${next ? (next.atMs - atMs).toFixed(0) : "never"}`,
    );
  }
  return rows;
}

/** How many are below one before them. */
function stepsBack(numbers: readonly number[]): number {
  let most = Number.NEGATIVE_INFINITY;
  return numbers.filter((number) => {
    const isBack = number < most;
    most = Math.max(most, number);
    return isBack;
  }).length;
}
