/** What goes on beside the work: one at a time, one peer does not wait for another, and silence ends it. */
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { eachSecond } from "../../sequencer/each-second.ts";

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** Deeds that end when they are told to. */
function started(peer = "Kafka") {
  const deeds: PromiseWithResolvers<void>[] = [];
  const broken: string[] = [];
  const deed = (): Promise<void> => {
    const one = Promise.withResolvers<void>();
    deeds.push(one);
    return one.promise;
  };
  const stop = eachSecond(peer, deed, (why) => broken.push((why as Error).message));
  return { deeds, broken, stop };
}

test("the next comes a second after the one before has ended, however long that took", async () => {
  const { deeds, broken } = started();
  await jest.advanceTimersByTimeAsync(999);
  expect(deeds).toHaveLength(0);
  await jest.advanceTimersByTimeAsync(1);
  expect(deeds).toHaveLength(1);
  await jest.advanceTimersByTimeAsync(14_000);
  expect(deeds).toHaveLength(1);
  deeds[0]?.resolve();
  await jest.advanceTimersByTimeAsync(1000);
  expect(deeds).toHaveLength(2);
  await jest.advanceTimersByTimeAsync(14_000);
  expect(broken).toEqual([]);
});

test("a peer that is silent for 15 s has broken it, once, and is named; nothing comes after", async () => {
  const { deeds, broken } = started();
  await jest.advanceTimersByTimeAsync(1000 + 15_000);
  expect(broken).toEqual(["Kafka has not answered for 15000 ms"]);
  deeds[0]?.reject(new Error("late"));
  await jest.advanceTimersByTimeAsync(60_000);
  expect([deeds.length, broken.length]).toEqual([1, 1]);
});

test("a deed that fails has broken it, with its reason", async () => {
  const { deeds, broken } = started();
  await jest.advanceTimersByTimeAsync(1000);
  deeds[0]?.reject(new Error("no broker"));
  await jest.advanceTimersByTimeAsync(60_000);
  expect([deeds.length, broken]).toEqual([1, ["no broker"]]);
});

test("stopped, it begins nothing more, and what is under way breaks nothing", async () => {
  const [waiting, busy] = [started(), started()];
  waiting.stop();
  await jest.advanceTimersByTimeAsync(1000);
  busy.stop();
  await jest.advanceTimersByTimeAsync(60_000);
  busy.deeds[0]?.reject(new Error("closed"));
  await jest.advanceTimersByTimeAsync(60_000);
  expect([waiting.deeds.length, busy.deeds.length]).toEqual([0, 1]);
  expect([waiting.broken, busy.broken]).toEqual([[], []]);
});
