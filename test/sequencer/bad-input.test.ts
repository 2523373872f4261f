/**
 * What goes wrong around a sequencer, on a real PostgreSQL and a real Kafka: each has a condition that says what to
 * do, and when it is mended all goes on, with nothing skipped and nothing renumbered (P8).
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { type EmbeddedPostgres, startPostgres } from "../../local/embedded-postgres.ts";
import type { Sequencer } from "../../sequencer/sequencer.ts";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { KafkaPart } from "../kafka-part.ts";
import { ROOT } from "../source-files.ts";
import {
  AtWork,
  allSent,
  catalogWatched,
  giveUpSlot,
  metric,
  stopped,
  untilReady,
  untilSql,
} from "./at-work.ts";
import { type Bed, openBed, type Shop, SLOW_MS } from "./bed.ts";

const WAL_LIMIT_BYTES = 64 << 20;

let bed: Bed;
let atWork: AtWork;

beforeAll(async () => {
  bed = await openBed(false, await KafkaPart.open());
  atWork = new AtWork(bed);
}, SLOW_MS);
afterEach(async () => {
  await atWork.close();
}, SLOW_MS);
afterAll(() => bed?.stop(), SLOW_MS);

function publish({ sql }: Shop, topic: string): Promise<unknown> {
  return sql.query(
    "select throughline.publish($1, 'made', null, convert_to(gen_random_uuid()::text, 'UTF8'))",
    [topic],
  );
}

/** Without waiting until it looks by itself. */
async function startAgain(shop: Shop, sequencer: Sequencer): Promise<Sequencer> {
  await sequencer.close();
  return atWork.start(shop);
}

async function numbers(shop: Shop): Promise<number[]> {
  const { rows } = await shop.sql.query(
    "select sequence::int from throughline.order_values order by sequence",
  );
  return rows.map(({ sequence }) => sequence);
}

describe("rights", () => {
  test(
    "that are missing, from the beginning or taken away under way, are named with the command; then all goes on",
    async () => {
      const shop = await bed.shop("unrighted", ["righted"]);
      await shop.sql.query("revoke usage on schema throughline from sequencer");
      const first = await atWork.start(shop);
      expect(await stopped(shop, first, "RightsMissing")).toMatch(
        /permission denied for schema throughline\. Run .*grant_sequencer/,
      );
      await first.close();
      await shop.sql.query("select throughline.grant_sequencer('sequencer')");
      const second = await atWork.startAndWait(shop);
      await publish(shop, "righted");
      await allSent(shop);
      await shop.sql.query("revoke insert on throughline.order_values from sequencer");
      await publish(shop, "righted");
      expect(await stopped(shop, second, "RightsMissing")).toMatch(
        /permission denied for table order_values\. Run .*grant_sequencer/,
      );
      expect(await numbers(shop)).toEqual([1]);
      // It looks by itself whether it is mended.
      await shop.sql.query("select throughline.grant_sequencer('sequencer')");
      await allSent(shop);
      expect(await atWork.audit(shop, ["righted"])).toBe(2);
    },
    SLOW_MS,
  );
});

describe("slots", () => {
  test(
    "that are used up are said, and one that is freed suffices",
    async () => {
      const shop = await bed.shop("slotless", ["slotted"]);
      const filler = "'filler_' || n";
      await shop.sql.query(
        `select pg_create_physical_replication_slot(${filler}) from generate_series(1,
           (select current_setting('max_replication_slots')::int - count(*) from pg_replication_slots)) n`,
      );
      try {
        const sequencer = await atWork.start(shop);
        expect(await untilReady(shop, sequencer, "it waits: ")).toMatch(
          /all replication slots are in use.*Free one or increase "max_replication_slots"/,
        );
        await publish(shop, "slotted");
        await shop.sql.query("select pg_drop_replication_slot('filler_1')");
        await untilReady(shop, sequencer, "ready\n");
        await allSent(shop);
        expect(await atWork.audit(shop, ["slotted"])).toBe(1);
      } finally {
        await shop.sql.query(
          "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'filler_%'",
        );
      }
    },
    SLOW_MS,
  );

  test(
    "keep no more of PostgreSQL's log than the limit for a Topic that has lost its data: its events are parked",
    async () => {
      const shop = await bed.shop("limited", ["lost", "kept"]);
      const { log, seen } = catalogWatched(bed.log);
      const limited = { log, retainedWalLimitBytes: WAL_LIMIT_BYTES };
      const sequencer = await atWork.start(shop, limited);
      await untilReady(shop, sequencer, "ready\n");
      for (const topic of ["lost", "kept"]) await publish(shop, topic);
      await allSent(shop);
      await bed.loseData(shop, "lost");
      await seen();
      for (const topic of ["lost", "kept"]) await publish(shop, topic);
      await untilReady(shop, sequencer, 'it waits: Topic "lost" has lost its data');
      expect(await numbers(shop)).toEqual([1, 1]);
      // So much of the log is passed over.
      for (let segments = 0; segments < WAL_LIMIT_BYTES / (16 << 20) + 1; segments++)
        await shop.sql.query("select pg_logical_emit_message(false, 'x', 'x'), pg_switch_wal()");
      await untilReady(shop, sequencer, "ready\n");
      await allSent(shop);
      const { rows } = await shop.sql.query(
        "select topic, sequence::int, commit_id > 0 as placed, parked from throughline.events order by id",
      );
      expect(rows.slice(0, 2).map(({ sequence }) => sequence)).toEqual([1, 1]);
      expect(rows.slice(2)).toEqual([
        {
          ...{ topic: "lost", sequence: 0, placed: true },
          parked: expect.stringMatching(
            /has lost its data .*, and PostgreSQL kept more .*retained-wal-limit/,
          ),
        },
        { topic: "kept", sequence: 2, placed: true, parked: null },
      ]);
      expect(await metric(sequencer, "throughline_sequencer_parked_total")).toBe(1);
      expect(await metric(sequencer, "throughline_sequencer_retained_wal_limit_bytes")).toBe(
        WAL_LIMIT_BYTES,
      );
    },
    SLOW_MS,
  );
});

describe("a table", () => {
  test(
    "that gets a column, or is emptied, under way changes nothing of what was committed",
    async () => {
      const shop = await bed.shop("altered", ["safe"]);
      await atWork.startAndWait(shop);
      await publish(shop, "safe");
      await shop.sql.query("alter table throughline.outbox add column note text default 'n'");
      await publish(shop, "safe");
      await allSent(shop);
      // Committed and emptied before anyone can have read it.
      await shop.sql.query("begin; lock table throughline.order_values in access exclusive mode");
      const other = await shop.connect();
      await publish({ ...shop, sql: other }, "safe");
      await other.query("truncate throughline.outbox");
      await shop.sql.query("commit");
      await untilSql(shop, "select count(*) = 3 from throughline.order_values");
      await publish(shop, "safe");
      await allSent(shop);
      expect(await numbers(shop)).toEqual([1, 2, 3, 4]);
      const got = await atWork.sequences(shop, "safe");
      expect(got).toEqual([1, 2, 3, 4]);
    },
    SLOW_MS,
  );

  test(
    "whose columns were renamed stops it before anything is sent; what came meanwhile needs a new slot",
    async () => {
      const shop = await bed.shop("renamed", ["strict"]);
      const sequencer = await atWork.startAndWait(shop);
      await publish(shop, "strict");
      await allSent(shop);
      await shop.sql.query(`alter table throughline.outbox rename column payload to body`);
      await expect(publish(shop, "strict")).rejects.toThrow(/payload/);
      await shop.sql.query("alter table throughline.outbox disable trigger check_event");
      await shop.sql.query(
        "insert into throughline.outbox (topic, body) values ('strict', convert_to('meanwhile', 'UTF8'))",
      );
      await shop.sql.query("alter table throughline.outbox enable trigger check_event");
      expect(await stopped(shop, sequencer, "TableChanged")).toMatch(
        /it has no column payload\. Put it back.*forget-slot/,
      );
      expect(await numbers(shop)).toEqual([1]);
      await shop.sql.query("alter table throughline.outbox rename column body to payload");
      await publish(shop, "strict");
      // PostgreSQL tells of each row what the table was like then.
      const second = await startAgain(shop, sequencer);
      await stopped(shop, second, "TableChanged");
      await second.close();
      await giveUpSlot(shop);
      await atWork.startAndWait(shop);
      await allSent(shop);
      expect(await atWork.audit(shop, ["strict"])).toBe(3);
    },
    SLOW_MS,
  );

  test(
    "whose ids begin again stops it: an event has one stamp",
    async () => {
      const shop = await bed.shop("restarted", ["again"]);
      const sequencer = await atWork.startAndWait(shop);
      await publish(shop, "again");
      await allSent(shop);
      await shop.sql.query("truncate throughline.outbox restart identity");
      await publish(shop, "again");
      const said = await stopped(shop, sequencer, "StampsChanged");
      expect(said).toMatch(/Key \(event_id\)=\(1\) already exists/);
      expect(await numbers(shop)).toEqual([1]);
      await shop.sql.query(/Run: (delete from [^;]*);/.exec(said)?.[1] ?? "");
      await startAgain(shop, sequencer);
      await allSent(shop);
      expect(await atWork.sequences(shop, "again")).toEqual([1, 2]);
    },
    SLOW_MS,
  );

  test(
    "of counters that somebody moved stops it; put back as it says, all goes on",
    async () => {
      const shop = await bed.shop("tampered", ["counted"]);
      const sequencer = await atWork.startAndWait(shop);
      await publish(shop, "counted");
      await allSent(shop);
      await shop.sql.query("update throughline.last_values set last_value = 7");
      await publish(shop, "counted");
      expect(await stopped(shop, sequencer, "StampsChanged")).toMatch(
        /last_value is the largest sequence/,
      );
      expect(await numbers(shop)).toEqual([1]);
      await shop.sql.query(
        "update throughline.last_values v set last_value = (select max(sequence) from throughline.order_values o where o.topic_id = v.topic_id)",
      );
      await startAgain(shop, sequencer);
      await allSent(shop);
      expect(await atWork.audit(shop, ["counted"])).toBe(2);
    },
    SLOW_MS,
  );
});

test(
  "a clock that jumps, ahead or back, makes at most one sequencer follow another: the order is not the clock's",
  async () => {
    const shop = await bed.shop("jumping", ["timed"]);
    let [active, standby] = [await atWork.startAndWait(shop), await atWork.start(shop)];
    await untilReady(shop, standby, "stands by");
    const pages = (): Promise<string[]> =>
      Promise.all([active, standby].map((one) => untilReady(shop, one, "")));
    for (const jump of ["1 day", "-1 day"]) {
      await publish(shop, "timed");
      // What the one at work said last seems to be of another day, until it says it again.
      for (;;) {
        await shop.sql.query("update throughline.heartbeat set at = clock_timestamp() + $1", [
          jump,
        ]);
        if ((await pages())[1] === "ready\n") break;
        await shop.sql.query("select pg_sleep(0.02)");
      }
      await untilReady(shop, active, "stands by");
      [active, standby] = [standby, active];
      await publish(shop, "timed");
    }
    await allSent(shop);
    expect(await atWork.audit(shop, ["timed"])).toBe(4);
  },
  SLOW_MS,
);

test(
  "another database behind the same address is no continuation, and wal_level=replica is said: nothing happens there",
  async () => {
    const shop = await bed.shop("behind", ["moved"]);
    const proxy = await FaultProxy.listen({ target: shop.database.port });
    const folder = mkdtempSync(join(tmpdir(), "throughline-other-"));
    const start = (wal_level: string): Promise<EmbeddedPostgres> =>
      startPostgres({ directory: folder, settings: { fsync: "off", wal_level } });
    let other = await start("replica");
    let client: pg.Client | undefined;
    const connect = async (database: string): Promise<pg.Client> => {
      client = new pg.Client(other.url.replace(/postgres$/, database));
      client.on("error", () => {});
      await client.connect();
      return client;
    };
    try {
      const admin = await connect("postgres");
      await admin.query("create role sequencer login replication");
      await admin.query("create database behind");
      await admin.end();
      const sql = await connect("behind");
      await sql.query(readFileSync(join(ROOT, "sequencer/schema.sql"), "utf8"));
      await sql.query("select throughline.grant_sequencer('sequencer')");
      const through = (port: number) => ({ database: { ...shop.database, port } });
      const early = await atWork.start(shop, through(Number(new URL(other.url).port)));
      expect(await stopped(shop, early, "WalLevel")).toMatch(
        /wal_level is replica\. Run: alter system set wal_level = logical; and restart/,
      );
      await early.close();
      await sql.end();
      await other.stop();

      const sequencer = await atWork.startAndWait(shop, through(proxy.port));
      await publish(shop, "moved");
      await allSent(shop);
      other = await start("logical");
      proxy.target = Number(new URL(other.url).port);
      proxy.cut();
      expect(await stopped(shop, sequencer, "OtherDatabase")).toMatch(
        /progress in database cluster \d+; --database leads to \d+\. Name the right one/,
      );
      const { rows } = await (await connect("behind")).query(
        "select (select count(*)::int from pg_replication_slots) as slots, (select count(*)::int from throughline.order_values) as stamps",
      );
      expect(rows).toEqual([{ slots: 0, stamps: 0 }]);
      await publish(shop, "moved");
      proxy.target = shop.database.port;
      proxy.cut();
      await allSent(shop);
      await atWork.close();
      expect(await atWork.audit(shop, ["moved"])).toBe(2);
    } finally {
      await atWork.close();
      await client?.end();
      await proxy.close();
      await other.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  },
  SLOW_MS,
);

// The last: the server ends, and connections with it.
test(
  "a full disk is waited for: nothing is stamped in part, and with room again all goes on",
  async () => {
    const before = await bed.shop("crammed", ["roomy"]);
    await atWork.startAndWait(before);
    await publish(before, "roomy");
    await allSent(before);
    await atWork.close();
    // Other stamps, so that the file of all of them is larger than those that PostgreSQL itself needs.
    await before.sql.query("alter table throughline.order_values set (fillfactor = 10)");
    await before.sql.query(
      "insert into throughline.order_values select -n, 0, n, 1, n, now() from generate_series(1, 40000) n",
    );
    const { rows } = await before.sql.query(
      "select pg_relation_size('throughline.order_values')::int as bytes",
    );
    expect(rows[0].bytes).toBeGreaterThan(20 << 20);
    await bed.postgres.restart(rows[0].bytes);
    const full = { ...before, sql: await before.connect() };
    const sequencer = await atWork.start(full);
    await full.sql.query("select throughline.publish('roomy') from generate_series(1, 100)");
    expect(await untilReady(full, sequencer, "it waits: could not extend file")).toMatch(
      /File too large/,
    );
    const some = await full.sql.query(
      "select count(*)::int from throughline.events where sequence > 0",
    );
    expect(some.rows).toEqual([{ count: 1 }]);
    await bed.postgres.restart();
    const roomy = { ...before, sql: await before.connect() };
    await allSent(roomy);
    await atWork.close();
    const dense = Array.from({ length: 101 }, (_, i) => i + 1);
    expect(await atWork.sequences(roomy, "roomy")).toEqual(dense);
    const stamped = await roomy.sql.query(
      "select sequence::int from throughline.events order by id",
    );
    expect(stamped.rows.map(({ sequence }) => sequence)).toEqual(dense);
  },
  SLOW_MS,
);
