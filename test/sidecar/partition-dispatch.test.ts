/** P2: a catch-up that read past the main dispatcher gives its clients back when that arrives. */
import { expect, test } from "@jest/globals";
import type { FetchOutcome, Log, PartitionReader } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CatchUpBudget } from "../../sidecar/dispatch/catch-up-budget.ts";
import { CatchUpLoad } from "../../sidecar/dispatch/catch-up-load.ts";
import { Cursor, type CursorOwner } from "../../sidecar/dispatch/cursor.ts";
import type { DispatchHost } from "../../sidecar/dispatch/dispatch-host.ts";
import { SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import { PartitionDispatch } from "../../sidecar/dispatch/partition-dispatch.ts";
import { PLANNING_PACE } from "../../sidecar/dispatch/plan-catch-up.ts";
import { RULES } from "../../sidecar/dispatch/rules.ts";
import { Turns } from "../../sidecar/dispatch/turns.ts";

const event = (i: number) => ({
  key: null,
  value: Buffer.from(`event ${i}`),
  headers: [],
  timeMs: 1,
});

test("a client at the end of a catch-up that is ahead of the main dispatcher is merged when it arrives", async () => {
  const memory = new MemoryLog();
  const topic = memory.createTopicNow("t", 1);
  for (let i = 0; i < 10; i++) memory.appendNow("t", 0, [event(i)]);
  let release: () => void = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let readers = 0;
  const log: Log = Object.assign(Object.create(memory) as Log, {
    admin: memory.admin,
    offset: memory.offset.bind(memory),
    openReader: (...args: Parameters<Log["openReader"]>): PartitionReader => {
      const reader = memory.openReader(...args);
      if (readers++ > 0) return reader;
      // The first is the main dispatcher's: its answer is late.
      const fetch = async (...of: Parameters<PartitionReader["fetch"]>): Promise<FetchOutcome> => {
        const outcome = await reader.fetch(...of);
        await held;
        return outcome;
      };
      return { fetch, close: () => reader.close() };
    },
  });
  const none = (): void => {};
  const clock = {
    now: () => performance.now(),
    setTimer: (ms: number, fire: () => void) => {
      const t = setTimeout(fire, ms);
      return () => clearTimeout(t);
    },
  };
  const host: DispatchHost = {
    log,
    clock,
    encoder: new SegmentEncoder(),
    rules: RULES,
    limits: {
      tailPartitionBytes: 1 << 20,
      catchUpWindowBytes: 1 << 20,
      fetchBytes: 1 << 20,
      shareDistanceBytes: 1 << 20,
      sharedStallMs: 1000,
      aloneStallMs: 1000,
      pollMs: 1000,
    },
    metrics: {
      catchUpsMade: none,
      catchUpShared: none,
      eventsQueuedDuringCatchUp: none,
      merges: none,
      demotions: none,
      logBytesRead: none,
    },
    budget: new CatchUpBudget(4),
    turns: new Turns(clock, 1 << 20, setImmediate),
    pace: PLANNING_PACE,
    load: new CatchUpLoad(() => false, PLANNING_PACE, 0),
    tailBytesAllowed: () => 1 << 20,
    tailBytes: none,
    catchUpBytes: none,
    reads: { readOk: none, readFailed: none, readEnded: none },
  };
  const partition = new PartitionDispatch(host, topic, 0, { gone: none, unreadable: none });
  let got = 0;
  let wake: () => void = () => {};
  const owner: CursorOwner = {
    ready: (cursor) => {
      for (let slice = partition.pull(cursor); slice; slice = partition.pull(cursor))
        got += slice.count;
      wake();
    },
    lost: none,
    canTake: () => true,
    failed: none,
    select: (_cursor, segment, first) => ({
      ranges: [],
      count: segment.count - first,
      bytes: 0,
      end: segment.count,
    }),
  };
  const reached = (count: number) =>
    new Promise<void>((resolve) => {
      wake = () => {
        if (got >= count) resolve();
      };
      wake();
    });
  const cursor = new Cursor(owner, 0, 0, -1);
  partition.add(cursor);
  // In memory all answers are microtasks: the main dispatcher begins at 10, before these are there.
  await new Promise((resolve) => setImmediate(resolve));
  for (let i = 10; i < 15; i++) memory.appendNow("t", 0, [event(i)]);
  owner.ready(cursor);
  await reached(15);
  expect(cursor.place.at).toBe("member");
  release();
  memory.appendNow("t", 0, [event(15)]);
  await reached(16);
  expect(cursor.onMain).toBe(true);
  partition.close();
}, 5000);
