/** The schedule: it follows from its seed, and strikes every kind. */
import { expect, test } from "@jest/globals";
import { BAG, KINDS, missing } from "./kinds.ts";
import { scheduleOf } from "./schedule.ts";

test("the same seed gives the same schedule, another one another", () => {
  expect(scheduleOf(7)).toEqual(scheduleOf(7));
  expect(scheduleOf(7)).not.toEqual(scheduleOf(8));
});

test("every kind of fault comes before any comes more often than it is in the bag", () => {
  const first = scheduleOf(3).slice(0, BAG.length);
  expect(first.map(({ fault }) => fault).sort()).toEqual([...BAG].sort());
});

test("a run that struck too little is told what it misses, one that struck enough nothing", () => {
  const done = { cleaned: 1e6, events: 1e6 };
  const twice = new Map<string, number>(KINDS.map((kind) => [kind, 2]));
  expect(missing(15, twice, done)).toEqual([]);
  expect(missing(15, new Map([...twice, ["slot-dropped", 0]]), done)).toEqual([
    "slot-dropped: 0 of 1",
  ]);
  expect(missing(15, twice, { cleaned: 0, events: 1e6 })).toEqual([
    "events cleaned away: 0 of 7000",
  ]);
  expect(missing(1, new Map(), done)).toEqual(["faults: 0 of 3"]);
});
