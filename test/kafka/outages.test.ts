/**
 * Appends, and offsets of groups, while brokers die, freeze, move and come back, on three of them (P1, P7). The log
 * is read back by kafkajs, so that no proof rests on our own reader.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Kafka, logLevel } from "kafkajs";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { AppendOutcome, Log, TopicInfo } from "../../kafka/log.ts";
import type { AppendLimits } from "../../kafka/partition-appender.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { Pace, until } from "../story/waits.ts";
import { audit, readBack, record } from "./append-audit.ts";
import { committedOffsets } from "./witness.ts";

const SLOW_MS = 300_000;
const NODES = [1, 2, 3];
/** Each append is a batch of its own, and has so long. */
const HASTY = { requestTimeoutMs: 3000, deliveryTimeoutMs: 3000, batchBytes: 1 };
/** One look-up gives a silent broker up after 5 s, and asks twice. */
const WITHIN_MS = 8000;

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
  await kafka?.stop("SIGKILL");
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

function open(limits: Partial<AppendLimits> = {}, brokers = kafka.brokers): Log {
  const one = openKafkaLog({ brokers, clientId: "appender-test" }, limits);
  opened.push(one);
  return one;
}

/** Brokers that have just come back from an outage are not counted at once: it is asked for until three are there. */
async function newTopic(partitions: number): Promise<TopicInfo> {
  const topics: TopicInfo[] = [];
  await until(async () => {
    const asked = { name: `appends.${++made}`, partitions, replicas: 3, settings: {} };
    const outcome = await log.admin.createTopic(asked);
    if (outcome.kind === "done") topics.push(outcome.value);
    return topics.length > 0;
  });
  return topics[0] as TopicInfo;
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
  const pace = new Pace(40, topic.partitions);
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

async function leaderOf(topic: TopicInfo, partition: number): Promise<number> {
  const admin = witness.admin();
  await admin.connect();
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic.name] });
  await admin.disconnect();
  const found = topics[0]?.partitions.find(({ partitionId }) => partitionId === partition);
  return found?.leader ?? 1;
}

/** What becomes of so many appends, each a batch of its own, while nothing answers. */
async function appendedInSilence(through: Log, topic: TopicInfo, count: number): Promise<string[]> {
  for (const node of NODES) kafka.freeze(node);
  try {
    const begun = performance.now();
    const outcomes = await Promise.all(
      Array.from({ length: count }, (_, i) => through.append(topic, 0, record(`${i}`))),
    );
    expect(performance.now() - begun).toBeLessThan(WITHIN_MS);
    return outcomes.map(({ kind }) => kind);
  } finally {
    for (const node of NODES) kafka.thaw(node);
  }
}

const CLEAN = { lost: 0, repeated: 0, disordered: 0, kinds: ["appended"] };

// First, while no broker was killed: each partition is led by the one that Kafka prefers, which an election brings back.
test(
  "a group's coordinator that moves is followed: away from a broker that stops, and back to it",
  async () => {
    const topic = await newTopic(1);
    const group = "moves";
    const admin = witness.admin();
    await admin.connect();
    const commit = (offset: number) => log.groups.commit(group, topic.name, [{ offset, epoch: 0 }]);
    // Every broker hears of a topic by itself, and as a coordinator takes no offsets of one that it does not know.
    // These names are consecutive to Kafka's hash: one for each of the five partitions that hold groups.
    for (let i = 0; i < 5; i++) {
      const at = [{ offset: 0, epoch: 0 }];
      await until(
        async () => (await log.groups.commit(`knows-${i}`, topic.name, at)).kind === "done",
      );
    }
    const done = { kind: "done", value: undefined };
    expect(await commit(1)).toEqual(done);
    const before = await coordinatorOf(group);
    // In order: its partitions are led elsewhere before it ends.
    process.kill(kafka.pid(before), "SIGTERM");
    let offset = 1;
    while (isRunning(before)) expect(await commit(++offset)).toEqual(done);
    expect(offset).toBeGreaterThan(1);
    expect(await coordinatorOf(group)).not.toBe(before);
    expect(await committedOffsets(admin, group, topic.name)).toEqual([offset]);
    await kafka.startNode(before);
    expect(await commit(50)).toEqual(done);
    for (let back = false; !back; back = (await coordinatorOf(group)) === before) {
      await tool("org.apache.kafka.tools.LeaderElectionCommand", [
        ...["--election-type", "preferred", "--all-topic-partitions"],
      ]).catch(() => {});
    }
    // The broker that is asked first lives, and is the wrong one.
    expect(await commit(60)).toEqual(done);
    expect(await committedOffsets(admin, group, topic.name)).toEqual([60]);
    await admin.disconnect();
  },
  SLOW_MS,
);

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
      expect(audit(await readBack(witness, topic), publisher.outcomes)).toEqual(CLEAN);
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
      expect(audit(await readBack(witness, topic), publisher.outcomes)).toEqual(CLEAN);
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
      for (const node of NODES) kafka.freeze(node);
      const doubtful = send("0:2");
      const behind = doubtful.then(() => send("0:3"));
      expect(await doubtful).toBe("unknown");
      for (const node of NODES) kafka.thaw(node);
      await behind;
      for (let n = 4; (await send(`0:${n}`)) !== "appended"; ) n++;
      const { lost, repeated } = audit(await readBack(witness, topic), outcomes);
      expect({ lost, repeated }).toEqual({ lost: 0, repeated: 0 });
    },
    SLOW_MS,
  );

  test(
    "a fenced writer goes on when the leader and its coordinator are killed, each record once, and the older one stays fenced",
    async () => {
      const topic = await newTopic(1);
      const openWriter = async () => {
        const opening = await log.openFencedWriter(topic, record("0:opened"));
        if (opening.kind !== "done") throw new Error(opening.reason);
        return opening.value;
      };
      let writer = await openWriter();
      const acknowledged: string[] = [];
      let n = 0;
      const writeSome = async (count: number): Promise<void> => {
        for (const until = acknowledged.length + count; acknowledged.length < until; n++) {
          const written = await writer.write(record(`0:${n}`));
          expect(written.kind).not.toBe("fenced");
          if (written.kind === "appended") acknowledged.push(`0:${n}`);
        }
      };
      await writeSome(40);
      for (const node of NODES) {
        const older = writer;
        writer = await openWriter();
        await kafka.kill(node);
        await writeSome(20);
        await kafka.startNode(node);
        // It knows nothing of the newer one: a leader refuses it that learnt of that from the log.
        expect(await older.write(record(`0:stale-${node}`))).toEqual({ kind: "fenced" });
        older.close();
      }
      writer.close();
      const all = (await readBack(witness, topic)).map(({ value }) => value);
      const seen = all.filter((value) => value !== "0:opened");
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen.filter((value) => value?.includes("stale"))).toEqual([]);
      expect(seen.filter((value) => acknowledged.includes(value))).toEqual(acknowledged);
    },
    SLOW_MS,
  );

  test(
    "what waited for all its time behind an unanswered batch is not tried any more: it was not appended",
    async () => {
      const topic = await newTopic(1);
      const hasty = open(HASTY);
      expect((await hasty.append(topic, 0, record("first"))).kind).toBe("appended");
      const kinds = await appendedInSilence(hasty, topic, 10);
      expect(kinds).toEqual(["unknown", ...Array(9).fill("unavailable")]);
    },
    SLOW_MS,
  );

  test(
    "brokers that do not even say who leads hold up no append for longer than its time",
    async () => {
      const [known, topic] = [await newTopic(1), await newTopic(1)];
      const hasty = open(HASTY);
      expect((await hasty.append(known, 0, record("first"))).kind).toBe("appended");
      expect(await appendedInSilence(hasty, topic, 2)).toEqual(["unavailable", "unavailable"]);
    },
    SLOW_MS,
  );
});

/** Of a group, by Kafka's own tool. */
async function coordinatorOf(groupId: string): Promise<number> {
  const run = await tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", [
    ...["--describe", "--state", "--group", groupId],
  ]);
  return Number(/\((\d)\)/.exec(run)?.[1]);
}

async function tool(mainClass: string, args: readonly string[]): Promise<string> {
  const run = await kafka.java(mainClass, [
    ...["--bootstrap-server", kafka.brokers.join(",")],
    ...args,
  ]);
  if (run.code !== 0) throw new Error(run.stderr || run.stdout);
  return run.stdout;
}

function isRunning(node: number): boolean {
  try {
    return kafka.pid(node) > 0;
  } catch {
    return false;
  }
}
