/** The schedule: it follows from its seed, and strikes every kind about equally often. */
import { expect, test } from "@jest/globals";
import { missing, QUICK, SLOW } from "./kinds.ts";
import { scheduleOf } from "./schedule.ts";

test("the same seed gives the same schedule, another one another", () => {
  expect(scheduleOf(7)).toEqual(scheduleOf(7));
  expect(scheduleOf(7)).not.toEqual(scheduleOf(8));
});

test("every kind of fault comes in the first acts, and again", () => {
  const acts = scheduleOf(3).slice(0, 10);
  const faults = acts.flatMap(({ quick, slow }) => [...quick, ...slow].map(({ fault }) => fault));
  for (const fault of [...QUICK, ...SLOW]) {
    expect([fault, faults.filter((one) => one === fault).length >= 2]).toEqual([fault, true]);
  }
});

test("a run that struck too little is told what it misses, one that struck enough nothing", () => {
  expect(missing(new Map([["server-kill", 19]]))).toContain("server-kill: 19 of 20");
  const names = missing(new Map()).map((line) => line.split(":")[0] as string);
  expect(missing(new Map(names.map((name) => [name, 20])))).toEqual([]);
});
