/**
 * P8 on a real PostgreSQL and a real Kafka: what is delivered is the order of commits, as PostgreSQL's own
 * test_decoding tells it through a slot of its own; dense, without repeats, and the same in SQL and Kafka.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import { makeLogger } from "../../process/logger.ts";
import {
  type Sequencer,
  type SequencerOptions,
  startSequencer,
} from "../../sequencer/sequencer.ts";
import { forgetSlot } from "../../sequencer/slot.ts";
import { slotNameOf } from "../../sequencer/term.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { startServer } from "../../sidecar/server.ts";
import { type Bed, DEPLOYMENT, NAMESPACE, openBed, type Shop, SLOW_MS } from "./bed.ts";
import { type Death, type SequencerProcess, startProcess } from "./sequencers.ts";
import { delivered, infoOf } from "./witness.ts";
import { startWriters } from "./writers.ts";

let bed: Bed;
const running: Sequencer[] = [];

beforeAll(async () => {
  bed = await openBed();
}, SLOW_MS);
afterEach(async () => {
  for (const sequencer of running.splice(0)) await sequencer.close();
}, SLOW_MS);
afterAll(() => bed?.stop(), SLOW_MS);

function identityOf({ outbox }: Shop, instance = "test") {
  return { deploymentId: DEPLOYMENT, namespace: NAMESPACE, outbox, instance };
}

async function start(shop: Shop, more: Partial<SequencerOptions> = {}): Promise<Sequencer> {
  const sequencer = await startSequencer({
    ...{ identity: identityOf(shop), database: shop.database, log: bed.log, ...more },
    ...{ logger: makeLogger("silent", "test"), healthListen: { host: "127.0.0.1", port: 0 } },
  });
  running.push(sequencer);
  return sequencer;
}

/** Resolves when the query's first column is true. */
async function untilSql(shop: Shop, query: string, values: unknown[] = []): Promise<void> {
  for (;;) {
    const { rows } = await shop.sql.query({ text: query, values, rowMode: "array" });
    if (rows[0]?.[0] === true) return;
    await shop.sql.query("select pg_sleep(0.05)");
  }
}

async function untilReady(shop: Shop, { healthPort }: Sequencer, words: string): Promise<string> {
  for (;;) {
    const page = await fetch(`http://127.0.0.1:${healthPort}/readyz`);
    const said = await page.text();
    if (said.includes(words)) return said;
    await shop.sql.query("select pg_sleep(0.05)");
  }
}

function allStamped(shop: Shop): Promise<void> {
  return untilSql(
    shop,
    "select not exists (select from throughline.events where commit_id = 0 and parked is null)",
  );
}

/** Until the sequencer's progress in Kafka is up to the last stamp: its slot is confirmed after that. */
async function allSent(shop: Shop): Promise<void> {
  await allStamped(shop);
  const { rows } = await shop.sql.query("select pg_current_wal_lsn()::text as lsn");
  await untilSql(
    shop,
    "select confirmed_flush_lsn >= $2::text::pg_lsn from pg_replication_slots where slot_name = $1",
    [slotNameOf(identityOf(shop)), rows[0].lsn],
  );
}

/** Compares Kafka, the stamps in SQL and the order of commits. @returns how many events there are. */
async function audit(shop: Shop, topics: readonly string[]): Promise<number> {
  const committed = await shop.committed();
  const { rows } = await shop.sql.query(
    "select id, topic, convert_from(payload, 'UTF8') as value, commit_id, sequence, parked from throughline.events",
  );
  expect(rows.filter(({ parked }) => parked !== null)).toEqual([]);
  const idOf = new Map(rows.map(({ id, value }) => [value, id]));
  const byId = new Map(rows.map((row) => [row.id, row]));
  for (const topic of topics) {
    const inOrder = committed.filter((event) => event.topic === topic).map(({ id }) => id);
    const got = await delivered(bed.log, bed.brokers, shop.kafkaTopic(topic));
    expect(got.map(({ sequence }) => sequence)).toEqual(got.map((_, i) => i + 1));
    expect(got.map(({ value }) => idOf.get(value))).toEqual(inOrder);
    const inSql = got.map(({ value }) => byId.get(idOf.get(value) as string));
    expect(inSql.map((row) => Number(row.sequence))).toEqual(got.map(({ sequence }) => sequence));
    expect(inSql.map((row) => BigInt(row.commit_id))).toEqual(got.map(({ commitId }) => commitId));
  }
  expect(committed).toHaveLength(rows.length);
  return committed.length;
}

test(
  "killed at every step, frozen and thawed, with a standby: the order of commits, dense, each event once",
  async () => {
    const topics = ["orders", "refunds"];
    const shop = await bed.shop("killed", topics);
    let made = 0;
    const startNext = (death?: Death): SequencerProcess =>
      startProcess({
        ...{ identity: identityOf(shop, `s${++made}`), database: shop.database },
        ...{ brokers: bed.brokers, death },
      });
    const first = startNext({ step: "stamped", batch: 40 });
    await first.said("relaying");
    const clients = await Promise.all(Array.from({ length: 6 }, () => shop.connect()));
    const writers = startWriters(clients, topics, 7);
    const deaths: readonly Death[] = [
      { step: "decoded", batch: 30 },
      { step: "sent", batch: 30 },
      { step: "confirmed", batch: 30 },
      { step: "stamped", batch: 1 },
    ];
    let active = first;
    for (const death of deaths) {
      const standby = startNext(death);
      await active.ended;
      await standby.said("relaying");
      active = standby;
    }
    const frozen = startNext();
    await active.ended;
    await frozen.said("relaying");
    const last = startNext();
    await last.said("standby");
    frozen.child.kill("SIGSTOP");
    await last.said("relaying");
    frozen.child.kill("SIGCONT");
    await frozen.said("the sequencer waits");
    const transactions = await writers.stop();
    await allSent(shop);
    for (const { child, ended } of [frozen, last]) {
      child.kill("SIGKILL");
      await ended;
    }
    expect(await audit(shop, topics)).toBeGreaterThan(transactions);
  },
  SLOW_MS,
);

describe("one sequencer", () => {
  test(
    "sends what COPY, prepared transactions, large ones and several topics commit; nothing of what is undone",
    async () => {
      const topics = ["bulk", "other"];
      const shop = await bed.shop("copying", topics);
      await start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.slot");
      const value = "convert_to(gen_random_uuid()::text, 'UTF8')";
      const insert = (topic: string, count: number) =>
        `insert into throughline.outbox (topic, payload) select '${topic}', ${value} from generate_series(1, ${count})`;
      await shop.sql.query(`begin; ${insert("bulk", 3)}; prepare transaction 'p'`);
      await shop.sql.query(`begin; ${insert("bulk", 2)}; ${insert("other", 2)}; commit`);
      await shop.sql.query(`begin; ${insert("bulk", 9000)}; ${insert("other", 1)}; commit`);
      await shop.sql.query(`begin; ${insert("bulk", 5)}; rollback`);
      await shop.sql.query("commit prepared 'p'");
      await shop.sql.query(
        `do $$ begin ${insert("other", 1)}; perform 1 / 0; exception when division_by_zero then ${insert("other", 2)}; end $$`,
      );
      await allSent(shop);
      expect(await audit(shop, topics)).toBe(3 + 4 + 9001 + 2);
    },
    SLOW_MS,
  );

  test(
    "parks what cannot be sent, with its commit and without a number, and goes on",
    async () => {
      const shop = await bed.shop("parking", ["small"]);
      await start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.slot");
      const refused = async (query: string): Promise<string> =>
        shop.sql.query(query).then(
          () => "taken",
          ({ message }: Error) => message,
        );
      const into = "insert into throughline.outbox";
      expect(await refused(`${into} (topic) values ('nowhere')`)).toMatch(/"nowhere" is no Topic/);
      expect(await refused(`${into} (topic) values (null)`)).toMatch(/"topic".*null/s);
      expect(
        await refused(
          `${into} (topic, payload) values ('small', decode(repeat('00', 1048577), 'hex'))`,
        ),
      ).toMatch(/takes up to 1048576/);
      for (const headers of ['{"TL-x": "1"}', '{"a": 1}', "[]", '{"ce_type": "x"}'])
        expect(await refused(`${into} (topic, headers) values ('small', '${headers}')`)).toMatch(
          /headers:/,
        );
      // Only who owns the table can go around the checks.
      await shop.sql.query("alter table throughline.outbox disable trigger check_event");
      await shop.sql.query(
        `${into} (topic, payload) values ('small', 'a'), ('nowhere', 'b'), ('small', 'c')`,
      );
      await allSent(shop);
      const { rows } = await shop.sql.query(
        "select topic, sequence::int, parked, commit_id > 0 as placed from throughline.events order by id",
      );
      expect(rows).toEqual([
        { topic: "small", sequence: 1, parked: null, placed: true },
        {
          topic: "nowhere",
          sequence: 0,
          parked: '"nowhere" is no Topic of this Outbox',
          placed: true,
        },
        { topic: "small", sequence: 2, parked: null, placed: true },
      ]);
    },
    SLOW_MS,
  );

  test(
    "gives a slot up and makes one anew: what waits is numbered by id, and nothing is lost or sent again",
    async () => {
      const shop = await bed.shop("forgetting", ["kept"]);
      const insert = (count: number) =>
        shop.sql.query(
          "insert into throughline.outbox (topic, payload) select 'kept', convert_to(gen_random_uuid()::text, 'UTF8') from generate_series(1, $1)",
          [count],
        );
      const sequencer = await start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.slot");
      await insert(3);
      await allSent(shop);
      await sequencer.close();
      await insert(2500);
      const own = await shop.connect();
      const pause = () => own.query("select pg_sleep(0.05)").then(() => {});
      await forgetSlot(own, slotNameOf(identityOf(shop)), { onStandby: () => {}, pause });
      await own.end();
      await start(shop);
      await allStamped(shop);
      await insert(2);
      await allSent(shop);
      expect(await audit(shop, ["kept"])).toBe(2505);
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
      const sequencer = await start(shop);
      await untilReady(shop, sequencer, "ready");
      const name = slotNameOf(identityOf(shop));
      const identity = { ...identityOf(shop), outbox: "another" };
      const stranger = await start(shop, { identity, retires: true });
      await untilReady(shop, stranger, "given up");
      expect(await slots()).toEqual([{ name, slot_name: name }]);
      const retiring = await start(shop, { retires: true });
      await untilReady(shop, retiring, "at work still");
      await sequencer.close();
      await untilReady(shop, retiring, "given up");
      expect((await fetch(`http://127.0.0.1:${retiring.healthPort}/readyz`)).status).toBe(200);
      expect(await slots()).toEqual([]);
    },
    SLOW_MS,
  );

  test(
    "stops, says why and what to do, and sends nothing, where it could lose or renumber",
    async () => {
      const shop = await bed.shop("failing", ["safe"]);
      const publish = () => shop.sql.query("select throughline.publish('safe')");
      const sequencer = await start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.slot");
      await publish();
      await allSent(shop);
      const value = { key: null, value: Buffer.from("foreign"), headers: [], timeMs: Date.now() };
      await bed.log.append(await infoOf(bed.log, shop.kafkaTopic("safe")), 0, value);
      await publish();
      expect(await untilReady(shop, sequencer, "ForeignWriter")).toMatch(/Stop it/);
      await sequencer.close();
      const other = await bed.shop("failing2", ["safe2"]);
      const second = await start(other);
      await untilReady(other, second, "ready");
      await second.close();
      await untilSql(other, "select bool_and(not active) from pg_replication_slots");
      await other.sql.query("select pg_drop_replication_slot($1)", [slotNameOf(identityOf(other))]);
      expect(await untilReady(other, await start(other), "SlotMissing")).toMatch(/forget-slot/);
      await other.sql.query("drop publication throughline");
      expect(await untilReady(other, await start(other), "PublicationChanged")).toMatch(/migrate/);
      await shop.sql.query("alter role sequencer noreplication");
      try {
        expect(await untilReady(shop, await start(shop), "RightsMissing")).toMatch(/alter role/);
      } finally {
        await shop.sql.query("alter role sequencer replication");
      }
    },
    SLOW_MS,
  );

  test(
    "feeds subscribers: sequence, commit id and time on each event, and a start by sequence",
    async () => {
      const shop = await bed.shop("streaming", ["live"]);
      await start(shop);
      const config: Config = {
        ...{ listen: "127.0.0.1:0", healthListen: undefined, shape: "gateway" as const },
        ...{ kafka: { brokers: [], tls: undefined, sasl: undefined }, sessionStore: undefined },
        ...{ deploymentId: DEPLOYMENT, clusterUid: undefined, namespace: NAMESPACE },
        ...{ serverName: "A", logLevel: "silent", limits: DEFAULT_LIMITS, tls: undefined },
      };
      // The server closes it with itself.
      const log = openKafkaLog({ brokers: bed.brokers, clientId: "A" });
      const server = await startServer(config, log, makeLogger("silent", "A"));
      const client = new ThroughlineClient([server.address]);
      try {
        await untilSql(shop, "select count(*) = 1 from throughline.slot");
        await shop.sql.query(
          "select throughline.publish('live', 'made', 'k' || n, 'x', '{\"h\": \"v\"}') from generate_series(1, 10) n",
        );
        await allSent(shop);
        const { rows } = await shop.sql.query(
          "select commit_id, floor(extract(epoch from commit_time) * 1000)::bigint as ms from throughline.events where sequence = 4",
        );
        for await (const { events } of client.subscribe({
          ...{ topic: "live", start: { $case: "sequence", value: 4n } as const },
        })) {
          expect(events[0]).toMatchObject({
            ...{ sequence: 4n, type: "made", headers: [{ key: "h", value: Buffer.from("v") }] },
            ...{ commitId: BigInt(rows[0].commit_id), commitTimeMs: BigInt(rows[0].ms) },
          });
          break;
        }
      } finally {
        client.close();
        await server.close();
      }
    },
    SLOW_MS,
  );

  test(
    "follows the database onto a new timeline, and goes on counting",
    async () => {
      const before = await bed.shop("promoted", ["moved"]);
      await start(before);
      await untilSql(before, "select count(*) = 1 from throughline.slot");
      await before.sql.query("select throughline.publish('moved')");
      await allSent(before);
      await bed.promote();
      const shop = { ...before, sql: await before.connect() };
      await shop.sql.query("select throughline.publish('moved') from generate_series(1, 2)");
      await allSent(shop);
      const { rows } = await shop.sql.query("select timeline from throughline.slot");
      expect(rows).toEqual([{ timeline: 2 }]);
      for (const sequencer of running.splice(0)) await sequencer.close();
      const got = await delivered(bed.log, bed.brokers, shop.kafkaTopic("moved"));
      expect(got.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    },
    SLOW_MS,
  );
});
