/**
 * A writer of the demo's outbox as a process of its own, like an app server: several transactions at once, of
 * random lengths, with savepoints, some undone in part and some as a whole. It tells what it committed, after
 * PostgreSQL has said so. A seed makes the same choices again, not the same timing.
 */

import { connectSql, type Sql } from "./postgres-client.ts";
import { randomFrom } from "./seeded-random.ts";

export interface WriterTask {
  readonly databaseUrl: string;
  readonly topic: string;
  /** Unique among the writers: its events' texts begin with it. */
  readonly name: string;
  readonly seed: number;
}

/** What it is sent after its task: it ends when its transactions are over. */
export const ENOUGH = "enough";

/** One transaction's end. */
export interface WriterReport {
  readonly committed: readonly string[];
  readonly undone: readonly string[];
  readonly isRolledBack: boolean;
  readonly savepointsUndone: number;
}

const TRANSACTIONS_AT_ONCE = 4;
/** One in thirty transactions is large. */
const LARGE = 1 / 30;
const SAVED = 0.3;
const UNDONE = 0.4;
const ROLLED_BACK = 0.15;
/** An app thinks between its statements, and others commit meanwhile. */
const MOST_THINKING_MS = 20;

const PUBLISH = {
  name: "publish",
  text: "select throughline.publish($1, 'booked', split_part(v, '/', 2), convert_to(v, 'UTF8')) from unnest($2::text[]) v",
};
const INSERT = {
  name: "insert",
  text: "insert into throughline.outbox (topic, type, key, payload) select $1, 'booked', split_part(v, '/', 2), convert_to(v, 'UTF8') from unnest($2::text[]) v",
};

let isEnough = false;
// It waits for its task, and has nothing else to do.
process.channel?.ref();
process.on("message", (told: WriterTask | typeof ENOUGH) => {
  if (told === ENOUGH) isEnough = true;
  else
    write(told).then(
      () => process.exit(0),
      (error: Error) => {
        console.error(error.message);
        process.exit(1);
      },
    );
});

async function write({ databaseUrl, topic, name, seed }: WriterTask): Promise<void> {
  await Promise.all(
    Array.from({ length: TRANSACTIONS_AT_ONCE }, async (_, i) => {
      const sql = await connectSql(databaseUrl);
      const random = randomFrom(seed * TRANSACTIONS_AT_ONCE + i);
      for (let n = 1; !isEnough; n++)
        process.send?.(await transaction(sql, topic, `${name}/c${i + 1}/t${n}`, random));
      await sql.end();
    }),
  );
}

async function transaction(
  sql: Sql,
  topic: string,
  name: string,
  random: () => number,
): Promise<WriterReport> {
  const below = (limit: number): number => Math.floor(random() * limit);
  const kept: string[] = [];
  const undone: string[] = [];
  let savepointsUndone = 0;
  let made = 0;
  await sql.query("begin");
  const isLarge = random() < LARGE;
  for (let left = isLarge ? 100 + below(200) : 1 + below(9); left > 0; ) {
    const some = Math.min(left, 1 + below(isLarge ? 80 : 4));
    left -= some;
    const texts = Array.from({ length: some }, () => `${name}/e${++made}`);
    const isSaved = random() < SAVED;
    if (isSaved) await sql.query("savepoint part");
    await sql.query({ ...(random() < 0.5 ? PUBLISH : INSERT), values: [topic, texts] });
    await sql.query("select pg_sleep($1)", [(random() * MOST_THINKING_MS) / 1000]);
    if (isSaved && random() < UNDONE) {
      await sql.query("rollback to savepoint part");
      savepointsUndone++;
      undone.push(...texts);
    } else kept.push(...texts);
  }
  const isRolledBack = random() < ROLLED_BACK;
  await sql.query(isRolledBack ? "rollback" : "commit");
  return {
    committed: isRolledBack ? [] : kept,
    undone: isRolledBack ? [...undone, ...kept] : undone,
    ...{ isRolledBack, savepointsUndone },
  };
}
