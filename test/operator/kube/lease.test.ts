/** Leader election in virtual time: one acts, a frozen one knows when it thaws (L1 to L3). */
import { expect, test } from "@jest/globals";
import { Lease, type LeaseApi, type LeaseRecord } from "../../../operator/kube/lease.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";

const TIMES = { leaseMs: 15_000, renewMs: 4000, marginMs: 5000 };

class MemoryLease {
  record: LeaseRecord | undefined;
  #version = 0;

  /** One way to it. `fault`: nothing gets through, or writes get through and their answers do not. */
  api(): LeaseApi & { fault: "none" | "away" | "answers-lost" } {
    const way: ReturnType<MemoryLease["api"]> = {
      fault: "none",
      read: async () => {
        if (way.fault !== "none") return { kind: "failed", reason: "no answer" };
        return this.record ? { kind: "lease", record: this.record } : { kind: "none" };
      },
      write: async (holder, durationSeconds, transitions, over) => {
        if (way.fault === "away") return { kind: "failed", reason: "no answer" };
        if (over?.version !== this.record?.version) return { kind: "conflict" };
        this.record = { holder, durationSeconds, transitions, version: String(++this.#version) };
        if (way.fault === "answers-lost") return { kind: "failed", reason: "no answer" };
        return { kind: "written", record: this.record };
      },
    };
    return way;
  }
}

function bed() {
  const clock = new VirtualClock(new Random(1));
  const store = new MemoryLease();
  const operator = (holder: string) => {
    const api = store.api();
    /** While frozen its timers wait, as a stopped process's do. */
    let thaw: (() => void) | undefined;
    let waiting: (() => void)[] = [];
    const setTimer = (ms: number, fire: () => void): (() => void) =>
      clock.setTimer(ms, () => (thaw ? void waiting.push(fire) : fire()));
    const lost: string[] = [];
    const lease = new Lease({
      ...{ ...TIMES, api, holder, random: () => 1 },
      clock: { now: () => clock.now(), setTimer },
      onTrouble: () => {},
    });
    void lease.lost.then(() => lost.push(holder));
    lease.start();
    return {
      ...{ api, lease, lost },
      freeze: () => {
        thaw = () => {
          thaw = undefined;
          const late = waiting;
          waiting = [];
          for (const fire of late) fire();
        };
      },
      thaw: () => thaw?.(),
    };
  };
  return { clock, store, operator };
}

test("the first is leader at once, the second stands by, also for long", async () => {
  const { clock, store, operator } = bed();
  const a = operator("a");
  await clock.run(10);
  const b = operator("b");
  await clock.run(600_000);
  expect([a.lease.mayAct, b.lease.mayAct]).toEqual([true, false]);
  expect(store.record).toMatchObject({ holder: "a", transitions: 0, durationSeconds: 15 });
});

test("who ends in order gives it back: the other has it within a renewal's time", async () => {
  const { clock, store, operator } = bed();
  const a = operator("a");
  await clock.run(10);
  const b = operator("b");
  await clock.run(20);
  await a.lease.close();
  await clock.run(20 + TIMES.renewMs + 10);
  expect([a.lease.mayAct, b.lease.mayAct]).toEqual([false, true]);
  expect(store.record).toMatchObject({ holder: "b", transitions: 1 });
});

test("never two at once: the frozen one is none before the next one begins, and learns it when it thaws (L1 to L3)", async () => {
  const { clock, operator } = bed();
  const a = operator("a");
  await clock.run(10);
  const b = operator("b");
  await clock.run(1000);
  a.freeze();
  let bothMs = 0;
  let tookMs = 0;
  await clock.run(100_000, () => {
    if (a.lease.mayAct && b.lease.mayAct) bothMs = clock.now();
    if (b.lease.mayAct && tookMs === 0) tookMs = clock.now();
    return false;
  });
  expect([bothMs, a.lease.mayAct, b.lease.mayAct]).toEqual([0, false, true]);
  expect(tookMs).toBeLessThan(1000 + TIMES.leaseMs + 3 * TIMES.renewMs);
  a.thaw();
  await clock.run(100_100);
  expect([a.lost, b.lost, a.lease.mayAct]).toEqual([["a"], [], false]);
});

test("who cannot reach the API server stops acting before its lease is over, and is lost", async () => {
  const { clock, operator } = bed();
  const a = operator("a");
  await clock.run(10);
  a.api.fault = "away";
  await clock.run(TIMES.leaseMs - TIMES.marginMs + 1);
  expect(a.lease.mayAct).toBe(false);
  await clock.run(30_000);
  expect(a.lost).toEqual(["a"]);
});

test("a short outage, and answers that are lost, cost nothing", async () => {
  const { clock, operator } = bed();
  const a = operator("a");
  await clock.run(10);
  for (const fault of ["away", "answers-lost"] as const) {
    a.api.fault = fault;
    await clock.run(clock.now() + 5000);
    a.api.fault = "none";
    await clock.run(clock.now() + 5000);
    expect([fault, a.lease.mayAct, a.lost]).toEqual([fault, true, []]);
  }
});

test("of many that begin together one is leader", async () => {
  const { clock, operator } = bed();
  const all = ["a", "b", "c", "d"].map(operator);
  await clock.run(60_000);
  expect(all.filter(({ lease }) => lease.mayAct)).toHaveLength(1);
});
