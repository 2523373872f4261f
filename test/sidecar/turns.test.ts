/** Who may work when: one at a time, in the order of asking. */
import { expect, test } from "@jest/globals";
import { Turns } from "../../sidecar/dispatch/turns.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";

test("one per turn, in the order of asking; at once when nobody has had this turn", async () => {
  const begins: (() => void)[] = [];
  const clock = new VirtualClock(new Random(1));
  const turns = new Turns(clock, 1000, (begin) => begins.push(begin));
  const had: string[] = [];
  const all = ["a", "b", "c"].map((name) => turns.take().then(() => had.push(name)));
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
  await settled();
  expect(had).toEqual(["a"]);
  for (const wanted of ["a b", "a b c", "a b c"]) {
    begins.shift()?.();
    await settled();
    expect(had.join(" ")).toBe(wanted);
  }
  await Promise.all(all);
  expect(begins).toHaveLength(0);
  await turns.take();
});

test("while events reach live clients, there is a pause after each turn", async () => {
  const clock = new VirtualClock(new Random(1));
  const turns = new Turns(clock, 1000, setImmediate);
  turns.live(100);
  await turns.take();
  let began = -1;
  void turns.take().then(() => {
    began = clock.now();
  });
  expect(await clock.run(1, () => began >= 0)).toBe(false);
  expect(await clock.run(1000, () => began >= 0)).toBe(true);
  expect(began).toBe(10);
  await clock.run(1000);
  await turns.take();
  await turns.take();
  expect(clock.now()).toBe(1000);
});

test("live bytes buy turns without a pause: a catch-up is never held below twice the live rate", async () => {
  const clock = new VirtualClock(new Random(1));
  const turns = new Turns(clock, 1000, (begin) => void clock.setTimer(0, begin));
  turns.live(1000);
  const began: number[] = [];
  for (let i = 0; i < 5; i++) void turns.take().then(() => began.push(clock.now()));
  await clock.run(1000, () => began.length === 5);
  expect(began).toEqual([0, 0, 0, 10, 20]);
});
