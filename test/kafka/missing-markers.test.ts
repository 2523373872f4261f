/**
 * Transactions that Kafka has ended and not told all partitions of, as it does where one has no leader just then
 * (kafka/missing-markers.ts). They are made here by not naming the partitions to the coordinator, which a broker
 * takes that does not verify them.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Kafka, logLevel } from "kafkajs";
import { Cluster, type Leader } from "../../kafka/cluster.ts";
import { CoordinatorLinks } from "../../kafka/coordinator-links.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, NewRecord, TopicInfo, TransactionPart } from "../../kafka/log.ts";
import { produceInTransaction } from "../../kafka/produce.ts";
import { encodeBatch } from "../../kafka/record-batch.ts";
import {
  ANEW,
  type TransactionalIdentity,
  TransactionCoordinator,
} from "../../kafka/transaction-coordinator.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { until } from "../story/waits.ts";
import { readCommitted } from "./witness.ts";

const SLOW_MS = 120_000;

let directory: string;
let kafka: EmbeddedKafka;
let log: Log;
let cluster: Cluster;
let links: CoordinatorLinks;
let made = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-markers-"));
  const settings = { "transaction.partition.verification.enable": "false" };
  kafka = await startKafka({ directory, settings });
  const options = { brokers: kafka.brokers, clientId: "missing-markers" };
  log = openKafkaLog(options);
  cluster = new Cluster(options);
  links = new CoordinatorLinks(cluster);
}, SLOW_MS);

afterAll(async () => {
  links?.close();
  await cluster?.close();
  await log?.close();
  await kafka?.stop("SIGKILL");
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

async function newTopic(partitions: number): Promise<TopicInfo> {
  const asked = { name: `markers.${++made}`, partitions, replicas: 1, settings: {} };
  const outcome = await log.admin.createTopic(asked);
  if (outcome.kind !== "done") throw new Error(JSON.stringify(outcome));
  return outcome.value;
}

function record(value: string): NewRecord {
  return { key: null, value: Buffer.from(value), headers: [], timeMs: Date.now() };
}

function part(topic: TopicInfo, partition: number, value: string): TransactionPart {
  return { topic, partition, records: [record(value)] };
}

/** A record that its partition takes for one of an open transaction, of which the coordinator does not know. */
async function produceUntold(
  id: string,
  { producerId, producerEpoch }: TransactionalIdentity,
  topic: TopicInfo,
  partition: number,
  value: string,
  baseSequence = 0,
): Promise<void> {
  const { broker } = (await cluster.leader(topic.name, partition, true)) as Leader;
  const identity = { producerId, producerEpoch, baseSequence, transactional: true };
  const batch = encodeBatch([record(value)], identity);
  const produce = produceInTransaction(await cluster.control(broker));
  // Who was just named as the leader takes it a moment later, and once.
  await until(async () => {
    const [answer] = await produce([{ topic, partition, batch }], 5000, id);
    return answer?.error === 0;
  });
}

/** Ends a transaction, if it does, of which partition 0 of `numbers` and partitions 1 and 2 of `events` are not told. */
async function endUntold(
  id: string,
  numbers: TopicInfo,
  events: TopicInfo,
  how: "commit" | "abort" | "nothing",
) {
  const coordinator = new TransactionCoordinator(cluster, id, links.lane());
  const identity = await coordinator.initialise(ANEW);
  await coordinator.addPartitions(identity, [{ name: events.name, partitions: [0] }]);
  await produceUntold(id, identity, numbers, 0, "number");
  for (const partition of [1, 2]) await produceUntold(id, identity, events, partition, "untold");
  if (how !== "nothing") await coordinator.end(identity, how);
}

/** By partition. */
async function values(topic: TopicInfo): Promise<string[][]> {
  const witness = new Kafka({ brokers: kafka.brokers, logLevel: logLevel.NOTHING });
  const seen = await readCommitted(log, witness, topic);
  const of = (partition: number) => seen.filter((one) => one.partition === partition);
  return Array.from({ length: topic.partitions }, (_, p) => of(p).map(({ value }) => value));
}

const AFTER_ANOTHER = ", also after one that did not look";

test.each([
  ["commit", "", ["untold", "next"], ["number", "next"]],
  ["abort", "", ["next"], ["next"]],
  ["nothing", ", so by an abort", ["next"], ["next"]],
  ["commit", AFTER_ANOTHER, ["untold", "next"], ["number", "next"]],
] as const)(
  "who opens the id next ends it everywhere as it was ended, by %s%s, before it writes itself",
  async (how, between, untold, number) => {
    const [numbers, events] = [await newTopic(1), await newTopic(3)];
    const id = `id-${made}`;
    await endUntold(id, numbers, events, how);
    if (between === AFTER_ANOTHER)
      expect((await log.openTransactionalWriter(id)).kind).toBe("done");
    for (const [topic, partition] of [[numbers, 0] as const, [events, 1] as const])
      expect(await log.offset(topic, partition, "latest")).toMatchObject({ offset: 0 });
    const opened = await log.openTransactionalWriter(id, {
      always: { topic: numbers, partition: 0 },
      others: [events],
    });
    if (opened.kind !== "done") throw new Error(opened.reason);
    // The next one is aborted: it decides nothing of the one before.
    const refused = await opened.value.write([
      part(numbers, 0, "refused"),
      part(events, 1, "x".repeat(1_100_000)),
    ]);
    expect(refused.kind).toBe("refused");
    const wrote = await opened.value.write([part(numbers, 0, "next"), part(events, 1, "next")]);
    expect(wrote.kind).toBe("committed");
    expect(await values(numbers)).toEqual([number]);
    expect(await values(events)).toEqual([[], untold, untold.slice(0, -1)]);
  },
  SLOW_MS,
);

test(
  "a writer whose broker came back begins nothing over it, and who opens the id anew commits it",
  async () => {
    const [numbers, events] = [await newTopic(1), await newTopic(3)];
    const id = "id-restart";
    const targets = { always: { topic: numbers, partition: 0 }, others: [events] };
    const older = await log.openTransactionalWriter(id, targets);
    if (older.kind !== "done") throw new Error(older.reason);
    const first = await older.value.write([part(numbers, 0, "1"), part(events, 1, "first")]);
    expect(first.kind).toBe("committed");
    // As if the broker had ended before it told them of what comes after it.
    const identity = await identityOf(id);
    await produceUntold(id, identity, numbers, 0, "2", 1);
    await produceUntold(id, identity, events, 1, "second", 1);
    await kafka.kill(1);
    await kafka.startNode(1);
    let outcome = await older.value.write([part(numbers, 0, "3"), part(events, 2, "third")]);
    expect(outcome).toMatchObject({
      kind: "unavailable",
      reason: expect.stringContaining("markers of the transaction before are missing"),
    });
    const newer = await log.openTransactionalWriter(id, targets);
    if (newer.kind !== "done") throw new Error(newer.reason);
    outcome = await newer.value.write([part(numbers, 0, "3"), part(events, 2, "third")]);
    expect(outcome.kind).toBe("committed");
    expect(await values(numbers)).toEqual([["1", "2", "3"]]);
    expect(await values(events)).toEqual([[], ["first", "second"], ["third"]]);
  },
  SLOW_MS,
);

/** Under which its writer writes. */
async function identityOf(id: string): Promise<TransactionalIdentity> {
  const coordinator = new TransactionCoordinator(cluster, id, links.lane());
  const { producerId } = await coordinator.state();
  return { producerId, producerEpoch: 0 };
}
