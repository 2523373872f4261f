/** A Kafka that stalls, or cannot be reached, while the database works: nobody takes over from another in vain. */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type { Log } from "../../kafka/log.ts";
import { slotNameOf } from "../../sequencer/term.ts";
import { KafkaPart } from "../kafka-part.ts";
import { AtWork, allSent, catalogWatched, untilReady, untilSql } from "./at-work.ts";
import { type Bed, openBed, SLOW_MS } from "./bed.ts";

/** Past what a standby waits for a sign of life, and short of what ends a term. */
const STALL = "7 s";

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

test(
  "while Kafka stalls the one at work says in the database that it is alive, and its standby stands by",
  async () => {
    const shop = await bed.shop("stalling", ["steady"]);
    const { log, seen, stall, goOn } = catalogWatched(bed.log);
    const active = await atWork.startAndWait(shop, { log });
    const standby = await atWork.start(shop);
    await untilReady(shop, standby, "stands by");
    const { rows } = await shop.sql.query(
      "select clock_timestamp()::text as time, pg_current_wal_lsn()::text as lsn",
    );
    const [{ time, lsn }] = rows;
    stall();
    await untilSql(shop, `select at > $1::timestamptz + '${STALL}' from throughline.heartbeat`, [
      time,
    ]);
    expect(await untilReady(shop, active, "")).toBe("ready\n");
    expect(await untilReady(shop, standby, "")).toMatch(/stands by/);
    // O3 Idle, its slot goes on, up to what the heartbeat has stored.
    await untilSql(
      shop,
      "select confirmed_flush_lsn > $2::text::pg_lsn and confirmed_flush_lsn <= safe_lsn from throughline.heartbeat, pg_replication_slots where slot_name = $1",
      [slotNameOf(shop.identity), lsn],
    );
    const looked = seen();
    goOn();
    await looked;
    await shop.sql.query("select throughline.publish('steady', 'made', null, 'x')");
    await allSent(shop);
    expect(await untilReady(shop, active, "")).toBe("ready\n");
  },
  SLOW_MS,
);

test(
  "who cannot reach Kafka says so, and leaves the database's lock to one that can",
  async () => {
    const shop = await bed.shop("unreached", ["far"]);
    const offset = async () => ({ kind: "unavailable", reason: "no broker answers" }) as const;
    const cut: Log = { ...bed.log, offset };
    const first = await atWork.start(shop, { log: cut });
    expect(await untilReady(shop, first, "it waits: ")).toMatch(/no broker answers/);
    const { rows } = await shop.sql.query("select * from throughline.heartbeat");
    expect(rows).toEqual([]);
    const second = await atWork.start(shop);
    await untilReady(shop, second, "ready\n");
    await untilReady(shop, first, "it waits: no broker answers");
  },
  SLOW_MS,
);
