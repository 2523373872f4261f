/** A slot that is given up and made anew, and one that comes along when its database is promoted (P8). */
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { slotNameOf } from "../../sequencer/term.ts";
import { KafkaPart } from "../kafka-part.ts";
import { AtWork, allSent, allStamped, giveUpSlot, untilReady, untilSql } from "./at-work.ts";
import { type Bed, openBed, SLOW_MS } from "./bed.ts";
import { delivered } from "./witness.ts";

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
  "gives a slot up and makes one anew: what waits is numbered by id, and nothing is lost or sent again",
  async () => {
    const shop = await bed.shop("forgetting", ["kept"]);
    const insert = (count: number) =>
      shop.sql.query(
        "insert into throughline.outbox (topic, payload) select 'kept', convert_to(gen_random_uuid()::text, 'UTF8') from generate_series(1, $1)",
        [count],
      );
    const sequencer = await atWork.start(shop);
    await untilSql(shop, "select count(*) = 1 from throughline.slot");
    await insert(3);
    await allSent(shop);
    await sequencer.close();
    await insert(2500);
    await giveUpSlot(shop);
    await atWork.start(shop);
    await allStamped(shop);
    // Before whatever the slot brings: its first commit may be at the very point where it begins.
    await untilSql(
      shop,
      "select count(*) = 2500 from throughline.order_values, throughline.slot where commit_id = consistent_point - '0/1'",
    );
    await insert(2);
    await allSent(shop);
    expect(await atWork.audit(shop, ["kept"])).toBe(2505);
  },
  SLOW_MS,
);

test(
  "retires: waits for the one at work, then nothing of its slot is left; another Outbox's is not touched",
  async () => {
    const shop = await bed.shop("retiring", ["last"]);
    const slots = async () => {
      const { rows } = await shop.sql.query(
        "select s.name, p.slot_name from throughline.slot s full join pg_replication_slots p on s.name = p.slot_name where p.slot_name not like 'truth%' and (p.database = current_database() or s.name is not null)",
      );
      return rows;
    };
    const sequencer = await atWork.start(shop);
    await untilReady(shop, sequencer, "ready");
    const name = slotNameOf(shop.identity);
    const identity = { ...shop.identity, outbox: "another" };
    const stranger = await atWork.start(shop, { identity, retires: true });
    await untilReady(shop, stranger, "given up");
    expect(await slots()).toEqual([{ name, slot_name: name }]);
    const retiring = await atWork.start(shop, { retires: true });
    await untilReady(shop, retiring, "at work still");
    await sequencer.close();
    await untilReady(shop, retiring, "given up");
    expect((await fetch(`http://127.0.0.1:${retiring.healthPort}/readyz`)).status).toBe(200);
    expect(await slots()).toEqual([]);
  },
  SLOW_MS,
);

test(
  "follows the database onto a new timeline, and goes on counting",
  async () => {
    const before = await bed.shop("promoted", ["moved"]);
    await atWork.start(before);
    await untilSql(before, "select count(*) = 1 from throughline.slot");
    await before.sql.query("select throughline.publish('moved')");
    await allSent(before);
    await bed.promote();
    const shop = { ...before, sql: await before.connect() };
    await shop.sql.query("select throughline.publish('moved') from generate_series(1, 2)");
    await allSent(shop);
    const { rows } = await shop.sql.query("select timeline from throughline.slot");
    expect(rows).toEqual([{ timeline: 2 }]);
    await atWork.close();
    const got = await delivered(bed.log, bed.brokers, shop.kafkaTopic("moved"));
    expect(got.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
  },
  SLOW_MS,
);
