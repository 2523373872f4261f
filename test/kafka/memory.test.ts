/** What the log in memory has beyond the port (test/kafka/contract.test.ts): deeds of tests, and time. */
import { expect, test } from "@jest/globals";
import type { FetchOutcome, NewRecord } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { recordsOf } from "../../kafka/records.ts";

function records(...values: string[]): NewRecord[] {
  return values.map((value) => ({ key: null, value: Buffer.from(value), headers: [], timeMs: 1 }));
}

function values(outcome: FetchOutcome, from: number): (string | undefined)[] {
  if (outcome.kind !== "fetched") throw new Error(JSON.stringify(outcome));
  return recordsOf(outcome, from).records.map(({ value }) => value?.toString());
}

const START = { offset: 0, epoch: -1 };

test("no answer comes before the scheduler delivers it", async () => {
  const held: (() => void)[] = [];
  const log = new MemoryLog({ schedule: (deliver) => held.push(deliver) });
  const topic = log.createTopicNow("t", 1);
  expect(log.appendNow("t", 0, records("a", "b"))).toBe(0);
  let answer: FetchOutcome | undefined;
  const fetching = log
    .openReader(topic, 0)
    .fetch(START, 1000, 0)
    .then((outcome) => {
      answer = outcome;
    });
  await Promise.resolve();
  expect(answer).toBeUndefined();
  for (const deliver of held) deliver();
  await fetching;
  expect(values(answer as FetchOutcome, 0)).toEqual(["a", "b"]);
});

test("a long poll ends by the timer given, empty", async () => {
  const timers: { ms: number; fire: () => void }[] = [];
  const log = new MemoryLog({
    setTimer: (ms, fire) => {
      timers.push({ ms, fire });
      return () => {};
    },
  });
  const topic = log.createTopicNow("t", 1);
  const fetching = log.openReader(topic, 0).fetch(START, 1000, 777);
  expect(timers.map(({ ms }) => ms)).toEqual([777]);
  timers[0]?.fire();
  expect(values(await fetching, 0)).toEqual([]);
});

test("an aborted transaction takes its offsets and one for the marker", async () => {
  const log = new MemoryLog();
  const topic = log.createTopicNow("t", 1);
  log.appendNow("t", 0, records("a"));
  expect(log.appendAbortedNow("t", 0, records("x", "y"))).toBe(1);
  expect(log.appendNow("t", 0, records("b"))).toBe(4);
  const outcome = await log.openReader(topic, 0).fetch(START, 1e6, 0);
  expect(values(outcome, 0)).toEqual(["a", "b"]);
});

test("a cut log begins an epoch; positions of the old one are truncated where it was cut", async () => {
  const log = new MemoryLog();
  const topic = log.createTopicNow("t", 1);
  for (const value of ["a", "b", "c"]) log.appendNow("t", 0, records(value));
  log.truncateTo("t", 0, 1);
  log.appendNow("t", 0, records("B", "C", "D"));
  const reader = log.openReader(topic, 0);
  expect(await reader.fetch({ offset: 3, epoch: 0 }, 1e6, 0)).toEqual({
    kind: "loss",
    loss: { kind: "truncated", epoch: 0, endOffset: 1 },
  });
  expect(values(await reader.fetch({ offset: 1, epoch: 0 }, 1e6, 0), 1)).toEqual(["B", "C", "D"]);
  expect(values(await reader.fetch({ offset: 3, epoch: 1 }, 1e6, 0), 3)).toEqual(["D"]);
});

test("told to fail, the next append or fetch fails, once", async () => {
  const log = new MemoryLog();
  const topic = log.createTopicNow("t", 1);
  const [record] = records("a") as [NewRecord];
  log.failNextAppend({ kind: "unknown", reason: "told" });
  log.failNextFetch({ kind: "unavailable", reason: "told" });
  const reader = log.openReader(topic, 0);
  expect(await log.append(topic, 0, record)).toEqual({ kind: "unknown", reason: "told" });
  expect((await log.append(topic, 0, record)).kind).toBe("appended");
  expect((await reader.fetch(START, 1e6, 0)).kind).toBe("unavailable");
  expect((await reader.fetch(START, 1e6, 0)).kind).toBe("fetched");
});
