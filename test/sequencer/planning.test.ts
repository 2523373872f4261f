/** P8: which number each event gets, what is parked, and what a restart must find as it was. */
import { describe, expect, test } from "@jest/globals";
import type { FailClosed } from "../../sequencer/fail-closed.ts";
import { type Batch, Intake, type IntakeLimits } from "../../sequencer/intake.ts";
import type { Place } from "../../sequencer/lsn.ts";
import { Planner, type Stamp, type TopicVerdict } from "../../sequencer/plan.ts";

const NOTHING: Place = { commitId: 0n, index: -1 };
const ROOMY: IntakeLimits = { maxEvents: 1000, maxBytes: () => 1 << 20, maxWaiting: 3 };

/** Transactions as [commit id, topics of its events]; the id of an event is its commit's and its place. */
type Transaction = readonly [number, readonly string[]];

function feed(intake: Intake, transactions: readonly Transaction[]): void {
  for (const [id, topics] of transactions) {
    intake.begin({ id: BigInt(id), timeUs: 0n });
    for (const [i, topic] of topics.entries()) intake.insert(row(id * 100 + i, topic));
    intake.commit(BigInt(id + 5));
  }
}

function row(id: number, topic: string, payload: Buffer | null = null) {
  return { id: BigInt(id), topic, type: Buffer.alloc(0), key: null, payload, headers: null };
}

function batches(intake: Intake): Batch[] {
  const all: Batch[] = [];
  for (let batch = intake.take(); batch; batch = intake.take()) all.push(batch);
  return all;
}

function ids({ events }: Batch): number[] {
  return events.map(({ id }) => Number(id));
}

function onlyBatch(transactions: readonly Transaction[]): Batch {
  const intake = new Intake(ROOMY, NOTHING);
  feed(intake, transactions);
  return intake.take() as Batch;
}

const TOPICS: Readonly<Record<string, number>> = { a: 1, b: 2 };

function verdict(name: string): TopicVerdict {
  const id = TOPICS[name];
  return id === undefined
    ? { kind: "parked", reason: `no ${name}` }
    : { kind: "known", topic: { id, name, maxEventBytes: 100 } };
}

function planned(planner: Planner, batch: Batch, of = verdict) {
  const outcome = planner.plan(batch, of);
  if (outcome.kind !== "plan") throw new Error(outcome.reason);
  return outcome.plan;
}

function fresh(lastValues: Record<number, number> = {}, unsent: readonly Stamp[] = []): Planner {
  const values = Object.entries(lastValues).map(([id, value]) => [Number(id), value] as const);
  return new Planner({ lastValues: new Map(values), unsent });
}

describe("batches", () => {
  test("transactions that came together are one, and it may be confirmed to the end of the last", () => {
    const batch = onlyBatch([
      [10, ["a", "b"]],
      [20, ["a"]],
    ]);
    expect(ids(batch)).toEqual([1000, 1001, 2000]);
    expect(batch).toMatchObject({ place: { commitId: 20n, index: 0 }, confirms: 25n });
  });

  test("nothing is taken of a transaction that is not whole, unless it is large", () => {
    const intake = new Intake({ ...ROOMY, maxEvents: 2 }, NOTHING);
    feed(intake, [[10, ["a"]]]);
    intake.begin({ id: 20n, timeUs: 0n });
    expect(intake.take()).toBeUndefined();
    expect(intake.isIdle).toBe(false);
    for (let i = 0; i < 4; i++) intake.insert(row(i, "a"));
    const parts = batches(intake);
    expect(parts.map((batch) => batch.events.length)).toEqual([2, 2]);
    // The first ends within the large one: up to the end of the one before.
    expect(parts.map(({ confirms }) => confirms)).toEqual([15n, undefined]);
    expect(parts[1]?.place).toEqual({ commitId: 20n, index: 2 });
    intake.commit(29n);
    expect(batches(intake)).toMatchObject([{ confirms: 29n, place: { index: 3 } }]);
    expect(intake.isIdle).toBe(true);
  });

  test("a batch holds no more of a topic than Kafka takes, and a single event however large", () => {
    const intake = new Intake({ ...ROOMY, maxBytes: () => 500 }, NOTHING);
    intake.begin({ id: 10n, timeUs: 0n });
    for (const bytes of [200, 900, 200, 200])
      intake.insert(row(bytes, "a", Buffer.alloc(bytes - 120)));
    intake.commit(11n);
    expect(batches(intake).map(ids)).toEqual([[200], [900], [200, 200]]);
  });

  test("each topic's part of a batch is measured by itself, also where they take turns", () => {
    const intake = new Intake(
      { ...ROOMY, maxBytes: (name) => (name === "a" ? 500 : 700) },
      NOTHING,
    );
    intake.begin({ id: 10n, timeUs: 0n });
    for (const [i, topic] of ["a", "b", "a", "b", "b", "b", "a", "a", "a"].entries())
      intake.insert(row(i, topic, Buffer.alloc(80)));
    intake.commit(11n);
    expect(batches(intake).map(ids)).toEqual([[0, 1, 2, 3, 4], [5, 6, 7], [8]]);
  });

  test("it is full when enough wait, so that no more is read", () => {
    const intake = new Intake({ ...ROOMY, maxEvents: 1, maxWaiting: 2 }, NOTHING);
    feed(intake, [[10, ["a", "a"]]]);
    expect(intake.isFull).toBe(false);
    feed(intake, [[20, ["a"]]]);
    expect(intake.isFull).toBe(true);
    intake.take();
    expect(intake.isFull).toBe(false);
  });

  test("what Kafka has is passed over, also in the middle of a transaction", () => {
    const intake = new Intake(ROOMY, { commitId: 20n, index: 0 });
    feed(intake, [
      [10, ["a", "a"]],
      [20, ["a", "b", "a"]],
      [30, ["a"]],
    ]);
    const batch = intake.take() as Batch;
    expect(ids(batch)).toEqual([2001, 2002, 3000]);
    expect(batch.events.map(({ index }) => index)).toEqual([1, 2, 0]);
  });
});

describe("numbers", () => {
  test("each topic counts by itself from its last stored value, in the order of commits", () => {
    const plan = planned(
      fresh({ 1: 7 }),
      onlyBatch([
        [10, ["a", "b"]],
        [20, ["b", "a"]],
      ]),
    );
    const given = plan.events.map(({ topic, sequence }) => `${topic.name}${sequence}`);
    expect(given).toEqual(["a8", "b1", "b2", "a9"]);
    expect(plan.moves).toEqual([
      { topicId: 1, from: 7, to: 9 },
      { topicId: 2, from: 0, to: 2 },
    ]);
    expect(plan.toStamp).toEqual(plan.events);
  });

  test("a parked event gets none, so that the sequence stays dense", () => {
    const intake = new Intake(ROOMY, NOTHING);
    intake.begin({ id: 10n, timeUs: 0n });
    intake.insert(row(1, "a"));
    intake.insert(row(2, "nowhere"));
    intake.insert(row(3, "a", Buffer.alloc(101)));
    intake.insert(row(4, "a", Buffer.alloc(100)));
    intake.commit(15n);
    const plan = planned(fresh(), intake.take() as Batch);
    expect(plan.events.map(({ event, sequence }) => [event.id, sequence])).toEqual([
      [1n, 1],
      [4n, 2],
    ]);
    expect(plan.toPark.map(({ event, reason }) => [event.id, reason])).toEqual([
      [2n, "no nowhere"],
      [3n, "it has 101 bytes, and its Topic takes up to 100"],
    ]);
  });

  test.each(["null", "[]", '"a"', "1", '{"a": "1", "tl-sequence": "2"}', '{"ce_type": "b"}'])(
    "headers that were forced past the outbox's checks are parked: %s",
    (json) => {
      const intake = new Intake(ROOMY, NOTHING);
      intake.begin({ id: 10n, timeUs: 0n });
      intake.insert({ ...row(1, "a"), headers: Buffer.from(json) });
      intake.insert({ ...row(2, "a"), headers: Buffer.from('{"b": "\\"tl-a", "c": "ce_type"}') });
      intake.commit(15n);
      const plan = planned(fresh(), intake.take() as Batch);
      expect(plan.toPark.map(({ event, reason }) => [event.id, reason])).toEqual([
        [1n, "its headers are no JSON object, or have names that are Throughline's own"],
      ]);
      expect(plan.events.map(({ event, sequence }) => [event.id, sequence])).toEqual([[2n, 1]]);
    },
  );

  test("while a Topic has lost its data all waits, and nothing is counted", () => {
    const planner = fresh();
    const batch = onlyBatch([[10, ["a", "b"]]]);
    const waits = (name: string): TopicVerdict =>
      name === "b" ? { kind: "waits", reason: "lost" } : verdict(name);
    expect(planner.plan(batch, waits)).toEqual({ kind: "waits", reason: "lost" });
    expect(planned(planner, batch).events.map(({ sequence }) => sequence)).toEqual([1, 1]);
  });
});

describe("what was stamped and not sent", () => {
  const batch = onlyBatch([
    [10, ["a", "nowhere"]],
    [20, ["a"]],
    [30, ["a"]],
  ]);
  const stamps: readonly Stamp[] = [
    stamped(1000, 10n, 0, 5),
    stamped(1001, 10n, 1, undefined),
    stamped(2000, 20n, 0, 6),
  ];

  function stamped(id: number, commitId: bigint, index: number, sequence?: number): Stamp {
    const value = sequence === undefined ? undefined : { topicId: 1, sequence };
    return { eventId: BigInt(id), place: { commitId, index }, value };
  }

  test("keeps its numbers, is not stamped again, and new events count on", () => {
    const plan = planned(fresh({ 1: 6 }, [...stamps].reverse()), batch);
    expect(plan.events.map(({ event, sequence }) => [event.id, sequence])).toEqual([
      [1000n, 5],
      [2000n, 6],
      [3000n, 7],
    ]);
    expect(plan.toStamp.map(({ event }) => event.id)).toEqual([3000n]);
    expect(plan.toPark).toEqual([]);
    expect(plan.moves).toEqual([{ topicId: 1, from: 6, to: 7 }]);
  });

  test.each([
    ["another event", [stamped(9999, 10n, 0, 5), ...stamps.slice(1)]],
    ["another commit", [stamped(1000, 11n, 0, 5), ...stamps.slice(1)]],
    ["another place", [stamped(1000, 10n, 3, 5), ...stamps.slice(1)]],
    ["a missing stamp in between", [stamps[0] as Stamp, stamps[2] as Stamp]],
    [
      "another topic",
      [{ ...stamped(1000, 10n, 0), value: { topicId: 2, sequence: 5 } }, ...stamps.slice(1)],
    ],
  ])("%s stops the sequencer", (_what, unsent) => {
    let reason = "none";
    try {
      fresh({ 1: 6 }, unsent).plan(batch, verdict);
    } catch (error) {
      reason = (error as FailClosed).reason;
    }
    expect(reason).toBe("StampsChanged");
  });

  test("of a Topic that is gone waits for it: its number was given", () => {
    const gone = (name: string): TopicVerdict => ({ kind: "parked", reason: `no ${name}` });
    expect(fresh({ 1: 6 }, stamps).plan(batch, gone)).toMatchObject({ kind: "waits" });
  });
});
