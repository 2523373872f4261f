/**
 * Appends under trouble, on three brokers (P1, P7). The log is read back by kafkajs, so that no proof
 * rests on our own reader.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type IHeaders, Kafka, logLevel } from "kafkajs";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { AppendOutcome, Log, NewRecord, TopicInfo } from "../../kafka/log.ts";
import type { AppendLimits } from "../../kafka/partition-appender.ts";
import { partitionOf } from "../../kafka/partitioner.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { Pace } from "../story/waits.ts";

const SLOW_MS = 300_000;

let directory: string;
let kafka: EmbeddedKafka;
let log: Log;
let witness: Kafka;
let made = 0;
const opened: Log[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-appender-"));
  kafka = await startKafka({ directory, nodes: 3 });
  log = open();
  witness = new Kafka({ brokers: kafka.brokers, logLevel: logLevel.NOTHING });
}, SLOW_MS);

afterAll(async () => {
  for (const one of opened) await one.close();
  await kafka?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

function open(limits: Partial<AppendLimits> = {}, brokers = kafka.brokers): Log {
  const one = openKafkaLog({ brokers, clientId: "appender-test" }, limits);
  opened.push(one);
  return one;
}

async function newTopic(partitions: number, settings = {}): Promise<TopicInfo> {
  const name = `appends.${++made}`;
  const outcome = await log.admin.createTopic({ name, partitions, replicas: 3, settings });
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value;
}

function record(value: string, more: Partial<NewRecord> = {}): NewRecord {
  return { key: null, value: Buffer.from(value), headers: [], timeMs: Date.now(), ...more };
}

interface Seen {
  readonly partition: number;
  readonly offset: number;
  readonly key: Buffer | null;
  readonly value: string;
  readonly headers: IHeaders | undefined;
}

/** The whole topic as kafkajs sees it. */
async function readBack(topic: TopicInfo): Promise<Seen[]> {
  const admin = witness.admin();
  await admin.connect();
  const ends = await admin.fetchTopicOffsets(topic.name);
  await admin.disconnect();
  const waiting = new Set(ends.filter(({ high }) => high !== "0").map((end) => end.partition));
  const high = new Map(ends.map((end) => [end.partition, Number(end.high)]));
  const seen: Seen[] = [];
  if (waiting.size === 0) return seen;
  const consumer = witness.consumer({
    groupId: `audit-${topic.name}-${made++}`,
    maxWaitTimeInMs: 100,
  });
  await consumer.connect();
  await consumer.subscribe({ topic: topic.name, fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    const run = consumer.run({
      eachMessage: async ({ partition, message: { offset, key, value, headers } }) => {
        seen.push({
          partition,
          offset: Number(offset),
          key,
          value: String(value),
          headers,
        });
        if (Number(offset) + 1 >= (high.get(partition) ?? 0)) waiting.delete(partition);
        if (waiting.size === 0) resolve();
      },
    });
    run.catch(reject);
  });
  await consumer.disconnect();
  return seen;
}

interface Publisher {
  readonly outcomes: Map<string, AppendOutcome>;
  /** Resolves when so many more are acknowledged. */
  acknowledged(more: number): Promise<void>;
  stop(): Promise<void>;
}

/** Publishes "<partition>:<number>" to every partition, a few open at a time, until stopped. */
function publish(through: Log, topic: TopicInfo): Publisher {
  const outcomes = new Map<string, AppendOutcome>();
  let appended = 0;
  let stopped = false;
  const waiting: { count: number; done: () => void }[] = [];
  const pace = new Pace(20, topic.partitions);
  const lane = async (partition: number): Promise<void> => {
    for (let n = 0; !stopped; await pace.turn()) {
      const values = Array.from({ length: 20 }, () => `${partition}:${n++}`);
      await Promise.all(
        values.map(async (value) => {
          const outcome = await through.append(topic, partition, record(value));
          outcomes.set(value, outcome);
          if (outcome.kind === "appended") appended++;
          for (const one of waiting) if (appended >= one.count) one.done();
        }),
      );
    }
  };
  const lanes = Array.from({ length: topic.partitions }, (_, partition) => lane(partition));
  return {
    outcomes,
    acknowledged: (more) => {
      const count = appended + more;
      return new Promise((done) => waiting.push({ count, done }));
    },
    stop: async () => {
      stopped = true;
      pace.stop();
      await Promise.all(lanes);
    },
  };
}

/** Every acknowledged event is where it was said to be, nothing is there twice, order is kept. */
function audit(seen: readonly Seen[], outcomes: ReadonlyMap<string, AppendOutcome>) {
  const at = new Map(seen.map(({ partition, offset, value }) => [`${partition}@${offset}`, value]));
  let lost = 0;
  for (const [value, outcome] of outcomes) {
    if (outcome.kind !== "appended") continue;
    if (at.get(`${outcome.partition}@${outcome.offset}`) !== value) lost++;
  }
  const repeated = seen.length - new Set(seen.map(({ value }) => value)).size;
  const last = new Map<number, number>();
  let disordered = 0;
  for (const { partition, value } of [...seen].sort((a, b) => a.offset - b.offset)) {
    const number = Number(value.split(":")[1]);
    if (number <= (last.get(partition) ?? -1)) disordered++;
    last.set(partition, number);
  }
  const kinds = new Set([...outcomes.values()].map(({ kind }) => kind));
  return { lost, repeated, disordered, kinds: [...kinds] };
}

async function leaderOf(topic: TopicInfo, partition: number): Promise<number> {
  const admin = witness.admin();
  await admin.connect();
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic.name] });
  await admin.disconnect();
  const found = topics[0]?.partitions.find(({ partitionId }) => partitionId === partition);
  return found?.leader ?? 1;
}

const CLEAN = { lost: 0, repeated: 0, disordered: 0, kinds: ["appended"] };

describe("P7 under broker trouble", () => {
  test(
    "a leader killed and started again in mid-append: nothing acknowledged is lost, nothing is there twice, nobody is told unknown",
    async () => {
      const topic = await newTopic(3);
      const publisher = publish(open({ requestTimeoutMs: 5000, deliveryTimeoutMs: 90_000 }), topic);
      await publisher.acknowledged(2000);
      const node = await leaderOf(topic, 0);
      await kafka.kill(node);
      await publisher.acknowledged(2000);
      await kafka.startNode(node);
      await publisher.acknowledged(2000);
      await publisher.stop();
      expect(audit(await readBack(topic), publisher.outcomes)).toEqual(CLEAN);
    },
    SLOW_MS,
  );

  test(
    "a frozen leader: its appends go to the next leader, and its thawing repeats nothing",
    async () => {
      const topic = await newTopic(3);
      const node = await leaderOf(topic, 0);
      // The one that freezes is also the one that look-ups go to.
      const limits = { requestTimeoutMs: 4000, deliveryTimeoutMs: 90_000 };
      const publisher = publish(open(limits, [kafka.brokers[node - 1] as string]), topic);
      await publisher.acknowledged(1000);
      kafka.freeze(node);
      await publisher.acknowledged(3000);
      kafka.thaw(node);
      await publisher.acknowledged(1000);
      await publisher.stop();
      expect(audit(await readBack(topic), publisher.outcomes)).toEqual(CLEAN);
    },
    SLOW_MS,
  );

  test(
    "no answer in time is said to be unknown; what follows is appended, once",
    async () => {
      const topic = await newTopic(1);
      const hasty = open({ requestTimeoutMs: 3000, deliveryTimeoutMs: 3000 });
      const outcomes = new Map<string, AppendOutcome>();
      const send = async (value: string): Promise<string> => {
        const outcome = await hasty.append(topic, 0, record(value));
        outcomes.set(value, outcome);
        return outcome.kind;
      };
      expect(await send("0:1")).toBe("appended");
      for (const node of [1, 2, 3]) kafka.freeze(node);
      const doubtful = send("0:2");
      const behind = doubtful.then(() => send("0:3"));
      expect(await doubtful).toBe("unknown");
      for (const node of [1, 2, 3]) kafka.thaw(node);
      await behind;
      for (let n = 4; (await send(`0:${n}`)) !== "appended"; ) n++;
      const { lost, repeated } = audit(await readBack(topic), outcomes);
      expect({ lost, repeated }).toEqual({ lost: 0, repeated: 0 });
    },
    SLOW_MS,
  );

  test(
    "a fenced writer goes on when the leader and its coordinator are killed; whole transactions, once",
    async () => {
      const topic = await newTopic(1);
      const openWriter = async () => {
        const opening = await log.openFencedWriter(`writer-${topic.name}`);
        if (opening.kind !== "done") throw new Error(opening.reason);
        return opening.value;
      };
      let writer = await openWriter();
      const acknowledged: string[] = [];
      let n = 0;
      const writeSome = async (count: number): Promise<void> => {
        for (const until = acknowledged.length + count; acknowledged.length < until; n++) {
          const values = [`0:${n}.1`, `0:${n}.2`];
          const written = await writer.write(
            topic.name,
            values.map((value) => record(value)),
          );
          if (written.kind === "done") acknowledged.push(...values);
          // Kafka itself fences a writer whose transaction outlived its time.
          if (written.kind === "fenced") writer = await openWriter();
        }
      };
      await writeSome(40);
      for (const node of [1, 2, 3]) {
        await kafka.kill(node);
        await writeSome(20);
        await kafka.startNode(node);
      }
      await writer.close();
      // The log ends with a marker that no consumer is shown: an event after it ends the reading.
      await log.append(topic, 0, record("0:end"));
      const seen = (await readBack(topic)).map(({ value }) => value);
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen.filter((value) => acknowledged.includes(value))).toEqual(acknowledged);
    },
    SLOW_MS,
  );
});

describe("what is not in the log is said so", () => {
  test("Kafka out of reach: unavailable, with the address", async () => {
    const nowhere = openKafkaLog(
      { brokers: ["127.0.0.1:1"], clientId: "nowhere" },
      { deliveryTimeoutMs: 300 },
    );
    opened.push(nowhere);
    const topic = { name: "t", id: "0".repeat(32), partitions: 1, replicas: 1 };
    const outcome = await nowhere.append(topic, 0, record("x"));
    expect(outcome).toMatchObject({ kind: "unavailable" });
    expect("reason" in outcome && outcome.reason).toContain("127.0.0.1:1");
  });

  test("P6: past the buffer's bound appends are refused at once, and taken again when it empties", async () => {
    const topic = await newTopic(1);
    const small = open({ bufferBytes: 10_000 });
    const [first, second] = await Promise.all([
      small.append(topic, 0, record("x".repeat(9000))),
      small.append(topic, 0, record("y".repeat(9000))),
    ]);
    expect(first?.kind).toBe("appended");
    expect(second).toMatchObject({ kind: "unavailable" });
    expect(second && "reason" in second && second.reason).toMatch(/^publish buffer full/);
    expect((await small.append(topic, 0, record("z".repeat(9000)))).kind).toBe("appended");
  }, 60_000);

  test("a batch over the topic's limit is split; only what is too large by itself is refused", async () => {
    const topic = await newTopic(1, { "max.message.bytes": "2000" });
    const values = Array.from({ length: 40 }, (_, i) => `0:${i}:`.padEnd(i === 17 ? 5000 : 300));
    const outcomes = new Map<string, AppendOutcome>();
    await Promise.all(
      values.map(async (value) => outcomes.set(value, await log.append(topic, 0, record(value)))),
    );
    const refused = [...outcomes].filter(([, { kind }]) => kind !== "appended");
    expect(refused.map(([value, { kind }]) => [value.length, kind])).toEqual([[5000, "too-large"]]);
    const seen = await readBack(topic);
    expect(seen.map(({ value }) => value)).toEqual(values.filter((value) => value.length < 5000));
    expect(audit(seen, outcomes)).toMatchObject({ lost: 0, repeated: 0, disordered: 0 });
  }, 60_000);

  test("one record that the broker refuses spoils no other of its batch", async () => {
    const topic = await newTopic(1);
    const outcomes = await Promise.all(
      [0, 1, 2, 3, 4].map((n) => {
        const timeMs = Date.now() + (n === 2 ? 7_200_000 : 0);
        return log.append(topic, 0, record(`0:${n}`, { timeMs }));
      }),
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      "appended",
      "appended",
      "unavailable",
      "appended",
      "appended",
    ]);
    expect(outcomes[2] && "reason" in outcomes[2] && outcomes[2].reason).toMatch(/timestamp/i);
    expect((await readBack(topic)).map(({ value }) => value)).toEqual(["0:0", "0:1", "0:3", "0:4"]);
  }, 60_000);
});

describe("other Kafka clients agree", () => {
  test(
    "keys are on the partitions where Kafka's console producer puts them",
    async () => {
      const topic = await newTopic(7);
      const keys = ["a", "JFK", "ü", "日本語", "key with spaces", "x".repeat(100)];
      const run = await kafka.java(
        "org.apache.kafka.tools.ConsoleProducer",
        [
          ...["--bootstrap-server", kafka.brokers[0] as string, "--topic", topic.name],
          ...["--reader-property", "parse.key=true", "--reader-property", "key.separator=|"],
        ],
        keys.map((key) => `${key}|v\n`).join(""),
      );
      expect(run).toMatchObject({ code: 0 });
      const seen = await readBack(topic);
      const theirs = new Map(seen.map(({ key, partition }) => [String(key), partition]));
      expect(theirs).toEqual(new Map(keys.map((key) => [key, partitionOf(Buffer.from(key), 7)])));
    },
    SLOW_MS,
  );

  test("kafkajs reads our keys, values and headers, repeats in order", async () => {
    const topic = await newTopic(5);
    const headers = [
      ["ce_type", Buffer.from("a")],
      ["ü", Buffer.from([0, 1, 255])],
      ["ce_type", Buffer.from("b")],
    ] as const;
    const key = Buffer.from("JFK");
    const outcome = await log.append(topic, null, record("v", { key, headers }));
    expect(outcome).toMatchObject({ kind: "appended", partition: partitionOf(key, 5) });
    const [seen] = await readBack(topic);
    expect(seen).toMatchObject({ key, value: "v", partition: partitionOf(key, 5) });
    expect(seen?.headers).toEqual({
      ce_type: [Buffer.from("a"), Buffer.from("b")],
      ü: Buffer.from([0, 1, 255]),
    });
  }, 60_000);
});
