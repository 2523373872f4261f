/** C1: a catch-up dispatcher reads one thing after the other. In virtual time. */
import { expect, test } from "@jest/globals";
import type { PartitionReader } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CatchUpDispatcher } from "../../sidecar/dispatch/catch-up-dispatcher.ts";
import { Cursor, type CursorOwner } from "../../sidecar/dispatch/cursor.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";
import { dispatchHost } from "./dispatch-bed.ts";

const KAFKA_MS = 20;

test("who comes when a read brought nothing does not make it read twice at once", async () => {
  const clock = new VirtualClock(new Random(1));
  const log = new MemoryLog({
    schedule: (deliver) => void clock.setTimer(KAFKA_MS, deliver),
    setTimer: clock.setTimer,
  });
  const topic = log.createTopicNow("t", 1);
  const host = dispatchHost({
    ...{ log, clock, nextTurn: (begin) => void clock.setTimer(0, begin) },
    limits: {
      ...{ tailPartitionBytes: 1 << 20, catchUpWindowBytes: 2 << 20, fetchBytes: 512 << 10 },
      ...{ shareDistanceBytes: 128 << 20, sharedStallMs: 500, aloneStallMs: 5000, pollMs: 1000 },
    },
  });
  let reads = 0;
  let most = 0;
  const kafka = log.openReader(topic, 0);
  const reader: PartitionReader = {
    fetch: async (...of) => {
      most = Math.max(most, ++reads);
      const outcome = await kafka.fetch(...of);
      reads--;
      return outcome;
    },
    close: () => kafka.close(),
  };
  const start = { offset: 0, epoch: -1, sinceMs: 0 };
  const dispatcher = new CatchUpDispatcher(host, reader, start, () => Number.POSITIVE_INFINITY, {
    // As for a client that waited and is picked up: it pulls, and pokes.
    advanced: (of) => of.poke(),
    refused: () => {},
    servedElsewhere: () => false,
    left: () => {},
  });
  const owner: CursorOwner = {
    canTake: () => true,
    ready: () => {},
    select: () => ({ ranges: [], count: 0, bytes: 0, end: 0 }),
    lost: () => {},
    failed: () => {},
  };
  dispatcher.enter(new Cursor(owner, 0, 0, -1));
  dispatcher.poke();
  await clock.run(KAFKA_MS * 3);
  log.appendNow("t", 0, [{ key: null, value: Buffer.from("one"), headers: [], timeMs: 1 }]);
  await clock.run(KAFKA_MS * 6);
  expect([most, dispatcher.tail.next]).toEqual([1, 1]);
  dispatcher.close();
});
