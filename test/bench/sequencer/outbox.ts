/**
 * What the apps do: eight of them insert at once, half of the rows in transactions of one and half in transactions of
 * ten. They run inside PostgreSQL (PL/pgSQL that commits), so that they take no more of the machine than they must.
 */
import { setTimeout as pause } from "node:timers/promises";
import { tailOf } from "../../../sequencer/tail.ts";
import type { Bed, Shop } from "../../sequencer/bed.ts";
import { infoOf } from "../../sequencer/witness.ts";

const WRITERS = 8;
/** Ten transactions of one row, then one of ten. */
const ROUND = { rows: 20, transactions: 11 };

export interface Filling {
  readonly topic: string;
  readonly rows: number;
  readonly bytes: number;
}

/** As fast as it goes; what is lost when the machine dies now is no loss. */
export async function fill(shop: Shop, { topic, rows, bytes }: Filling): Promise<void> {
  const rounds = rows / ROUND.rows / WRITERS;
  await eachWriter(
    shop,
    "off",
    () => `
    for i in 1..${rounds} loop
      for j in 1..10 loop ${insertInto(topic, bytes)}; commit; end loop;
      ${insertInto(topic, bytes)} from generate_series(1, 10); commit;
    end loop;`,
  );
  await shop.sql.query("checkpoint");
}

export interface Load {
  readonly topic: string;
  readonly bytes: number;
  readonly perSecond: number;
  readonly seconds: number;
}

function roundsOf({ perSecond, seconds }: Load): number {
  return Math.ceil((perSecond * seconds) / ROUND.rows / WRITERS);
}

/** How many it writes. */
export function rowsOf(load: Load): number {
  return roundsOf(load) * ROUND.rows * WRITERS;
}

/**
 * At a steady rate, transactions at random times; each commit is on disk.
 * @returns rows a second that were reached.
 */
export async function written(shop: Shop, load: Load): Promise<number> {
  const { topic, bytes, perSecond } = load;
  const everyMs = (1000 * ROUND.rows * WRITERS) / ROUND.transactions / perSecond;
  const sinceMs = performance.now();
  await eachWriter(
    shop,
    "on",
    (writer) => `
    perform setseed(${writer / WRITERS});
    due := clock_timestamp();
    for i in 1..${roundsOf(load) * ROUND.transactions} loop
      due := due - ln(1 - random()) * interval '${everyMs} milliseconds';
      perform pg_sleep(extract(epoch from due - clock_timestamp())) where due > clock_timestamp();
      if i % ${ROUND.transactions} > 0 then ${insertInto(topic, bytes)};
      else ${insertInto(topic, bytes)} from generate_series(1, 10); end if;
      commit;
    end loop;`,
  );
  return (rowsOf(load) / (performance.now() - sinceMs)) * 1000;
}

async function eachWriter(
  shop: Shop,
  synchronousCommit: "on" | "off",
  body: (writer: number) => string,
): Promise<void> {
  await Promise.all(
    Array.from({ length: WRITERS }, async (_, writer) => {
      const client = await shop.connect();
      await client.query(`set synchronous_commit = ${synchronousCommit}`);
      await client.query(`do $$ declare due timestamptz; begin ${body(writer)} end $$`);
      await client.end();
    }),
  );
}

/** Rows like those of `fill`, in transactions of so many. */
export async function insertInBulk(
  { sql }: Shop,
  { topic, rows, bytes }: Filling,
  perTransaction: number,
): Promise<void> {
  await sql.query(
    `do $$ begin for i in 1..${rows / perTransaction} loop
      ${insertInto(topic, bytes)} from generate_series(1, ${perTransaction}); commit;
    end loop; end $$`,
  );
  await sql.query("checkpoint");
}

/** The payload begins with the time of the insert, milliseconds since 1970. */
function insertInto(topic: string, bytes: number): string {
  const now = "int8send((extract(epoch from clock_timestamp()) * 1000)::bigint)";
  return `insert into throughline.outbox (topic, key, payload)
    select '${topic}', 'k1234567', ${now} || decode(repeat('ab', ${bytes - 8}), 'hex')`;
}

/** Resolves when the sequencer has made its slot. */
export async function slotMade({ sql }: Shop): Promise<void> {
  for (;;) {
    const { rows } = await sql.query("select count(*)::int as count from throughline.slot");
    if (rows[0].count === 1) return;
    await pause(50);
  }
}

/** How many are stamped; the last only once it is in Kafka, committed. */
export async function sent(bed: Bed, shop: Shop, topic: string, total: number): Promise<number> {
  const { rows } = await shop.sql.query(
    "select coalesce(sum(last_value), 0)::int as count from throughline.last_values",
  );
  if (rows[0].count < total) return rows[0].count;
  const { last } = await tailOf(bed.log, await infoOf(bed.log, shop.kafkaTopic(topic)));
  return last?.sequence === total ? total : total - 1;
}
