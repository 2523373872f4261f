/** Sequencers at work in a test's own process: started, waited for by what they say, and audited. */
import { expect } from "@jest/globals";
import type { Log } from "../../kafka/log.ts";
import { makeLogger } from "../../process/logger.ts";
import {
  type Sequencer,
  type SequencerOptions,
  startSequencer,
} from "../../sequencer/sequencer.ts";
import { forgetSlot } from "../../sequencer/slot.ts";
import { slotNameOf } from "../../sequencer/term.ts";
import type { Bed, Shop } from "./bed.ts";
import { delivered } from "./witness.ts";

export class AtWork {
  readonly #bed: Bed;
  readonly #running: Sequencer[] = [];

  constructor(bed: Bed) {
    this.#bed = bed;
  }

  async start(shop: Shop, more: Partial<SequencerOptions> = {}): Promise<Sequencer> {
    const sequencer = await startSequencer({
      ...{ identity: shop.identity, database: shop.database, log: this.#bed.log },
      ...{ logger: makeLogger("silent", "test"), healthListen: { host: "127.0.0.1", port: 0 } },
      ...more,
    });
    this.#running.push(sequencer);
    return sequencer;
  }

  /** Resolves when its slot is made: what is committed from now on is in the order of commits. */
  async startAndWait(shop: Shop, more: Partial<SequencerOptions> = {}): Promise<Sequencer> {
    const sequencer = await this.start(shop, more);
    await untilReady(shop, sequencer, "ready\n");
    return sequencer;
  }

  async close(): Promise<void> {
    for (const sequencer of this.#running.splice(0)) await sequencer.close();
  }

  /** In Kafka. */
  async sequences(shop: Shop, topic: string): Promise<number[]> {
    const { log, brokers } = this.#bed;
    const got = await delivered(log, brokers, shop.kafkaTopic(topic));
    return got.map(({ sequence }) => sequence);
  }

  /** Compares Kafka, the stamps in SQL and the order of commits. @returns how many events there are. */
  async audit(shop: Shop, topics: readonly string[]): Promise<number> {
    const committed = await shop.committed();
    const { rows } = await shop.sql.query(
      "select id, topic, convert_from(payload, 'UTF8') as value, commit_id, sequence, parked from throughline.events",
    );
    expect(rows.filter(({ parked }) => parked !== null)).toEqual([]);
    const idOf = new Map(rows.map(({ id, value }) => [value, id]));
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const topic of topics) {
      const inOrder = committed.filter((event) => event.topic === topic).map(({ id }) => id);
      const { log, brokers } = this.#bed;
      const got = await delivered(log, brokers, shop.kafkaTopic(topic));
      expect(got.map(({ sequence }) => sequence)).toEqual(got.map((_, i) => i + 1));
      expect(got.map(({ value }) => idOf.get(value))).toEqual(inOrder);
      const inSql = got.map(({ value }) => byId.get(idOf.get(value) as string));
      expect(inSql.map((row) => Number(row.sequence))).toEqual(got.map(({ sequence }) => sequence));
      expect(inSql.map((row) => BigInt(row.commit_id))).toEqual(
        got.map(({ commitId }) => commitId),
      );
    }
    expect(committed).toHaveLength(rows.length);
    return committed.length;
  }
}

/** Resolves when the query's first column is true. */
export async function untilSql(shop: Shop, query: string, values: unknown[] = []): Promise<void> {
  for (;;) {
    const { rows } = await shop.sql.query({ text: query, values, rowMode: "array" });
    if (rows[0]?.[0] === true) return;
    await shop.sql.query("select pg_sleep(0.05)");
  }
}

/** Resolves with what it says, when that has these words. */
export async function untilReady(
  shop: Shop,
  { healthPort }: Sequencer,
  words: string,
): Promise<string> {
  for (;;) {
    const page = await fetch(`http://127.0.0.1:${healthPort}/readyz`);
    const said = await page.text();
    if (said.includes(words)) return said;
    await shop.sql.query("select pg_sleep(0.05)");
  }
}

export function allStamped(shop: Shop): Promise<void> {
  return untilSql(
    shop,
    "select not exists (select from throughline.events where commit_id = 0 and parked is null)",
  );
}

/** Until the sequencer's progress in Kafka is up to the last stamp: its slot is confirmed after that. */
export async function allSent(shop: Shop): Promise<void> {
  await allStamped(shop);
  const { rows } = await shop.sql.query("select pg_current_wal_lsn()::text as lsn");
  await untilSql(
    shop,
    "select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots where slot_name = $1",
    [slotNameOf(shop.identity), rows[0].lsn],
  );
}

/** The value of a metric, by its name and labels. */
export async function metric({ healthPort }: Sequencer, name: string): Promise<number> {
  const page = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
  const line = page.split("\n").find((one) => one.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}

/** It has stopped for this, and says so in its metrics, too. @returns what it says. */
export async function stopped(shop: Shop, sequencer: Sequencer, reason: string): Promise<string> {
  const said = await untilReady(shop, sequencer, `it has stopped (${reason}): `);
  const state = `throughline_sequencer_state{state="failed",reason="${reason}"}`;
  expect(await metric(sequencer, state)).toBe(1);
  return said;
}

export async function giveUpSlot(shop: Shop): Promise<void> {
  const sql = await shop.connect();
  const pause = () => sql.query("select pg_sleep(0.05)").then(() => {});
  await forgetSlot(sql, slotNameOf(shop.identity), { onStandby: () => {}, pause });
  await sql.end();
}

/** A Kafka as one sequencer sees it: it looks at the catalog again and again, and what it asks there may stall. */
export function catalogWatched(log: Log) {
  let stalled: PromiseWithResolvers<void> | undefined;
  let onLook = (): void => {};
  const look = (): Promise<void> => new Promise((resolve) => (onLook = resolve));
  const offset: Log["offset"] = async (topic, ...at) => {
    if (topic.name.endsWith(".catalog")) {
      onLook();
      await stalled?.promise;
    }
    return log.offset(topic, ...at);
  };
  return {
    log: { ...log, offset },
    /** Resolves when it has seen the catalog as it is now: there is one look at a time. */
    seen: async (): Promise<void> => {
      await look();
      await look();
    },
    stall: (): void => {
      stalled = Promise.withResolvers();
    },
    goOn: (): void => stalled?.resolve(),
  };
}
