/** P8: what one transaction puts into Kafka, what a next sequencer finds there, and who else is noticed. */
import { beforeEach, expect, test } from "@jest/globals";
import type { NewRecord, TopicInfo, TransactionalWriter } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import type { FailClosed } from "../../sequencer/fail-closed.ts";
import { KafkaSender } from "../../sequencer/kafka-sender.ts";
import type { Plan } from "../../sequencer/plan.ts";
import { ProgressTopic } from "../../sequencer/progress.ts";
import { committed, tailOf } from "../../sequencer/tail.ts";
import { checkTails } from "../../sequencer/topics.ts";

const NOW_MS = 1_800_000_000_000;

let log: MemoryLog;
let info: TopicInfo;
beforeEach(() => {
  log = new MemoryLog();
  info = log.createTopicNow("shop.orders", 1);
});

async function opened(): Promise<{ sender: KafkaSender; writer: TransactionalWriter }> {
  const made = await log.openTransactionalWriter("sequencer");
  if (made.kind !== "done") throw new Error(made.kind);
  const writer = made.value;
  const progressTopic = await ProgressTopic.open(log, "d", "shop/orders");
  const progress = await progressTopic.read(writer, NOW_MS);
  const topic = topicNow();
  const of = { log, writer, progressTopic, progress, topicOf: () => topic, now: () => NOW_MS };
  return { writer, sender: new KafkaSender({ ...of, took: () => {} }) };
}

function topicNow() {
  return { name: "orders", kafka: info, maxEventBytes: 1000, isReady: true };
}

/** Of a commit with events numbered from here on. */
function plan(commitId: bigint, from: number, count = 1): Plan {
  const commit = { id: commitId, timeUs: 5_000_000n };
  const topic = { id: 1, name: "orders", maxEventBytes: 1000 };
  const events = Array.from({ length: count }, (_, index) => ({
    ...{ topic, sequence: from + index },
    event: {
      ...{ id: BigInt(from + index), topic: "orders", type: Buffer.from("made"), commit, index },
      ...{ key: null, payload: Buffer.from("p"), headers: Buffer.from('{"a": "b"}') },
    },
  }));
  const place = { commitId, index: count - 1 };
  const batch = { events: events.map(({ event }) => event), place, confirms: commitId + 5n };
  return { batch, events, toStamp: events, toPark: [], moves: [] };
}

const DONE = Promise.resolve();
const foreign: NewRecord = { key: null, value: Buffer.from("x"), headers: [], timeMs: NOW_MS };

test("the next sequencer finds the progress that was committed with the events", async () => {
  const { sender } = await opened();
  await sender.begin({ systemId: "7", timeline: 1 });
  await sender.send(plan(100n, 1, 3), DONE);
  await sender.send(plan(200n, 4), DONE);
  const next = await opened();
  expect(next.sender.progress).toEqual({
    ...{ systemId: "7", timeline: 1, sent: { commitId: 200n, index: 0 }, confirmed: 205n },
    sequences: new Map([["orders", 4]]),
  });
  expect((await tailOf(log, info)).last?.sequence).toBe(4);
  expect((await committed(log, info, 0, 6)).map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4]);
  // The older one is fenced.
  await expect(sender.send(plan(300n, 5), DONE)).rejects.toThrow(/taken over/);
});

test("nothing is committed when the stamps are not", async () => {
  const { sender } = await opened();
  await sender.begin({ systemId: "7", timeline: 1 });
  const failing = Promise.reject(new Error("no stamps"));
  await expect(sender.send(plan(100n, 1), failing)).rejects.toThrow("no stamps");
  expect((await tailOf(log, info)).last).toBeUndefined();
  expect((await opened()).sender.sent).toEqual({ commitId: 0n, index: -1 });
});

test("a foreign event is found before anything is committed after it, and stays found", async () => {
  const { sender } = await opened();
  await sender.begin({ systemId: "7", timeline: 1 });
  await sender.send(plan(100n, 1), DONE);
  log.appendAbortedNow("shop.orders", 0, [foreign]);
  // What was aborted is nobody's event.
  await sender.send(plan(200n, 2), DONE);
  log.appendNow("shop.orders", 0, [foreign]);
  const error = await sender.send(plan(300n, 3), DONE).catch((thrown: FailClosed) => thrown);
  expect(error).toMatchObject({ reason: "ForeignWriter" });
  expect((await tailOf(log, info)).last).toMatchObject({ sequence: undefined });
  expect((await opened()).sender.progress?.sequences).toEqual(new Map([["orders", 2]]));
});

test.each([0, 2])(
  "a foreign event is found before our first one, behind %i of before",
  async (sent) => {
    const { sender: before } = await opened();
    await before.begin({ systemId: "7", timeline: 1 });
    if (sent > 0) await before.send(plan(100n, 1, sent), DONE);
    const { sender } = await opened();
    await checkTails(log, [topicNow()], sender);
    log.appendNow("shop.orders", 0, [foreign]);
    const error = await sender
      .send(plan(200n, sent + 1), DONE)
      .catch((thrown: FailClosed) => thrown);
    expect(error).toMatchObject({ reason: "ForeignWriter" });
  },
);

test("nothing is wrong where our first event follows what was there", async () => {
  const { sender: before } = await opened();
  await before.begin({ systemId: "7", timeline: 1 });
  for (let commit = 1; commit < 4; commit++) {
    const { sender } = await opened();
    await checkTails(log, [topicNow()], sender);
    log.appendAbortedNow("shop.orders", 0, [foreign]);
    await sender.send(plan(BigInt(commit), commit), DONE);
  }
  expect((await tailOf(log, info)).last?.sequence).toBe(3);
});

test("a topic that retention has emptied has no last event", async () => {
  const { sender } = await opened();
  await sender.begin({ systemId: "7", timeline: 1 });
  await sender.send(plan(100n, 1, 40), DONE);
  log.retainFrom("shop.orders", 0, 41);
  expect((await tailOf(log, info)).last).toBeUndefined();
});

test("a progress topic that keeps no keys is refused", async () => {
  log.createTopicNow("_throughline.d.progress", 1);
  const error = await opened().catch((thrown: FailClosed) => thrown);
  expect(error).toMatchObject({ reason: "ProgressLost" });
});
