/** The queue of the operator's work, in virtual time. */
import { expect, test } from "@jest/globals";
import { WorkQueue } from "../../operator/work-queue.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";

function bed(
  work: (key: string, count: number) => Promise<number | undefined> | number | undefined,
  concurrency = 2,
  spare = 0,
) {
  const clock = new VirtualClock(new Random(1));
  const counts = new Map<string, number>();
  const inFlight = new Set<string>();
  const begun: [key: string, ms: number][] = [];
  const failures: [key: string, retryMs: number][] = [];
  let most = 0;
  const queue = new WorkQueue({
    ...{ clock, random: () => 1, concurrency, spare, firstRetryMs: 100, longestRetryMs: 1000 },
    groupOf: (key) => key.split("/").slice(0, -1).join(),
    work: async (key) => {
      // Q2
      if (inFlight.has(key)) throw new Error(`${key} is in flight twice`);
      inFlight.add(key);
      most = Math.max(most, inFlight.size);
      begun.push([key, clock.now()]);
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      try {
        return await work(key, count);
      } finally {
        inFlight.delete(key);
      }
    },
    onFailure: (key, _error, retryMs) => failures.push([key, retryMs]),
  });
  const lasting = (ms: number): Promise<undefined> =>
    new Promise((resolve) => {
      clock.setTimer(ms, () => resolve(undefined));
    });
  return { clock, queue, begun, failures, lasting, most: () => most };
}

test("so many are done at once, the earliest and the latest in turn, and none waits for ever (Q4)", async () => {
  const { clock, queue, begun, lasting, most } = bed(() => lasting(10));
  for (const key of ["a", "b", "c", "d", "e", "f"]) queue.add(key);
  await clock.run(100);
  expect(begun).toEqual([
    ["a", 0],
    ["b", 0],
    ["f", 10],
    ["c", 10],
    ["e", 20],
    ["d", 20],
  ]);
  expect(most()).toBe(2);
});

test("single changes are not stuck behind a thousand that were made at once, nor those behind them", async () => {
  const { clock, queue, begun, lasting } = bed(() => lasting(160), 16);
  for (let i = 0; i < 1000; i++) queue.add(`many-${i}`);
  for (let i = 0; i < 50; i++) clock.setTimer(100 + i * 150, () => queue.add(`single-${i}`));
  await clock.run(60_000);
  const waits = begun
    .filter(([key]) => key.startsWith("single"))
    .map(([key, ms]) => ms - (100 + Number(key.slice(7)) * 150));
  expect(waits).toHaveLength(50);
  expect(Math.max(...waits)).toBeLessThanOrEqual(160);
  // Half of the turns are the earliest's: twice its time in a queue of its own.
  const earliest = begun.find(([key]) => key === "many-400")?.[1] as number;
  expect(earliest).toBeLessThanOrEqual((2 * 400 * 160) / 16);
  expect(begun).toHaveLength(1050);
});

test("a thousand changes of one group keep no other waiting, and all groups come to an end (Q5)", async () => {
  const { clock, queue, begun, lasting } = bed(() => lasting(160), 16);
  for (let i = 0; i < 1000; i++) clock.setTimer(i, () => queue.add(`many/${i}`));
  for (let i = 0; i < 50; i++) clock.setTimer(100 + i * 10, () => queue.add(`few/${i}`));
  for (let i = 0; i < 3; i++) clock.setTimer(100 + i * 300, () => queue.add(`other/${i}`));
  await clock.run(60_000);
  const waits = (group: string, everyMs: number): number[] =>
    begun
      .filter(([key]) => key.startsWith(group))
      .map(([key, ms]) => ms - (100 + Number(key.split("/")[1]) * everyMs));
  expect(Math.max(...waits("other", 300))).toBeLessThanOrEqual(160);
  // Two thirds of the turns while all three wait: as many as come.
  expect(Math.max(...waits("few", 10))).toBeLessThanOrEqual(1000);
  expect(begun).toHaveLength(1053);
});

test("a change that comes while all turns are taken has a spare one, which what waits has not (Q6)", async () => {
  const { clock, queue, begun, lasting, most } = bed(() => lasting(100), 2, 1);
  for (const key of ["a", "b", "c", "d"]) queue.add(key);
  queue.addAgain("e", 0);
  await clock.run(50);
  // Its turn is taken: it is done when that is over, and in no spare one.
  queue.add("a");
  expect(begun).toEqual([
    ["a", 0],
    ["b", 0],
    ["c", 0],
  ]);
  await clock.run(1000);
  expect(begun.slice(3)).toEqual([
    ["d", 100],
    ["a", 100],
    ["e", 200],
  ]);
  expect(most()).toBe(3);
});

test("when many of one group came and took the spare turns, one of another has a turn at once (Q6)", async () => {
  const { clock, queue, begun, lasting, most } = bed(() => lasting(100), 2, 1);
  for (const key of ["many/a", "many/b", "many/c", "many/d", "many/e"]) queue.add(key);
  await clock.run(50);
  queue.add("other/a");
  queue.add("other/b");
  queue.add("many/f");
  await clock.run(40);
  expect(begun).toEqual([
    ["many/a", 0],
    ["many/b", 0],
    ["many/c", 0],
    ["other/a", 50],
  ]);
  await clock.run(1000);
  expect(begun.slice(4).map(([key]) => key)).toHaveLength(4);
  expect(most()).toBe(4);
});

test("a change goes before what is looked at again, which has one turn in eight all the same (Q3)", async () => {
  const { clock, queue, begun, lasting } = bed(() => lasting(10), 1);
  for (let i = 0; i < 40; i++) queue.addAgain(`again-${i}`, 0);
  await clock.run(5);
  for (let i = 0; i < 40; i++) queue.add(`change-${i}`);
  await clock.run(170);
  const order = begun.slice(1, 17).map(([key]) => key.split("-")[0]);
  expect(order.filter((kind) => kind === "again")).toHaveLength(2);
  expect(order[0]).toBe("change");
});

test("a key that waits to be looked at again is done at once when it changes, and once", async () => {
  const { clock, queue, begun } = bed(() => undefined);
  queue.addAgain("a", 5000);
  queue.add("a");
  queue.addAgain("a", 10);
  await clock.run(10_000);
  expect(begun).toEqual([
    ["a", 0],
    ["a", 10],
  ]);
});

test("a key that is added many times is done once; added while it is in flight, once more (Q1, Q2)", async () => {
  const { clock, queue, begun, lasting } = bed(() => lasting(10));
  for (let i = 0; i < 5; i++) queue.add("a");
  clock.setTimer(3, () => queue.add("a"));
  clock.setTimer(4, () => queue.add("a"));
  await clock.run(100);
  expect(begun).toEqual([
    ["a", 0],
    ["a", 10],
  ]);
});

test("of two times at which a key is due the sooner counts", async () => {
  const { clock, queue, begun } = bed(() => undefined);
  queue.addAgain("a", 50);
  queue.addAgain("a", 20);
  queue.addAgain("a", 80);
  await clock.run(200);
  expect(begun).toEqual([["a", 20]]);
});

test("work says when it is due again", async () => {
  const { clock, queue, begun } = bed((_key, count) => (count < 3 ? 30 : undefined));
  queue.add("a");
  await clock.run(200);
  expect(begun.map(([, ms]) => ms)).toEqual([0, 30, 60]);
});

test("failures are tried again after pauses that double up to the longest, and anew after a success", async () => {
  const { clock, queue, failures } = bed((_key, count) => {
    if (count !== 6 && count < 8) throw new Error("no");
    return count === 6 ? 0 : undefined;
  });
  queue.add("a");
  await clock.run(10_000);
  expect(failures.map(([, ms]) => ms)).toEqual([100, 200, 400, 800, 1000, 100]);
});

test("a failing key keeps nobody else waiting", async () => {
  const { clock, queue, begun } = bed((key) => {
    if (key === "bad") throw new Error("no");
    return undefined;
  }, 1);
  queue.add("bad");
  queue.add("good");
  await clock.run(50);
  expect(begun).toEqual([
    ["bad", 0],
    ["good", 0],
  ]);
});

test("how late the work is shows while it is stuck", async () => {
  const { clock, queue, lasting } = bed(() => lasting(1000), 1);
  queue.add("a");
  queue.add("b");
  await clock.run(300);
  expect([queue.lateMs, queue.stuckMs, queue.busy]).toEqual([300, 300, 2]);
  await clock.run(1200);
  expect([queue.lateMs, queue.stuckMs, queue.busy]).toEqual([0, 200, 1]);
  await clock.run(5000);
  expect([queue.lateMs, queue.stuckMs, queue.busy]).toEqual([0, 0, 0]);
});

test("closed it drops what waits, and ends when what is in flight has ended", async () => {
  const { clock, queue, begun, lasting } = bed(() => lasting(10), 1);
  queue.add("a");
  queue.add("b");
  queue.addAgain("c", 5);
  let hasEnded = false;
  void queue.close().then(() => {
    hasEnded = true;
  });
  await clock.run(5);
  expect(hasEnded).toBe(false);
  queue.add("d");
  await clock.run(100);
  expect([hasEnded, begun.length]).toEqual([true, 1]);
});
