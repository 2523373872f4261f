/** P6: who shares a catch-up, who waits for one, and whom slow clients cannot slow. In virtual time. */
import { expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { PartitionDispatch } from "../../sidecar/dispatch/partition-dispatch.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";
import { dispatchHost, type Pace, PacedClient } from "./dispatch-bed.ts";

const EVENTS = 20_000;
const EVENT_BYTES = 1000;
const BATCH = 20;
/** 1.1 MB/s: not slow enough to be told to leave. */
const SLOW = { bytes: 110_000, busyMs: () => 100 };
const FAST = { bytes: 250_000, busyMs: () => 1 };

class Bed {
  readonly clock = new VirtualClock(new Random(1));
  readonly partition: PartitionDispatch;
  saturated = false;
  bytesRead = 0;

  constructor() {
    const { clock } = this;
    const log = new MemoryLog({
      schedule: (deliver) => void clock.setTimer(1, deliver),
      setTimer: clock.setTimer,
    });
    const topic = log.createTopicNow("t", 1);
    const value = Buffer.alloc(EVENT_BYTES, "x");
    const record = { key: null, value, headers: [], timeMs: 1 };
    for (let i = 0; i < EVENTS; i += BATCH) log.appendNow("t", 0, Array(BATCH).fill(record));
    const host = dispatchHost({
      ...{ log, clock, nextTurn: (begin) => void clock.setTimer(0, begin) },
      saturated: () => this.saturated,
      catchUpBytesRead: (bytes) => {
        this.bytesRead += bytes;
      },
      limits: {
        ...{ tailPartitionBytes: 1 << 20, catchUpWindowBytes: 2 << 20, fetchBytes: 512 << 10 },
        ...{ shareDistanceBytes: 128 << 20, sharedStallMs: 500, aloneStallMs: 5000, pollMs: 1000 },
      },
    });
    this.partition = new PartitionDispatch(host, topic, 0, {
      gone: () => {},
      unreadable: () => {},
    });
  }

  client(from: number, pace: Pace): PacedClient {
    return new PacedClient(this.partition, this.clock, from, pace);
  }

  /** Milliseconds from now until all of these are live. */
  async untilLive(...clients: readonly PacedClient[]): Promise<number> {
    const startedMs = this.clock.now();
    const live = (): boolean => clients.every(({ cursor }) => cursor.place.at === "live");
    expect(await this.clock.run(startedMs + 300_000, live)).toBe(true);
    return this.clock.now() - startedMs;
  }
}

/** Each event once, in order, from there on. */
function expectAll(client: PacedClient, from: number): void {
  expect(client.taken).toEqual(Array.from({ length: EVENTS - from }, (_, i) => from + i));
}

test("a client is not held by a catch-up behind it whose members are slow", async () => {
  const bed = new Bed();
  await bed.clock.run(10);
  bed.client(0, SLOW);
  await bed.clock.run(3000);
  const fast = bed.client(15_000, FAST);
  expect(await bed.untilLive(fast)).toBeLessThan(1000);
  expectAll(fast, 15_000);
  bed.partition.close();
});

test("a client that waits for a catch-up that turns out to be slow gets one of its own", async () => {
  const bed = new Bed();
  await bed.clock.run(10);
  bed.client(0, SLOW);
  await bed.clock.run(100);
  const fast = bed.client(15_000, FAST);
  expect(await bed.untilLive(fast)).toBeLessThan(2500);
  expectAll(fast, 15_000);
  bed.partition.close();
});

test("slow clients that come behind others one after another put them off for a second or two, once", async () => {
  const bed = new Bed();
  await bed.clock.run(10);
  const fast = bed.client(15_000, FAST);
  for (let from = 10_000; from > 0; from -= 1000) {
    bed.clock.setTimer((10_000 - from) / 2, () => bed.client(from, SLOW));
  }
  expect(await bed.untilLive(fast)).toBeLessThan(3000);
  expectAll(fast, 15_000);
  bed.partition.close();
});

test("a herd that comes in a burst, the newest positions first, is served by one sweep", async () => {
  const bed = new Bed();
  await bed.clock.run(10);
  const pace = { bytes: 250_000, busyMs: () => 5 };
  const herd: PacedClient[] = [];
  for (let i = 0; i < 15; i++) {
    bed.clock.setTimer(i * 2, () => herd.push(bed.client(1300 * (14 - i), pace)));
  }
  await bed.clock.run(50);
  await bed.untilLive(...herd);
  for (const [i, client] of herd.entries()) expectAll(client, 1300 * (14 - i));
  expect(bed.bytesRead / (EVENTS * EVENT_BYTES)).toBeLessThan(2);
  bed.partition.close();
});

/** All clients of a pace together get 40 MB/s, by turns. */
function sharedPace({ clock }: Bed): Pace {
  let busyUntilMs = 0;
  const busyMs = (): number => {
    busyUntilMs = Math.max(clock.now(), busyUntilMs) + 16 / 40;
    return busyUntilMs - clock.now();
  };
  return { bytes: 16_000, busyMs };
}

test("on a saturated server a herd that goes slowly is served by one sweep all the same", async () => {
  const bed = new Bed();
  bed.saturated = true;
  await bed.clock.run(10);
  const pace = sharedPace(bed);
  const herd = Array.from({ length: 100 }, (_, i) => bed.client((EVENTS * i) / 100, pace));
  await bed.untilLive(...herd);
  for (const [i, client] of herd.entries()) expectAll(client, (EVENTS * i) / 100);
  expect(bed.bytesRead / (EVENTS * EVENT_BYTES)).toBeLessThan(1.2);
  bed.partition.close();
});

test("on a saturated server, too, a client that takes nothing holds others up for seconds only", async () => {
  const bed = new Bed();
  bed.saturated = true;
  await bed.clock.run(10);
  const pace = sharedPace(bed);
  bed.client(0, { bytes: 16_000, busyMs: () => 1e9 });
  const herd = Array.from({ length: 20 }, () => bed.client(0, pace));
  // Ten seconds are the volume's.
  expect(await bed.untilLive(...herd)).toBeLessThan(14_000);
  for (const client of herd) expectAll(client, 0);
  bed.partition.close();
});

test("on a saturated server one that is late meets the sweep ahead and goes on in it", async () => {
  const bed = new Bed();
  bed.saturated = true;
  await bed.clock.run(10);
  const pace = sharedPace(bed);
  const herd = Array.from({ length: 40 }, () => bed.client(5000, pace));
  await bed.clock.run(3000);
  const late = bed.client(2000, FAST);
  await bed.untilLive(late, ...herd);
  expectAll(late, 2000);
  expect(bed.bytesRead / (EVENTS * EVENT_BYTES)).toBeLessThan(1.2);
  bed.partition.close();
});
