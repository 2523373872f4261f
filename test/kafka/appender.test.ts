/**
 * What appends say (P7), and where other clients find them (P1). The log is read back by kafkajs, so that no
 * proof rests on our own reader. Appends while brokers fail are in outages.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Kafka } from "kafkajs";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { AppendOutcome, Log, TopicInfo } from "../../kafka/log.ts";
import { partitionOf } from "../../kafka/partitioner.ts";
import { KafkaPart } from "../kafka-part.ts";
import { audit, readBack, record } from "./append-audit.ts";

const SLOW_MS = 300_000;

let kafka: KafkaPart;
let log: Log;
let witness: Kafka;
let made = 0;

beforeAll(async () => {
  kafka = await KafkaPart.open();
  log = kafka.openLog();
  witness = kafka.kafkajs();
}, SLOW_MS);

afterAll(async () => {
  await log?.close();
  await kafka?.close();
}, SLOW_MS);

async function newTopic(partitions: number, settings = {}): Promise<TopicInfo> {
  const name = kafka.own(`${++made}`);
  const outcome = await log.admin.createTopic({ name, partitions, replicas: 1, settings });
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value;
}

describe("what is not in the log is said so", () => {
  test("Kafka out of reach: unavailable, with the address", async () => {
    const nowhere = openKafkaLog(
      { brokers: ["127.0.0.1:1"], clientId: "nowhere" },
      { deliveryTimeoutMs: 300 },
    );
    const topic = { name: "t", id: "0".repeat(32), partitions: 1, replicas: 1 };
    const outcome = await nowhere.append(topic, 0, record("x"));
    expect(outcome).toMatchObject({ kind: "unavailable" });
    expect("reason" in outcome && outcome.reason).toContain("127.0.0.1:1");
    await nowhere.close();
  });

  test("P6: past the buffer's bound appends are refused at once, and taken again when it empties", async () => {
    const topic = await newTopic(1);
    const small = kafka.openLog({ bufferBytes: 10_000 });
    const [first, second] = await Promise.all([
      small.append(topic, 0, record("x".repeat(9000))),
      small.append(topic, 0, record("y".repeat(9000))),
    ]);
    expect(first?.kind).toBe("appended");
    expect(second).toMatchObject({ kind: "unavailable" });
    expect(second && "reason" in second && second.reason).toMatch(/^publish buffer full/);
    expect((await small.append(topic, 0, record("z".repeat(9000)))).kind).toBe("appended");
    await small.close();
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
    const seen = await readBack(witness, topic);
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
    expect((await readBack(witness, topic)).map(({ value }) => value)).toEqual([
      "0:0",
      "0:1",
      "0:3",
      "0:4",
    ]);
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
      const seen = await readBack(witness, topic);
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
    const [seen] = await readBack(witness, topic);
    expect(seen).toMatchObject({ key, value: "v", partition: partitionOf(key, 5) });
    expect(seen?.headers).toEqual({
      ce_type: [Buffer.from("a"), Buffer.from("b")],
      ü: Buffer.from([0, 1, 255]),
    });
  }, 60_000);
});
