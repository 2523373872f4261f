/** Appends have so long, and no longer: on a broker that is frozen, which answers nothing and closes nothing. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, NewRecord, TopicInfo } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";

const SLOW_MS = 120_000;
/** One look-up gives a silent broker up after 5 s, and asks twice. */
const WITHIN_MS = 8000;

let directory: string;
let kafka: EmbeddedKafka;
let log: Log;
let made = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-deadline-"));
  kafka = await startKafka({ directory, nodes: 1 });
  const options = { brokers: kafka.brokers, clientId: "deadline-test" };
  log = openKafkaLog(options, { requestTimeoutMs: 3000, deliveryTimeoutMs: 3000, batchBytes: 1 });
}, SLOW_MS);

afterAll(async () => {
  await log?.close();
  await kafka?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

async function newTopic(): Promise<TopicInfo> {
  const name = `deadline.${++made}`;
  const outcome = await log.admin.createTopic({ name, partitions: 1, replicas: 1, settings: {} });
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value;
}

function record(value: string): NewRecord {
  return { key: null, value: Buffer.from(value), headers: [], timeMs: Date.now() };
}

/** What becomes of so many appends, each a batch of its own, while nothing answers. */
async function appendedInSilence(topic: TopicInfo, count: number): Promise<string[]> {
  kafka.freeze(1);
  try {
    const begun = performance.now();
    const outcomes = await Promise.all(
      Array.from({ length: count }, (_, i) => log.append(topic, 0, record(`${i}`))),
    );
    expect(performance.now() - begun).toBeLessThan(WITHIN_MS);
    return outcomes.map(({ kind }) => kind);
  } finally {
    kafka.thaw(1);
  }
}

test(
  "what waited for all its time behind an unanswered batch is not tried any more: it was not appended",
  async () => {
    const topic = await newTopic();
    expect((await log.append(topic, 0, record("first"))).kind).toBe("appended");
    const kinds = await appendedInSilence(topic, 10);
    expect(kinds).toEqual(["unknown", ...Array(9).fill("unavailable")]);
  },
  SLOW_MS,
);

test(
  "brokers that do not even say who leads hold up no append for longer than its time",
  async () => {
    const topic = await newTopic();
    expect(await appendedInSilence(topic, 2)).toEqual(["unavailable", "unavailable"]);
  },
  SLOW_MS,
);
