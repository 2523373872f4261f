/**
 * What both logs keep (kafka/log.ts): the one in memory and Apache Kafka. Where a deed is beyond the port
 * (retention, an aborted transaction, a topic made anew) each driver has its own way to do it.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type {
  Fetched,
  FetchOutcome,
  Log,
  NewRecord,
  Position,
  TopicInfo,
} from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { scan } from "../../kafka/scan.ts";
import { KafkaPart } from "../kafka-part.ts";

const SLOW_MS = 240_000;
const WAIT_MS = 5000;
/** Not long ago, or retention removes the records while they are read. */
const NOW_MS = Date.now() - 60_000;

interface Driver {
  readonly log: Log;
  own(name: string): string;
  abort(topic: TopicInfo, records: readonly NewRecord[]): Promise<void>;
  retainFrom(topic: TopicInfo, offset: number): Promise<void>;
  recreate(topic: TopicInfo): Promise<TopicInfo>;
  stop(): Promise<void>;
}

async function memory(): Promise<Driver> {
  const log = new MemoryLog();
  return {
    log,
    own: (name) => name,
    abort: async (topic, records) => void log.appendAbortedNow(topic.name, 0, records),
    retainFrom: async (topic, offset) => log.retainFrom(topic.name, 0, offset),
    recreate: async (topic) => log.recreate(topic.name),
    stop: () => log.close(),
  };
}

/** kafkajs does what the port cannot: it is the witness. */
async function apacheKafka(): Promise<Driver> {
  const part = await KafkaPart.open();
  const log = part.openLog();
  const witness = part.kafkajs();
  const admin = witness.admin();
  await admin.connect();
  return {
    log,
    own: (name) => part.own(name),
    abort: async (topic, records) => {
      const before = await log.offset(topic, 0, "latest");
      const start = before.kind === "offset" ? before.offset : 0;
      const producer = witness.producer({
        idempotent: true,
        maxInFlightRequests: 1,
        transactionalId: `${topic.name}-abort`,
      });
      await producer.connect();
      const transaction = await producer.transaction();
      const messages = records.map(({ value }) => ({ value, partition: 0 }));
      await transaction.send({ topic: topic.name, messages });
      await transaction.abort();
      await producer.disconnect();
      // The answer comes before the marker is written.
      for (let markers = false; !markers; ) {
        const end = await log.offset(topic, 0, "latest");
        markers = end.kind === "offset" && end.offset > start + records.length;
      }
    },
    retainFrom: async (topic, offset) => {
      const partitions = [{ partition: 0, offset: String(offset) }];
      // Without this look kafkajs does not know the topic.
      await admin.fetchTopicOffsets(topic.name);
      await admin.deleteTopicRecords({ topic: topic.name, partitions });
    },
    recreate: async (topic) => {
      done(await log.admin.deleteTopic(topic.id));
      for (;;) {
        const made = await log.admin.createTopic({ ...topic, settings: {} });
        if (made.kind === "done") return made.value;
      }
    },
    stop: async () => {
      await admin.disconnect();
      await log.close();
      await part.close();
    },
  };
}

function done<T>(outcome: { kind: string; value?: T }): T {
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value as T;
}

function record(value: string, more: Partial<NewRecord> = {}): NewRecord {
  return { key: null, value: Buffer.from(value), headers: [], timeMs: NOW_MS, ...more };
}

describe.each([
  ["in memory", memory],
  ["Apache Kafka", apacheKafka],
])("the log %s", (_name, open) => {
  let driver: Driver;
  let log: Log;
  let made = 0;

  beforeAll(async () => {
    driver = await open();
    log = driver.log;
  }, SLOW_MS);
  afterAll(() => driver?.stop(), SLOW_MS);

  async function newTopic(partitions = 1, settings = {}): Promise<TopicInfo> {
    const name = driver.own(`${++made}`);
    return done(await log.admin.createTopic({ name, partitions, replicas: 1, settings }));
  }

  async function append(topic: TopicInfo, ...values: string[]): Promise<number[]> {
    const outcomes = await Promise.all(values.map((value) => log.append(topic, 0, record(value))));
    return outcomes.map((outcome) => {
      if (outcome.kind !== "appended") throw new Error(JSON.stringify(outcome));
      return outcome.offset;
    });
  }

  async function fetch(
    topic: TopicInfo,
    position: Position,
    maxBytes = 1 << 20,
    maxWaitMs = WAIT_MS,
  ): Promise<FetchOutcome> {
    const reader = log.openReader(topic, 0);
    const outcome = await reader.fetch(position, maxBytes, maxWaitMs);
    reader.close();
    return outcome;
  }

  function fetched(outcome: FetchOutcome): Fetched {
    if (outcome.kind !== "fetched") throw new Error(JSON.stringify(outcome));
    return outcome;
  }

  /** All values from a position to the end, and the position after them. */
  async function readAll(topic: TopicInfo, from: Position = { offset: 0, epoch: -1 }) {
    const values: (string | undefined)[] = [];
    let position = from;
    for (;;) {
      const some = fetched(await fetch(topic, position));
      const { records, next, epoch } = recordsOf(some, position.offset);
      values.push(...records.map(({ value }) => value?.toString()));
      if (next === position.offset) return { values, position };
      position = { offset: next, epoch };
      if (next >= some.lastStable) return { values, position };
    }
  }

  test("P1: appends of one partition are read in the order of the calls, at the offsets said", async () => {
    const topic = await newTopic();
    const values = Array.from({ length: 500 }, (_, i) => `v${i}`);
    const offsets = await append(topic, ...values);
    expect(offsets).toEqual(values.map((_, i) => i));
    const read = await readAll(topic);
    expect(read.values).toEqual(values);
    expect(read.position.offset).toBe(500);
    expect(read.position.epoch).toBeGreaterThanOrEqual(0);
  });

  test("key, value, headers in order with repeats, and time come back as they went", async () => {
    const topic = await newTopic();
    const headers = [
      ["b", Buffer.from([0, 255])],
      ["a", Buffer.from("ü")],
      ["b", Buffer.alloc(0)],
      ["héader", Buffer.from("x")],
    ] as const;
    const timeMs = NOW_MS + 123;
    const all = [
      record("full", { key: Buffer.from("k"), headers, timeMs }),
      record("", { key: Buffer.alloc(0), timeMs: timeMs - 5000 }),
      record("", { value: null, key: Buffer.from("tomb"), timeMs }),
    ];
    await Promise.all(all.map((one) => log.append(topic, 0, one)));
    const { forEachHeader } = await import("../../kafka/scan.ts");
    const seen: unknown[] = [];
    const some = fetched(await fetch(topic, { offset: 0, epoch: -1 }));
    scan(some.records, { from: 0, aborted: [] }, (cursor) => {
      const text = (start: number, length: number) =>
        length < 0 ? null : Buffer.from(cursor.buf.subarray(start, start + length));
      const found: [string | undefined, Buffer | null][] = [];
      forEachHeader(cursor, (k, kl, v, vl) => found.push([text(k, kl)?.toString(), text(v, vl)]));
      seen.push({
        key: text(cursor.keyStart, cursor.keyLength),
        value: text(cursor.valueStart, cursor.valueLength),
        headers: found,
        timeMs: cursor.timeMs,
      });
    });
    expect(seen).toEqual(all.map((one) => ({ ...one, headers: one.headers.map((h) => [...h]) })));
  });

  test("a read may start inside a batch, and at the end brings nothing", async () => {
    const topic = await newTopic();
    await append(topic, "a", "b", "c", "d");
    expect((await readAll(topic, { offset: 2, epoch: -1 })).values).toEqual(["c", "d"]);
    const end = fetched(await fetch(topic, { offset: 4, epoch: 0 }, 1 << 20, 50));
    expect(end.records).toHaveLength(0);
    expect([end.highWatermark, end.lastStable, end.logStart]).toEqual([4, 4, 0]);
  });

  test("a fetch at the end waits for the next append", async () => {
    const topic = await newTopic();
    const reader = log.openReader(topic, 0);
    const waiting = reader.fetch({ offset: 0, epoch: -1 }, 1 << 20, 30_000);
    await append(topic, "late");
    const { records } = recordsOf(fetched(await waiting), 0);
    expect(records.map(({ value }) => value?.toString())).toEqual(["late"]);
    reader.close();
  });

  test("a fetch brings at least one batch, however small its limit", async () => {
    const topic = await newTopic();
    await append(topic, "x".repeat(5000));
    const some = fetched(await fetch(topic, { offset: 0, epoch: -1 }, 100));
    expect(recordsOf(some, 0).records).toHaveLength(1);
  });

  test("closing a reader ends its open fetch as unavailable", async () => {
    const topic = await newTopic();
    const reader = log.openReader(topic, 0);
    const open = reader.fetch({ offset: 0, epoch: -1 }, 1 << 20, 30_000);
    reader.close();
    expect((await open).kind).toBe("unavailable");
  });

  test("records of aborted transactions are never read; their offsets are holes", async () => {
    const topic = await newTopic();
    await append(topic, "before");
    await driver.abort(topic, [record("never"), record("ever")]);
    const [after] = await append(topic, "after");
    expect(after).toBe(4);
    const read = await readAll(topic);
    expect(read.values).toEqual(["before", "after"]);
    expect(read.position.offset).toBe(5);
  });

  test("a position below the earliest ends as before-earliest, with the earliest", async () => {
    const topic = await newTopic();
    for (const value of ["a", "b", "c"]) await append(topic, value);
    await driver.retainFrom(topic, 2);
    expect(await fetch(topic, { offset: 1, epoch: 0 })).toEqual({
      kind: "loss",
      loss: { kind: "before-earliest", earliest: 2 },
    });
    expect((await readAll(topic, { offset: 2, epoch: 0 })).values).toEqual(["c"]);
  });

  test("a position past the end is past-end without an epoch, and truncated with the one that ends before it", async () => {
    const topic = await newTopic();
    await append(topic, "a");
    expect(await fetch(topic, { offset: 9, epoch: -1 })).toEqual({
      kind: "loss",
      loss: { kind: "past-end", earliest: 0 },
    });
    expect(await fetch(topic, { offset: 9, epoch: 0 })).toEqual({
      kind: "loss",
      loss: { kind: "truncated", epoch: 0, endOffset: 1 },
    });
  });

  test("a topic made anew under the same name is gone to those who knew the old one", async () => {
    const topic = await newTopic();
    await append(topic, "old");
    const anew = await driver.recreate(topic);
    expect(anew.id).not.toBe(topic.id);
    expect(await fetch(topic, { offset: 0, epoch: -1 })).toEqual({
      kind: "loss",
      loss: { kind: "gone" },
    });
    expect(await log.append(topic, 0, record("lost"))).toEqual({ kind: "gone" });
    expect(await log.offset(topic, 0, "earliest")).toEqual({ kind: "gone" });
    expect((await log.offset(anew, 0, "latest")).kind).toBe("offset");
    expect(await log.offset(anew, 0, "latest")).toMatchObject({ offset: 0 });
  }, 60_000);

  test("positions by name and by time; a time past the end is the end", async () => {
    const topic = await newTopic();
    for (const [value, timeMs] of [
      ["a", 1000],
      ["b", 2000],
      ["c", 3000],
    ] as const) {
      await log.append(topic, 0, record(value, { timeMs: NOW_MS + timeMs }));
    }
    const at = async (spec: Parameters<Log["offset"]>[2]) => {
      const outcome = await log.offset(topic, 0, spec);
      return outcome.kind === "offset" ? outcome.offset : outcome.kind;
    };
    expect(await at("earliest")).toBe(0);
    expect(await at("latest")).toBe(3);
    expect(await at({ timeMs: NOW_MS + 1001 })).toBe(1);
    expect(await at({ timeMs: NOW_MS + 2000 })).toBe(1);
    expect(await at({ timeMs: NOW_MS + 60_000 })).toBe(3);
  });

  test("a record that is too large is refused alone; those beside it are appended", async () => {
    const topic = await newTopic();
    const outcomes = await Promise.all(
      ["a", "x".repeat(2 << 20), "b"].map((value) => log.append(topic, 0, record(value))),
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual(["appended", "too-large", "appended"]);
    expect((await readAll(topic)).values).toEqual(["a", "b"]);
  });

  test("a partition that the topic does not have is an exception, not an event elsewhere", async () => {
    const topic = await newTopic(2);
    expect(() => log.append(topic, 2, record("x"))).toThrow(RangeError);
    expect(() => log.append(topic, -1, record("x"))).toThrow(RangeError);
  });

  test("without a key events spread over all partitions", async () => {
    const topic = await newTopic(3);
    const outcomes = await Promise.all(
      Array.from({ length: 30 }, (_, i) => log.append(topic, null, record(`${i}`))),
    );
    const used = outcomes.map((o) => (o.kind === "appended" ? o.partition : -1));
    expect(new Set(used)).toEqual(new Set([0, 1, 2]));
  });

  test("once a fenced writer is open, nothing of the older one gets into the log; the newer one goes on", async () => {
    const topic = await newTopic();
    const older = done(await log.openFencedWriter(topic, record("older")));
    const kinds = await Promise.all(["1", "2", "3"].map((value) => older.write(record(value))));
    expect(kinds.map(({ kind }) => kind)).toEqual(Array(3).fill("appended"));
    const newer = done(await log.openFencedWriter(topic, record("newer")));
    for (const value of ["stale", "staler"])
      expect(await older.write(record(value))).toEqual({ kind: "fenced" });
    expect(await newer.write(record("4"))).toEqual({ kind: "appended", partition: 0, offset: 5 });
    expect((await readAll(topic)).values).toEqual(["older", "1", "2", "3", "newer", "4"]);
    older.close();
    newer.close();
  }, 60_000);

  test("a fenced writer is of one topic, by its id: it is gone when another has the name", async () => {
    const topic = await newTopic();
    const writer = done(await log.openFencedWriter(topic, record("opened")));
    const anew = await driver.recreate(topic);
    expect(await writer.write(record("stale"))).toEqual({ kind: "gone" });
    expect((await readAll(anew)).values).toEqual([]);
    writer.close();
  }, 60_000);

  test("topics: described with ids, grown, deleted by id only", async () => {
    const topic = await newTopic(2, { "retention.ms": "100000" });
    const described = done(await log.admin.describeTopics([topic.name, "no.such"]));
    expect([...described.values()]).toEqual([topic]);
    expect(done(await log.admin.listTopics())).toContain(topic.name);
    expect(done(await log.admin.listTopics(topic.name.slice(0, -1)))).toContain(topic.name);
    expect(done(await log.admin.listTopics(`${topic.name}.`))).toEqual([]);
    done(await log.admin.createPartitions(topic.name, 4));
    expect(done(await log.admin.describeTopics([topic.name])).get(topic.name)?.partitions).toBe(4);
    const again = await log.admin.createTopic({ ...topic, settings: {} });
    expect(again).toMatchObject({ kind: "refused", error: "TOPIC_ALREADY_EXISTS" });
    expect(await log.admin.createPartitions(topic.name, 3)).toMatchObject({
      kind: "refused",
      error: "INVALID_PARTITIONS",
    });
    const anew = await driver.recreate(topic);
    expect(await log.admin.deleteTopic(topic.id)).toMatchObject({
      kind: "refused",
      error: "UNKNOWN_TOPIC_ID",
    });
    expect(done(await log.admin.describeTopics([topic.name])).get(topic.name)?.id).toBe(anew.id);
  }, 60_000);

  test("settings: single ones change, others stay, unset ones return to the broker's", async () => {
    const topic = await newTopic(1, { "retention.ms": "100000", "segment.ms": "200000" });
    done(await log.admin.changeSettings(topic.name, { "retention.ms": "300000" }, ["segment.ms"]));
    // A broker's view follows the change after a moment.
    let seen = done(await log.admin.settings(topic.name));
    while ("segment.ms" in seen) seen = done(await log.admin.settings(topic.name));
    expect(seen).toEqual({ "retention.ms": "300000" });
    expect(await log.admin.settings("no.such")).toMatchObject({
      kind: "refused",
      error: "UNKNOWN_TOPIC_OR_PARTITION",
    });
  });
});
