/**
 * P8 on a real PostgreSQL and a real Kafka: what is delivered is the order of commits, as PostgreSQL's own
 * test_decoding tells it through a slot of its own; dense, without repeats, and the same in SQL and Kafka.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import { makeLogger } from "../../process/logger.ts";
import type { Sequencer } from "../../sequencer/sequencer.ts";
import { forgetSlot } from "../../sequencer/slot.ts";
import { slotNameOf } from "../../sequencer/term.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { startServer } from "../../sidecar/server.ts";
import { AtWork, allSent, allStamped, untilReady, untilSql } from "./at-work.ts";
import { type Bed, DEPLOYMENT, NAMESPACE, openBed, type Shop, SLOW_MS } from "./bed.ts";
import { type Death, type SequencerProcess, startProcess } from "./sequencers.ts";
import { delivered, infoOf } from "./witness.ts";
import { startWriters } from "./writers.ts";

let bed: Bed;
let atWork: AtWork;

beforeAll(async () => {
  bed = await openBed();
  atWork = new AtWork(bed);
}, SLOW_MS);
afterEach(async () => {
  await atWork.close();
}, SLOW_MS);
afterAll(() => bed?.stop(), SLOW_MS);

function identityOf({ outbox }: Shop, instance = "test") {
  return { deploymentId: DEPLOYMENT, namespace: NAMESPACE, outbox, instance };
}

const start = (shop: Shop): Promise<Sequencer> => atWork.start(shop);
const audit = (shop: Shop, topics: readonly string[]): Promise<number> =>
  atWork.audit(shop, topics);

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
      await atWork.close();
      const got = await delivered(bed.log, bed.brokers, shop.kafkaTopic("moved"));
      expect(got.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    },
    SLOW_MS,
  );
});
