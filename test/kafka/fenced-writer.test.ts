/** A fenced writer's epochs on a real Kafka: how long one is used, and who loses when two are opened at once. */
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import { Cluster } from "../../kafka/cluster.ts";
import { CoordinatorLinks } from "../../kafka/coordinator-links.ts";
import { openFencedWriter } from "../../kafka/fenced-writer.ts";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { TransactionCoordinator } from "../../kafka/transaction-coordinator.ts";
import { KafkaPart } from "../kafka-part.ts";
import { read } from "./read-batches.ts";

let part: KafkaPart;
let log: Log;
let cluster: Cluster;
let links: CoordinatorLinks;

beforeAll(async () => {
  part = await KafkaPart.open();
  log = part.openLog();
  cluster = new Cluster({ brokers: part.brokers, clientId: part.name });
  links = new CoordinatorLinks(cluster);
}, 240_000);

afterAll(async () => {
  links?.close();
  await cluster?.close();
  await log?.close();
  await part?.close();
}, 240_000);

async function newTopic(name: string): Promise<TopicInfo> {
  const asked = { name: part.own(name), partitions: 1, replicas: 1, settings: {} };
  const made = await log.admin.createTopic(asked);
  if (made.kind !== "done") throw new Error(made.reason);
  return made.value;
}

const record = (value: string) => ({
  ...{ key: null, value: Buffer.from(value), headers: [], timeMs: Date.now() },
});

/** All batches, from the offset on. */
async function fetchFrom(topic: TopicInfo, offset: number): Promise<Buffer> {
  const reader = log.openReader(topic, 0);
  const fetched = await reader.fetch({ offset, epoch: -1 }, 1 << 20, 5000);
  reader.close();
  if (fetched.kind !== "fetched") throw new Error(fetched.kind);
  return Buffer.from(fetched.records);
}

/** Of a batch that stands alone. */
const producerEpoch = (batch: Buffer): number => batch.readInt16BE(51);

test("an open writer writes by itself each so often, and takes a new epoch", async () => {
  const topic = await newTopic("renewed");
  const opened = await openFencedWriter(cluster, links.lane(), topic, record("opened"), 50);
  if (opened.kind !== "done") throw new Error(opened.reason);
  const epochs: number[] = [];
  for (let offset = 0; offset < 5; offset++)
    epochs.push(producerEpoch(await fetchFrom(topic, offset)));
  opened.value.close();
  expect(epochs).toEqual(epochs.toSorted((a, b) => a - b));
  expect(epochs[4]).toBeGreaterThan(epochs[0] as number);
  const [first, last] = [await fetchFrom(topic, 0), await fetchFrom(topic, 4)];
  const [before, after] = [read(first).seen[0], read(last).seen[0]];
  expect(after?.value).toBe("opened");
  expect(after?.timeMs).toBeGreaterThan(before?.timeMs as number);
});

test("of two that are opened at once the one with the older epoch is not opened, and nothing of it is in the log", async () => {
  const topic = await newTopic("at-once");
  const open = (who: string) => openFencedWriter(cluster, links.lane(), topic, record(who));
  const { initialise } = TransactionCoordinator.prototype;
  const spied = jest.spyOn(TransactionCoordinator.prototype, "initialise");
  let newer: ReturnType<typeof open> | undefined;
  spied.mockImplementationOnce(async function (this: TransactionCoordinator, held) {
    const given = await initialise.call(this, held);
    newer = open("newer");
    await newer;
    return given;
  });
  const older = await open("older");
  spied.mockRestore();
  const reason = `a newer writer of ${topic.name} was opened meanwhile`;
  expect(older).toEqual({ kind: "refused", error: "PRODUCER_FENCED", reason });
  const writer = await newer;
  if (writer?.kind !== "done") throw new Error("not opened");
  expect((await writer.value.write(record("1"))).kind).toBe("appended");
  writer.value.close();
  const { seen } = read(await fetchFrom(topic, 0));
  expect(seen.map(({ value }) => value)).toEqual(["newer", "1"]);
});
