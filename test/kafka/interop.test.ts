/**
 * One Kafka, several clients: what Kafka's own tools and kafkajs write, our reader reads, and the other
 * way round. Partitions of keys and kafkajs as the reader of appends are in appender.test.ts; the port's
 * own contract is in contract.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { CompressionTypes, type Kafka, type Transaction } from "kafkajs";
import type { Fetched, Log, NewRecord, TopicInfo } from "../../kafka/log.ts";
import { KafkaPart } from "../kafka-part.ts";
import { read, type Seen } from "./read-batches.ts";

const SLOW_MS = 240_000;
/** Not long ago, or retention removes the records while they are read. */
const NOW_MS = Date.now() - 60_000;
const CODEC_NAMES = ["none", "gzip", "snappy", "lz4", "zstd"];

let kafka: KafkaPart;
let log: Log;
let kafkajs: Kafka;
let made = 0;

beforeAll(async () => {
  kafka = await KafkaPart.open();
  log = kafka.openLog();
  kafkajs = kafka.kafkajs();
}, SLOW_MS);

afterAll(async () => {
  await log?.close();
  await kafka?.close();
}, SLOW_MS);

async function newTopic(partitions = 1): Promise<TopicInfo> {
  const name = kafka.own(`${++made}`);
  const outcome = await log.admin.createTopic({ name, partitions, replicas: 1, settings: {} });
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value;
}

type Headers = readonly (readonly [string, string | null])[];

/** `key|value|name=value,…` with null as text. */
function line(key: string | null, value: string | null, headers: Headers = []): string {
  return `${key}|${value}|${headers.map(([name, of]) => `${name}=${of}`).join(",")}`;
}

/** Partition 0 up to `end` as our reader sees it, and the codecs that its batches have. */
async function ours(topic: TopicInfo, end: number): Promise<{ lines: string[]; codecs: string[] }> {
  const reader = log.openReader(topic, 0);
  const seen: Seen[] = [];
  const codecs = new Set<string>();
  for (let position = { offset: 0, epoch: -1 }; position.offset < end; ) {
    const fetched = await reader.fetch(position, 1 << 20, 5000);
    if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
    const some = read(fetched.records, position.offset, fetched.aborted);
    if (some.end.kind !== "end") throw new Error(some.end.reason);
    seen.push(...some.seen);
    for (const codec of codecsIn(fetched)) codecs.add(codec);
    position = { offset: some.end.next, epoch: some.end.epoch };
  }
  reader.close();
  const utf8 = (latin1: string | null): string | null =>
    latin1 === null ? null : Buffer.from(latin1, "latin1").toString();
  const lines = seen.map(({ key, value, headers }) =>
    line(
      utf8(key),
      utf8(value),
      headers.map(([name, of]) => [utf8(name) as string, utf8(of)]),
    ),
  );
  return { lines, codecs: [...codecs].sort() };
}

function codecsIn({ records }: Fetched): string[] {
  const found: string[] = [];
  for (let at = 0; at + 61 <= records.length; at += 12 + records.readInt32BE(at + 8)) {
    found.push(CODEC_NAMES[records.readInt16BE(at + 21) & 7] ?? "unknown");
  }
  return found;
}

/** Undefined when they are equal: thousands of lines are not worth a page of differences. */
function firstDifference(a: readonly string[], b: readonly string[]): unknown {
  const at = a.findIndex((one, i) => one !== b[i]);
  return at < 0 && a.length === b.length ? undefined : { at, ours: a[at], theirs: b[at] };
}

async function consoleConsumer(topic: TopicInfo, count: number): Promise<string[]> {
  const print = ["partition", "offset", "headers", "key", "timestamp"];
  const run = await kafka.java("org.apache.kafka.tools.consumer.ConsoleConsumer", [
    ...["--bootstrap-server", kafka.brokers[0] as string, "--topic", topic.name],
    ...["--from-beginning", "--isolation-level", "read_committed"],
    ...["--max-messages", String(count), "--timeout-ms", "60000"],
    ...print.flatMap((what) => ["--formatter-property", `print.${what}=true`]),
    ...["--formatter-property", "key.separator=|"],
  ]);
  if (run.code !== 0) throw new Error(run.stderr);
  return run.stdout.replace(/\n$/, "").split("\n");
}

describe("Kafka's console producer", () => {
  // Some of every length, so that a batch of 300 kB has many blocks (lz4: 64 KiB, snappy: 32 KiB).
  const records = Array.from({ length: 3000 }, (_, i) => ({
    key: `schlüssel ${i % 50}`,
    value: `${i} `.repeat((i * 37) % 80) + "日本".repeat(i % 7),
    headers: [
      ["ce_type", "order.created"],
      ["n", String(i)],
    ] as const,
  }));

  test.each(["gzip", "snappy", "lz4", "zstd"])(
    "%s: our reader sees the same keys, values and headers in order",
    async (codec) => {
      const topic = await newTopic();
      const input = records.map(
        ({ key, value, headers }) =>
          `${headers.map(([name, of]) => `${name}:${of}`).join(",")}\t${key}\t${value}\n`,
      );
      const run = await kafka.java(
        "org.apache.kafka.tools.ConsoleProducer",
        [
          ...["--bootstrap-server", kafka.brokers[0] as string, "--topic", topic.name],
          ...["--compression-codec", codec, "--max-partition-memory-bytes", "300000"],
          ...["--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"],
        ],
        input.join(""),
      );
      expect(run).toMatchObject({ code: 0 });
      const { lines, codecs } = await ours(topic, records.length);
      expect(codecs).toEqual([codec]);
      const written = records.map(({ key, value, headers }) => line(key, value, headers));
      expect(firstDifference(lines, written)).toBeUndefined();
    },
    SLOW_MS,
  );
});

describe("kafkajs", () => {
  test("gzip and plain, headers with repeats, null and empty: our reader sees them in order", async () => {
    const topic = await newTopic();
    const producer = kafkajs.producer();
    await producer.connect();
    const empty = Buffer.alloc(0);
    const messages = [
      { key: null, value: "no key" },
      { key: "tombstone", value: null },
      { key: empty, value: empty },
      { key: "ü", value: "日本", headers: { a: "1", ü: ["2", "3"], b: empty } },
      ...Array.from({ length: 500 }, (_, i) => ({ key: `${i}`, value: `${i} `.repeat(i) })),
    ];
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      await producer.send({ topic: topic.name, compression, messages });
    }
    await producer.disconnect();
    const written = [
      line(null, "no key"),
      line("tombstone", null),
      line("", ""),
      line("ü", "日本", [
        ["a", "1"],
        ["ü", "2"],
        ["ü", "3"],
        ["b", ""],
      ]),
      ...messages.slice(4).map(({ key, value }) => line(String(key), String(value))),
    ];
    const { lines, codecs } = await ours(topic, messages.length * 2);
    expect(codecs).toEqual(["gzip", "none"]);
    expect(firstDifference(lines, [...written, ...written])).toBeUndefined();
  });

  test("transactions committed and aborted at once, beside plain events: the committed ones only", async () => {
    const topic = await newTopic();
    const plain = kafkajs.producer();
    const opened = ["a", "b", "c"].map((name) =>
      kafkajs.producer({
        transactionalId: `${topic.name}-${name}`,
        idempotent: true,
        maxInFlightRequests: 1,
      }),
    );
    await Promise.all([plain, ...opened].map((producer) => producer.connect()));
    const written: string[] = [];
    let offsets = 0;
    const send = async (to: Pick<Transaction, "send">, values: string[]): Promise<void> => {
      const compression = offsets % 2 === 0 ? CompressionTypes.GZIP : CompressionTypes.None;
      const messages = values.map((value) => ({ key: "k", value }));
      await to.send({ topic: topic.name, compression, messages });
      offsets += values.length;
    };
    for (let round = 0; round < 3; round++) {
      const [a, b, c] = (await Promise.all(opened.map((one) => one.transaction()))) as [
        Transaction,
        Transaction,
        Transaction,
      ];
      await send(a, [`a${round}.1`, `a${round}.2`]);
      await send(b, [`b${round}.1`]);
      await send(plain, [`plain ${round}`]);
      await send(c, [`c${round}`]);
      await send(a, [`a${round}.3`]);
      await send(b, [`b${round}.2`]);
      written.push(`a${round}.1`, `a${round}.2`, `plain ${round}`, `c${round}`, `a${round}.3`);
      await b.abort();
      await c.commit();
      await send(plain, [`plain again ${round}`]);
      written.push(`plain again ${round}`);
      await a.commit();
      offsets += 3;
    }
    await Promise.all([plain, ...opened].map((producer) => producer.disconnect()));
    const { lines } = await ours(topic, offsets);
    expect(lines).toEqual(written.map((value) => line("k", value)));
  });
});

describe("Kafka's console consumer", () => {
  function record(key: string | null, value: string, headers: [string, string][] = []): NewRecord {
    return {
      key: key === null ? null : Buffer.from(key),
      value: Buffer.from(value),
      headers: headers.map(([name, of]) => [name, Buffer.from(of)] as const),
      timeMs: NOW_MS + value.length,
    };
  }

  test(
    "sees our appends as they were made: partition, offset, time, headers, key, value",
    async () => {
      const topic = await newTopic(3);
      const records = [
        record("ü", "日本", [
          ["a", "1"],
          ["ü", "2"],
          ["a", ""],
        ]),
        record(null, "no key"),
        ...Array.from({ length: 200 }, (_, i) => record(`k${i % 9}`, `v${i} `.repeat(i))),
      ];
      const made = await Promise.all(records.map((one) => log.append(topic, null, one)));
      const written = made.map((outcome, i) => {
        if (outcome.kind !== "appended") throw new Error(JSON.stringify(outcome));
        const { key, value, headers, timeMs } = records[i] as NewRecord;
        const pairs = headers.map(([name, of]) => `${name}:${of}`).join(",") || "NO_HEADERS";
        return [
          `CreateTime:${timeMs}`,
          `Partition:${outcome.partition}`,
          `Offset:${outcome.offset}`,
          pairs,
          String(key ?? "null"),
          String(value),
        ].join("|");
      });
      const seen = await consoleConsumer(topic, records.length);
      expect(firstDifference([...seen].sort(), [...written].sort())).toBeUndefined();
    },
    SLOW_MS,
  );

  test(
    "sees what our fenced writer writes, and nothing of an aborted transaction between",
    async () => {
      const topic = await newTopic();
      const opening = await log.openFencedWriter(topic, record("k", "opened"));
      if (opening.kind !== "done") throw new Error(opening.reason);
      const foreign = kafkajs.producer({
        transactionalId: `${topic.name}-foreign`,
        idempotent: true,
        maxInFlightRequests: 1,
      });
      await foreign.connect();
      const aborted = await foreign.transaction();
      const write = async (...values: string[]): Promise<void> => {
        for (const value of values)
          expect((await opening.value.write(record("k", value))).kind).toBe("appended");
      };
      await write("1", "2");
      await aborted.send({ topic: topic.name, messages: [{ value: "never" }] });
      await write("3");
      await aborted.abort();
      await write("4", "5", "6");
      await foreign.disconnect();
      opening.value.close();
      const seen = await consoleConsumer(topic, 7);
      const values = seen.map((text) => text.split("|").at(-1));
      expect(values).toEqual(["opened", "1", "2", "3", "4", "5", "6"]);
    },
    SLOW_MS,
  );
});

test(
  "a position above what an open transaction holds back is no loss; one past the end is",
  async () => {
    const topic = await newTopic();
    const transactionalId = `${topic.name}-open`;
    const foreign = kafkajs.producer({
      transactionalId,
      idempotent: true,
      maxInFlightRequests: 1,
    });
    await foreign.connect();
    const open = await foreign.transaction();
    await open.send({ topic: topic.name, messages: [{ value: "a" }, { value: "b" }] });
    expect(await log.offset(topic, 0, "latest")).toMatchObject({ offset: 0 });
    const reader = log.openReader(topic, 0);
    for (const offset of [1, 2])
      for (const epoch of [-1, 0])
        expect(await reader.fetch({ offset, epoch }, 1, 0)).toMatchObject({ kind: "fetched" });
    expect(await reader.fetch({ offset: 3, epoch: -1 }, 1, 0)).toEqual({
      kind: "loss",
      loss: { kind: "past-end", earliest: 0 },
    });
    reader.close();
    await open.abort();
    await foreign.disconnect();
  },
  SLOW_MS,
);
