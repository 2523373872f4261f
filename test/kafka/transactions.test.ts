/**
 * What transactional writers keep on both logs (kafka/log.ts): all or nothing, one writer per id, and each
 * way to fail as a value. kafkajs reads what was committed where Kafka is real.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Kafka } from "kafkajs";
import type {
  Log,
  NewRecord,
  TopicInfo,
  TransactionalWriter,
  TransactionOutcome,
  TransactionPart,
} from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { LastNumbers } from "../../sidecar/publishers/last-numbers.ts";
import { KafkaPart } from "../kafka-part.ts";
import { END, readCommitted } from "./witness.ts";

const SLOW_MS = 240_000;
const NOW_MS = Date.now() - 60_000;

interface Driver {
  readonly log: Log;
  /** Undefined where there is no other client. */
  readonly witness: Kafka | undefined;
  /** A deployment id, too. */
  readonly name: string;
  stop(): Promise<void>;
}

async function memory(): Promise<Driver> {
  const log = new MemoryLog();
  return { log, witness: undefined, name: "transactions", stop: () => log.close() };
}

async function apacheKafka(): Promise<Driver> {
  const part = await KafkaPart.open();
  const log = part.openLog();
  return {
    log,
    witness: part.kafkajs(),
    name: part.name,
    stop: async () => {
      await log.close();
      await part.close();
    },
  };
}

function done<T>(outcome: { kind: string; value?: T }): T {
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value as T;
}

function record(value: string, key: string | null = null): NewRecord {
  const bytes = { key: key === null ? null : Buffer.from(key), value: Buffer.from(value) };
  return { ...bytes, headers: [], timeMs: NOW_MS };
}

/** With one record. */
function part(
  topic: TopicInfo,
  value: string,
  partition: number | null = 0,
  key: string | null = null,
): TransactionPart {
  return { topic, partition, records: [record(value, key)] };
}

function positions(outcome: TransactionOutcome) {
  if (outcome.kind !== "committed") throw new Error(JSON.stringify(outcome));
  return outcome.positions;
}

describe.each([
  ["in memory", memory],
  ["of Apache Kafka", apacheKafka],
])("transactions %s", (_name, open) => {
  let driver: Driver;
  let log: Log;
  let made = 0;

  beforeAll(async () => {
    driver = await open();
    log = driver.log;
  }, SLOW_MS);
  afterAll(() => driver?.stop(), SLOW_MS);

  async function newTopic(partitions = 1, settings = {}): Promise<TopicInfo> {
    const name = `${driver.name}.${++made}`;
    return done(await log.admin.createTopic({ name, partitions, replicas: 1, settings }));
  }

  async function writer(id: string): Promise<TransactionalWriter> {
    return done(await log.openTransactionalWriter(`${driver.name}.${id}`));
  }

  /** What is committed: up to one more record, which says where that ends. */
  async function values(topic: TopicInfo, partition = 0): Promise<string[]> {
    const end = await log.append(topic, partition, record(END));
    if (end.kind !== "appended") throw new Error(JSON.stringify(end));
    const reader = log.openReader(topic, partition);
    const found: string[] = [];
    for (let position = { offset: 0, epoch: -1 }; position.offset <= end.offset; ) {
      const fetched = await reader.fetch(position, 1 << 20, 500);
      if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
      const { records, next, epoch } = recordsOf(fetched, position.offset);
      found.push(...records.map(({ value }) => String(value)));
      position = { offset: next, epoch: epoch >= 0 ? epoch : position.epoch };
    }
    reader.close();
    return found.filter((value) => value !== END);
  }

  test(
    "several topics and partitions in one, positions in the order of the records",
    async () => {
      const [a, b] = [await newTopic(3), await newTopic()];
      const one = await writer("several");
      const first = positions(
        await one.write([
          part(a, "1", 2),
          part(b, "2"),
          part(a, "3", 2),
          part(a, "4", 0),
          part(a, "5", null, "key"),
        ]),
      );
      expect(first.slice(0, 4)).toEqual([
        { partition: 2, offset: 0 },
        { partition: 0, offset: 0 },
        { partition: 2, offset: 1 },
        { partition: 0, offset: 0 },
      ]);
      // Another transaction at once: markers of the one before are still being written.
      const [next] = positions(await one.write([part(a, "6", 2)]));
      expect(next?.partition).toBe(2);
      expect(next?.offset).toBeGreaterThan(2);
      // Kafka's own partitioner says where the key goes.
      const appended = await log.append(a, null, record("7", "key"));
      expect(first[4]?.partition).toBe(appended.kind === "appended" ? appended.partition : -1);
      expect(await values(a, 2)).toEqual(expect.arrayContaining(["1", "3", "6"]));
      expect(await values(b)).toEqual(["2"]);
    },
    SLOW_MS,
  );

  test(
    "records of a part follow each other, and so do parts of one partition, whatever lies between them",
    async () => {
      const [a, b] = [await newTopic(2), await newTopic()];
      const one = await writer("parts");
      function* made(...values: string[]) {
        for (const value of values) yield record(value);
      }
      const places = positions(
        await one.write([
          { topic: a, partition: 1, records: made("1", "2", "3") },
          { topic: b, partition: 0, records: [record("4"), record("5")] },
          { topic: a, partition: 1, records: made("6", "7") },
        ]),
      );
      expect(places).toEqual([
        { partition: 1, offset: 0 },
        { partition: 0, offset: 0 },
        { partition: 1, offset: 3 },
      ]);
      expect(await values(a, 1)).toEqual(["1", "2", "3", "6", "7"]);
      expect(await values(b)).toEqual(["4", "5"]);
    },
    SLOW_MS,
  );

  test(
    "the newest writer of an id has it: the older one is fenced and writes nothing",
    async () => {
      const topic = await newTopic();
      const older = await writer("fenced");
      positions(await older.write([part(topic, "older")]));
      const newer = await writer("fenced");
      expect(await older.write([part(topic, "zombie")])).toEqual({ kind: "fenced" });
      positions(await newer.write([part(topic, "newer")]));
      // It stays so.
      expect((await older.write([part(topic, "zombie")])).kind).toBe("unavailable");
      expect(await values(topic)).toEqual(["older", "newer"]);
    },
    SLOW_MS,
  );

  test(
    "two writers at the same time: one wins, and what is in the log is the winner's or whole",
    async () => {
      const topic = await newTopic(2);
      const pair = (n: string) => [part(topic, n, 0), part(topic, n, 1)];
      const older = await writer("race");
      const racing = older.write(pair("older"));
      const newer = await writer("race");
      const outcome = await racing;
      positions(await newer.write(pair("newer")));
      const [left, right] = [await values(topic, 0), await values(topic, 1)];
      expect(left).toEqual(right);
      if (outcome.kind === "committed") expect(left).toEqual(["older", "newer"]);
      expect(left.at(-1)).toBe("newer");
    },
    SLOW_MS,
  );

  test(
    "begun ahead, a transaction goes there and elsewhere, or is fenced, as one that was not",
    async () => {
      const [a, b] = [await newTopic(), await newTopic()];
      const one = await writer("ahead");
      positions(await one.write([part(a, "1")]));
      await one.begin([a]);
      positions(await one.write([part(a, "2"), part(b, "3")]));
      await one.begin([a]);
      // Nothing is produced: nobody waits for it.
      expect(await values(a)).toEqual(["1", "2"]);
      positions(await one.write([part(b, "4")]));
      await one.begin([a, b]);
      const newer = await writer("ahead");
      expect(await one.write([part(a, "zombie")])).toEqual({ kind: "fenced" });
      positions(await newer.write([part(a, "5")]));
      expect([await values(a), await values(b)]).toEqual([
        ["1", "2", "5"],
        ["3", "4"],
      ]);
    },
    SLOW_MS,
  );

  test(
    "nothing is committed before the caller lets it, and nothing at all when it does not",
    async () => {
      const topic = await newTopic();
      const one = await writer("let");
      let seen: readonly { readonly offset: number }[] = [];
      const first = await one.write([part(topic, "let")], async (where) => {
        seen = where;
        const end = await log.offset(topic, 0, "latest");
        expect(end).toMatchObject({ kind: "offset", offset: 0 });
      });
      expect(positions(first)).toEqual(seen);
      const refused = await one.write([part(topic, "held")], () =>
        Promise.reject(new Error("no stamps")),
      );
      expect(refused).toEqual({ kind: "unavailable", reason: "not committed: no stamps" });
      expect((await one.write([part(topic, "later")])).kind).toBe("unavailable");
      expect(await values(topic)).toEqual(["let"]);
    },
    SLOW_MS,
  );

  test(
    "a record that is too large refuses its transaction: nothing of it is there, and the writer goes on",
    async () => {
      const topic = await newTopic(2);
      const one = await writer("large");
      // To both: a partition that has no leader yet leaves in doubt whether what was sent is there.
      positions(await one.write([part(topic, "before"), part(topic, "before", 1)]));
      const outcome = await one.write([
        part(topic, "with it", 1),
        part(topic, "x".repeat(1_100_000)),
      ]);
      expect(outcome).toMatchObject({ kind: "refused", tooLarge: true });
      positions(await one.write([part(topic, "after"), part(topic, "after", 1)]));
      expect(await values(topic)).toEqual(["before", "after"]);
      expect(await values(topic, 1)).toEqual(["before", "after"]);
    },
    SLOW_MS,
  );

  test(
    "a topic that was made anew takes nothing of a transaction that was meant for the old one",
    async () => {
      const topic = await newTopic();
      const one = await writer("gone");
      // Two that follow each other, and the next is likely to.
      for (const value of ["older", "old"]) positions(await one.write([part(topic, value)]));
      done(await log.admin.deleteTopic(topic.id));
      let anew: TopicInfo | undefined;
      while (!anew) {
        const again = await log.admin.createTopic({ ...topic, settings: {} });
        if (again.kind === "done") anew = again.value;
      }
      expect(await one.write([part(topic, "late")])).toEqual({ kind: "gone", topic: topic.name });
      expect(await values(anew)).toEqual([]);
    },
    SLOW_MS,
  );

  test(
    "many transactions back to back are in order, as kafkajs reads them too",
    async () => {
      const topic = await newTopic();
      const one = await writer("many");
      const wanted: string[] = [];
      for (let i = 0; i < 100; i++) {
        wanted.push(`${i}a`, `${i}b`);
        positions(await one.write([part(topic, `${i}a`), part(topic, `${i}b`)]));
      }
      if (driver.witness) {
        const seen = await readCommitted(log, driver.witness, topic);
        expect(seen.map(({ value }) => value)).toEqual(wanted);
      }
      expect(await values(topic)).toEqual(wanted);
    },
    SLOW_MS,
  );

  test(
    "the last number is found before the opening's own record, also while another's transaction is open",
    async () => {
      const clock = { now: Date.now, setTimer: () => () => {} };
      const numbers = new LastNumbers({ log, deploymentId: driver.name, clock });
      const topic = await numbers.topic();
      const last = { topicId: topic.id, number: 5, instance: "mine" };
      const written = numbers.record(topic, "a/b/c", last);
      positions(await (await writer("older")).write([written]));
      const other = await openTransaction(topic, written.partition ?? 0);
      const [place] = positions(
        await (await writer("newer")).write([numbers.opening(topic, "a/b/c")]),
      );
      const latest = await log.offset(topic, written.partition ?? 0, "latest");
      if (driver.witness) {
        expect(latest.kind === "offset" && latest.offset <= (place?.offset ?? 0)).toBe(true);
      }
      const reading = numbers.read(topic, "a/b/c", place?.offset ?? 0);
      await other.abort();
      expect(await reading).toMatchObject(last);
    },
    SLOW_MS,
  );

  /** One that another client has open; in memory there is no such thing. */
  async function openTransaction(topic: TopicInfo, partition: number) {
    if (!driver.witness) return { abort: async () => {} };
    const transactionalId = `${driver.name}.holds-back`;
    const producer = driver.witness.producer({
      ...{ idempotent: true, maxInFlightRequests: 1, transactionalId },
    });
    await producer.connect();
    const open = await producer.transaction();
    await open.send({ topic: topic.name, messages: [{ key: "k", value: "open", partition }] });
    return {
      abort: async () => {
        await open.abort();
        await producer.disconnect();
      },
    };
  }
});
