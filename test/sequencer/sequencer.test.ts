/**
 * P8 on a real PostgreSQL and a real Kafka: what is delivered is the order of commits, as PostgreSQL's own
 * test_decoding tells it through a slot of its own; dense, without repeats, and the same in SQL and Kafka.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import { makeLogger } from "../../process/logger.ts";
import { Planner } from "../../sequencer/plan.ts";
import { stamp } from "../../sequencer/stamps.ts";
import { slotNameOf } from "../../sequencer/term.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { startServer } from "../../sidecar/server.ts";
import { ROOT } from "../source-files.ts";
import { AtWork, allSent, giveUpSlot, metric, untilReady, untilSql } from "./at-work.ts";
import { type Bed, DEPLOYMENT, NAMESPACE, openBed, SLOW_MS } from "./bed.ts";
import { type Death, type SequencerProcess, startProcess } from "./sequencers.ts";
import { delivered, infoOf } from "./witness.ts";
import { startWriters } from "./writers.ts";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
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

test(
  "killed at every step, frozen and thawed, with a standby: the order of commits, dense, each event once",
  async () => {
    const topics = ["orders", "refunds"];
    const shop = await bed.shop("killed", topics);
    let made = 0;
    const startNext = (death?: Death): SequencerProcess =>
      startProcess({
        ...{ identity: { ...shop.identity, instance: `s${++made}` }, database: shop.database },
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
    expect(await atWork.audit(shop, topics)).toBeGreaterThan(transactions);
  },
  SLOW_MS,
);

describe("one sequencer", () => {
  test(
    "sends what COPY, prepared transactions, large ones and several topics commit; nothing of what is undone",
    async () => {
      const topics = ["bulk", "other"];
      const shop = await bed.shop("copying", topics);
      // A large transaction does not fit into the decoder's memory.
      await shop.sql.query("alter role sequencer set logical_decoding_work_mem = '64kB'");
      const value = "convert_to(gen_random_uuid()::text, 'UTF8')";
      const insert = (topic: string, count: number) =>
        `insert into throughline.outbox (topic, payload) select '${topic}', ${value} from generate_series(1, ${count})`;
      await atWork.startAndWait(shop);
      await shop.sql.query(`begin; ${insert("bulk", 3)}; prepare transaction 'p'`);
      await shop.sql.query(`begin; ${insert("bulk", 2)}; ${insert("other", 2)}; commit`);
      await shop.sql.query(`begin; ${insert("bulk", 20_000)}; ${insert("other", 1)}; commit`);
      await shop.sql.query(`begin; ${insert("bulk", 5)}; rollback`);
      await shop.sql.query("commit prepared 'p'");
      await shop.sql.query(`begin; ${insert("bulk", 4)}; prepare transaction 'q'`);
      await shop.sql.query("rollback prepared 'q'");
      await shop.sql.query(
        "copy throughline.outbox (topic, type, payload) from program $$for i in $(seq 1 250); do printf 'other\\tmade\\tcopied %d\\n' $i; done$$",
      );
      await shop.sql.query(
        `do $$ begin ${insert("other", 1)}; perform 1 / 0; exception when division_by_zero then ${insert("other", 2)}; end $$`,
      );
      await allSent(shop);
      await untilSql(
        shop,
        "select spill_txns > 0 from pg_stat_replication_slots where slot_name = $1",
        [slotNameOf(shop.identity)],
      );
      await shop.sql.query("alter role sequencer reset logical_decoding_work_mem");
      expect(await atWork.audit(shop, topics)).toBe(3 + 4 + 20_001 + 250 + 2);
    },
    SLOW_MS,
  );

  test(
    "parks what cannot be sent, with its commit and without a number, and goes on",
    async () => {
      const shop = await bed.shop("parking", ["small"]);
      // Only who owns the table can go around its checks, or a dump that is restored without them.
      const force = async (): Promise<void> => {
        await shop.sql.query("alter table throughline.outbox disable trigger check_event");
        await shop.sql.query(
          `insert into throughline.outbox (topic, payload, headers) values ('small', 'a', '{"a": "1"}'),
             ('nowhere', 'b', null), ('small', decode(repeat('00', 1048577), 'hex'), null),
             ('small', 'c', 'null'), ('small', 'd', '[]'), ('small', 'e', '{"tl-sequence": "9"}'), ('small', 'f', null)`,
        );
        await shop.sql.query("alter table throughline.outbox enable trigger check_event");
      };
      const first = await atWork.start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.topics");
      await first.close();
      await giveUpSlot(shop);
      // There before the slot is made, and after.
      await force();
      const sequencer = await atWork.startAndWait(shop);
      await force();
      await allSent(shop);
      const { rows } = await shop.sql.query(
        "select topic, sequence::int, parked from throughline.events where commit_id > 0 order by id",
      );
      const headers = "its headers are no JSON object, or have names that are Throughline's own";
      const parked = (reason: string, topic = "small") => ({ topic, sequence: 0, parked: reason });
      const sent = (sequence: number) => ({ topic: "small", sequence, parked: null });
      const forced = (from: number) => [
        ...[sent(from), parked('"nowhere" is no Topic of this Outbox', "nowhere")],
        parked("it has 1048577 bytes, and its Topic takes up to 1048576"),
        ...[parked(headers), parked(headers), parked(headers), sent(from + 1)],
      ];
      expect(rows).toEqual([...forced(1), ...forced(3)]);
      expect(await metric(sequencer, "throughline_sequencer_parked_total")).toBe(10);
      const got = await delivered(bed.log, bed.brokers, shop.kafkaTopic("small"));
      expect(got.map(({ sequence, value }) => [sequence, value])).toEqual([
        ...[
          [1, "a"],
          [2, "f"],
          [3, "a"],
          [4, "f"],
        ],
      ]);
    },
    SLOW_MS,
  );

  test(
    "sends bytes as they are and texts as UTF-8, of a database with another encoding, too",
    async () => {
      const shop = await bed.shop("latin", ["accents"], "LATIN1");
      const first = await atWork.start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.topics");
      await first.close();
      const publish = () =>
        shop.sql.query(
          `select throughline.publish('accents', 'größer', 'clé', '\\x00ff80', '{"é": "ü"}')`,
        );
      await publish();
      // The one before was not sent: it is read from the table, the next from the log.
      await atWork.startAndWait(shop);
      await publish();
      await allSent(shop);
      const got = await delivered(bed.log, bed.brokers, shop.kafkaTopic("accents"));
      expect(got).toHaveLength(2);
      for (const { key, payload, headers } of got)
        expect({ key, payload, headers }).toEqual({
          ...{ key: "clé", payload: Buffer.from([0x00, 0xff, 0x80]) },
          headers: { ce_type: "größer", é: "ü" },
        });
    },
    SLOW_MS,
  );

  test(
    "answers the README's questions in SQL, as they stand there, to the app's role",
    async () => {
      const shop = await bed.shop("asking", ["asked", "besides"]);
      await shop.sql.query("create role asker login");
      await shop.sql.query("select throughline.grant_app('asker')");
      await shop.sql.query("alter table throughline.outbox alter column id restart with 41");
      const sequencer = await atWork.startAndWait(shop);
      await shop.sql.query("select throughline.publish('asked') from generate_series(1, 2)");
      await shop.sql.query("select throughline.publish('besides')");
      await shop.sql.query("alter table throughline.outbox disable trigger check_event");
      await shop.sql.query("insert into throughline.outbox (topic) values ('unknown')");
      await shop.sql.query("alter table throughline.outbox enable trigger check_event");
      await allSent(shop);
      await sequencer.close();
      await shop.sql.query("select throughline.publish('besides')");

      const app = await shop.connect();
      await app.query("set role asker");
      const rows = readme.matchAll(/^\| ([^|]*\?) \| `(select [^`]*)` \|$/gm);
      const answers: Record<string, unknown[]> = {};
      for (const [, question = "", query = ""] of rows)
        answers[question] = (await app.query(query)).rows;
      await app.end();
      const place = { commit_id: expect.stringMatching(/^[1-9]/), commit_time: expect.any(Date) };
      const sent = (id: string, topic: string, sequence: string) => ({
        ...{ id, topic, sequence, ...place },
      });
      expect(answers).toEqual({
        "what was sent, when, and as which number?": [
          ...[sent("41", "asked", "1"), sent("42", "asked", "2"), sent("43", "besides", "1")],
        ],
        "as which number was event 42 sent, and when was it committed?": [
          { topic: "asked", sequence: "2", ...place },
        ],
        "what waits for its number?": [
          expect.objectContaining({ id: "45", topic: "besides", commit_id: "0", sequence: "0" }),
        ],
        "what is parked, and why?": [
          {
            ...{ id: "44", topic: "unknown", ...place },
            parked: '"unknown" is no Topic of this Outbox',
          },
        ],
        "how far is each topic?": [
          { name: "asked", last_value: "2" },
          { name: "besides", last_value: "1" },
        ],
      });
    },
    SLOW_MS,
  );

  test(
    "stamps nothing and moves no counter where one counter is not where it was left",
    async () => {
      const shop = await bed.shop("stamping", ["left", "moved"]);
      const sequencer = await atWork.start(shop);
      await untilReady(shop, sequencer, "ready");
      await sequencer.close();
      const { rows: topics } = await shop.sql.query("select id, name from throughline.topics");
      const batch = {
        events: topics.map(({ name }, index) => ({
          ...{ commit: { id: 8n, timeUs: 0n }, index, id: BigInt(index + 1), topic: name },
          ...{ type: Buffer.alloc(0), key: null, payload: null, headers: null },
        })),
        ...{ place: { commitId: 8n, index: 1 }, confirms: 16n },
      };
      const lastValues = new Map(topics.map(({ id, name }) => [id, name === "moved" ? 5 : 0]));
      const planned = new Planner({ lastValues, unsent: [] }).plan(batch, (name) => ({
        ...{ kind: "known" as const },
        topic: { ...topics.find((topic) => topic.name === name), maxEventBytes: 1000 },
      }));
      if (planned.kind !== "plan") throw new Error(planned.reason);
      await expect(stamp(shop.sql, planned.plan)).rejects.toMatchObject({
        reason: "StampsChanged",
      });
      const { rows } = await shop.sql.query(
        "select (select array_agg(last_value::int) from throughline.last_values) as values, (select count(*)::int from throughline.order_values) as stamps",
      );
      expect(rows).toEqual([{ values: [0, 0], stamps: 0 }]);
    },
    SLOW_MS,
  );

  test(
    "stops, says why and what to do, and sends nothing, where it could lose or renumber",
    async () => {
      const shop = await bed.shop("failing", ["safe"]);
      const publish = () => shop.sql.query("select throughline.publish('safe')");
      const sequencer = await atWork.start(shop);
      await untilSql(shop, "select count(*) = 1 from throughline.slot");
      await publish();
      await allSent(shop);
      const value = { key: null, value: Buffer.from("foreign"), headers: [], timeMs: Date.now() };
      await bed.log.append(await infoOf(bed.log, shop.kafkaTopic("safe")), 0, value);
      await publish();
      expect(await untilReady(shop, sequencer, "ForeignWriter")).toMatch(/Stop it/);
      await sequencer.close();
      // The next one knows it too, from the end of the topic alone.
      const next = await atWork.start(shop);
      expect(await untilReady(shop, next, "ForeignWriter")).toMatch(/has no order value/);
      await next.close();
      const other = await bed.shop("failing2", ["safe2"]);
      const second = await atWork.start(other);
      await untilReady(other, second, "ready");
      await second.close();
      await untilSql(other, "select bool_and(not active) from pg_replication_slots");
      await other.sql.query("select pg_drop_replication_slot($1)", [slotNameOf(other.identity)]);
      expect(await untilReady(other, await atWork.start(other), "SlotMissing")).toMatch(
        /forget-slot/,
      );
      await other.sql.query("drop publication throughline");
      expect(await untilReady(other, await atWork.start(other), "PublicationChanged")).toMatch(
        /migrate/,
      );
      await shop.sql.query("alter role sequencer noreplication");
      try {
        expect(await untilReady(shop, await atWork.start(shop), "RightsMissing")).toMatch(
          /alter role/,
        );
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
      await atWork.start(shop);
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
});
