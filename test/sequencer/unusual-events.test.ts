/**
 * Events out of the ordinary, on a real PostgreSQL and a real Kafka: each way into the outbox, what is parked, other
 * encodings; and what SQL answers of them (P8).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { slotNameOf } from "../../sequencer/term.ts";
import { KafkaPart } from "../kafka-part.ts";
import { ROOT } from "../source-files.ts";
import { AtWork, allSent, giveUpSlot, metric, untilSql } from "./at-work.ts";
import { type Bed, openBed, SLOW_MS } from "./bed.ts";
import { delivered } from "./witness.ts";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
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
    const shop = await bed.shop("asking", ["asked", "other"]);
    await shop.sql.query("create role asker login");
    await shop.sql.query("select throughline.grant_app('asker')");
    await shop.sql.query("alter table throughline.outbox alter column id restart with 41");
    const sequencer = await atWork.startAndWait(shop);
    await shop.sql.query("select throughline.publish('asked') from generate_series(1, 2)");
    await shop.sql.query("select throughline.publish('other')");
    await shop.sql.query("alter table throughline.outbox disable trigger check_event");
    await shop.sql.query("insert into throughline.outbox (topic) values ('unknown')");
    await shop.sql.query("alter table throughline.outbox enable trigger check_event");
    await allSent(shop);
    await sequencer.close();
    await shop.sql.query("select throughline.publish('other')");

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
        ...[sent("41", "asked", "1"), sent("42", "asked", "2"), sent("43", "other", "1")],
      ],
      "as which number was event 42 sent, and when was it committed?": [
        { topic: "asked", sequence: "2", ...place },
      ],
      "what waits for its number?": [
        expect.objectContaining({ id: "45", topic: "other", commit_id: "0", sequence: "0" }),
      ],
      "what is parked, and why?": [
        {
          ...{ id: "44", topic: "unknown", ...place },
          parked: '"unknown" is no Topic of this Outbox',
        },
      ],
      "how far is each topic?": [
        { name: "asked", last_value: "2" },
        { name: "other", last_value: "1" },
      ],
    });
  },
  SLOW_MS,
);
