/** P6: the plan for a client that wants a catch-up dispatcher, case by case. */
import { expect, test } from "@jest/globals";
import { PLANNING_PACE, planCatchUp, type Sweep } from "../../sidecar/dispatch/plan-catch-up.ts";

const NOW_MS = 100_000;
const MIB = 1 << 20;
/** An event is 1 KiB: a thousand are about 1 MiB. */
const EVENT_BYTES = 1024;
const OLD = { sinceMs: NOW_MS - 5000, rate: 10 * MIB };
const YOUNG = { sinceMs: NOW_MS - 500, rate: undefined };

function sweep(
  from: number,
  { sinceMs, rate, full = false }: { sinceMs: number; rate: number | undefined; full?: boolean },
): Sweep {
  const next = from + 1024;
  return {
    tail: { from, next, bytes: (next - from) * EVENT_BYTES },
    ...{ sinceMs, progress: () => rate, atFullSpeed: () => full },
  };
}

/** The plan for a client at this position that has waited so long. */
function planned(
  next: number,
  running: readonly Sweep[],
  { waitedMs = 0, alone = false, isHerd = false } = {},
) {
  const place = { at: "waiting", sinceMs: NOW_MS - waitedMs } as const;
  const main = { from: 1_000_000, next: 1_000_000, bytes: 0 };
  const situation = {
    ...{ nowMs: NOW_MS, main, shareDistanceBytes: 64 * MIB, isHerd, pace: PLANNING_PACE },
  };
  return planCatchUp({ next, alone, place }, running, situation);
}

const START = { act: "start", insteadOf: [] };
const WAIT = { act: "wait" };

test("nothing runs: it starts one", () => {
  expect(planned(5000, [])).toEqual(START);
});

test("a window holds its position, first and last included: it joins", () => {
  const one = sweep(5000, OLD);
  for (const next of [5000, 5500, 6024]) {
    expect(planned(next, [sweep(0, YOUNG), one])).toEqual({ act: "join", sweep: one });
  }
});

test("it disagreed with a shared run: it starts one, whatever runs", () => {
  expect(planned(5500, [sweep(5000, OLD)], { alone: true })).toEqual(START);
  expect(planned(4000, [sweep(5000, YOUNG)], { alone: true })).toEqual(START);
});

test("one behind it will be there in two seconds: it waits; later than that: it starts one", () => {
  expect(planned(1024 + 19 * 1024, [sweep(0, OLD)])).toEqual(WAIT);
  expect(planned(1024 + 21 * 1024, [sweep(0, OLD)])).toEqual(START);
});

test("one behind it stands still: it starts one", () => {
  expect(planned(1025, [sweep(0, { ...OLD, rate: 0 })])).toEqual(START);
});

test("one behind it is young: it waits, but not for ever for one young one after another", () => {
  expect(planned(30_000, [sweep(0, YOUNG)])).toEqual(WAIT);
  expect(planned(30_000, [sweep(0, YOUNG)], { waitedMs: 2000 })).toEqual(START);
});

test("in a herd it waits two seconds for one behind it, however slow: the herd makes all slow", () => {
  const slow = sweep(0, { ...OLD, rate: 0 });
  expect(planned(30_000, [slow], { isHerd: true, waitedMs: 1999 })).toEqual(WAIT);
  expect(planned(30_000, [slow], { isHerd: true, waitedMs: 2000 })).toEqual(START);
});

test("one behind it goes as fast as the server can: it waits, however long it takes", () => {
  const slow = { sinceMs: 0, rate: 1000, full: true };
  expect(planned(30_000, [sweep(0, slow)], { waitedMs: 60_000 })).toEqual(WAIT);
});

test("one further behind than the share distance counts for nothing", () => {
  const full = { sinceMs: 0, rate: 1000 * MIB, full: true };
  expect(planned(1024 + 65 * 1024, [sweep(0, full)])).toEqual(START);
});

test("it must start behind young ones: they end for it; those that are older, or far ahead, go on", () => {
  const young = sweep(50_000, YOUNG);
  const running = [young, sweep(60_000, OLD), sweep(200_000, YOUNG)];
  expect(planned(10_000, running)).toEqual({ act: "start", insteadOf: [young] });
});

test("one is worth waiting for: none ends", () => {
  expect(planned(10_000, [sweep(0, YOUNG), sweep(20_000, YOUNG)])).toEqual(WAIT);
});
