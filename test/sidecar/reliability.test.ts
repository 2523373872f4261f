import { expect, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import type { LiveRead } from "../../sidecar/dispatch/dispatch-host.ts";
import { SelfReliability } from "../../sidecar/reliability.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";

const DRAIN = 1;
const SERVER_BLOCKED = 3;
const READS_STALLED = 4;

function bed(shape: "gateway" | "pod" = "gateway") {
  const time = new VirtualClock(new Random(1));
  const bed = {
    time,
    /** Added to the clock, as a blocked event loop would. */
    blockedMs: 0,
    kafkaAnswers: true,
    /** Partitions for which Kafka answers on no connection. */
    leaderless: new Set<number>(),
    asked: [] as number[],
    moved: [] as [number, number][],
    readiness: [] as boolean[],
    findings: [] as string[],
    reliability: undefined as unknown as SelfReliability,
  };
  bed.reliability = new SelfReliability({
    shape,
    clock: { now: () => time.now() + bed.blockedMs, setTimer: time.setTimer },
    loopBlockedMs: 5000,
    readsStalledMs: 10_000,
    kafkaAnswers: async ({ partition }) => {
      bed.asked.push(partition);
      return bed.kafkaAnswers && !bed.leaderless.has(partition);
    },
    onFinding: (message) => bed.findings.push(message),
  });
  bed.reliability.onMoving((reason, deadlineMs) => bed.moved.push([reason, deadlineMs]));
  bed.reliability.onReadiness(() => bed.readiness.push(bed.reliability.readiness().ready));
  return bed;
}

const TOPIC: TopicInfo = { name: "shop.orders", id: "id", partitions: 20, replicas: 1 };
const READS = Array.from({ length: 20 }, (_, partition): LiveRead => ({ topic: TOPIC, partition }));
const READ = READS[0] as LiveRead;

/** For so long these reads fail, and the others answer. */
async function failReads(
  b: ReturnType<typeof bed>,
  ms: number,
  failing: readonly LiveRead[] = [READ],
  well: readonly LiveRead[] = [],
): Promise<void> {
  const until = b.time.now() + ms;
  while (b.time.now() < until) {
    for (const read of failing) b.reliability.readFailed(read, "no answer");
    for (const read of well) b.reliability.readOk(read);
    await b.time.run(Math.min(until, b.time.now() + 200));
  }
}

test("a gateway is ready once the catalog was read", () => {
  const b = bed();
  expect(b.reliability.readiness()).toEqual({
    ready: false,
    why: "the catalog has not been read yet",
  });
  b.reliability.catalogRead();
  expect(b.reliability.readiness().ready).toBe(true);
  expect(b.readiness).toEqual([true]);
});

test("drain moves streams once, with its deadline, and ends readiness", () => {
  const b = bed();
  b.reliability.catalogRead();
  b.reliability.drain(12_345);
  b.reliability.drain(99_999);
  expect(b.moved).toEqual([[DRAIN, 12_345]]);
  expect(b.reliability.draining).toBe(true);
  expect(b.reliability.readiness()).toEqual({ ready: false, why: "draining" });
});

test("an unreachable Kafka makes no server unreliable", async () => {
  const b = bed();
  b.reliability.catalogRead();
  b.kafkaAnswers = false;
  await failReads(b, 60_000);
  expect(b.asked.length).toBeGreaterThan(1);
  expect(b.moved).toEqual([]);
  expect(b.reliability.readiness().ready).toBe(true);
});

test("reads that stall while Kafka answers otherwise move streams once, until reads go on", async () => {
  const b = bed();
  b.reliability.catalogRead();
  await failReads(b, 30_000);
  expect(b.moved).toEqual([[READS_STALLED, 0]]);
  expect(b.reliability.readiness()).toEqual({ ready: false, why: "reads from Kafka stall" });
  b.reliability.readOk(READ);
  expect(b.readiness).toEqual([true, false, true]);
  await failReads(b, 11_000);
  expect(b.moved).toHaveLength(2);
});

test("one read in time forgives the failures before it", async () => {
  const b = bed();
  b.reliability.catalogRead();
  for (let i = 0; i < 10; i++) {
    await failReads(b, 9000);
    b.reliability.readOk(READ);
  }
  expect(b.asked).toEqual([]);
  expect(b.moved).toEqual([]);
});

test("one partition that stalls is seen, however well the others read", async () => {
  const b = bed();
  b.reliability.catalogRead();
  await failReads(b, 12_000, [READ], READS.slice(1));
  expect(b.moved).toEqual([[READS_STALLED, 0]]);
  expect(b.asked).toEqual([0]);
  expect(b.findings).toEqual([expect.stringContaining("shop.orders[0]")]);
});

test("streams move once for all the reads that stall, and readiness waits for the last of them", async () => {
  const b = bed();
  b.reliability.catalogRead();
  await failReads(b, 60_000, READS);
  expect(b.moved).toHaveLength(1);
  for (const read of READS.slice(1)) b.reliability.readOk(read);
  expect(b.readiness).toEqual([true, false]);
  b.reliability.readOk(READ);
  expect(b.readiness).toEqual([true, false, true]);
});

test("a partition that Kafka does not answer for at all is not held against the server", async () => {
  const b = bed();
  b.reliability.catalogRead();
  b.leaderless.add(0);
  await failReads(b, 60_000, [READ], READS.slice(1));
  expect(b.moved).toEqual([]);
  expect(b.reliability.readiness().ready).toBe(true);
});

test("in an outage Kafka is asked of eight reads at once, and of every read in turn", async () => {
  const b = bed();
  b.kafkaAnswers = false;
  await failReads(b, 11_500, READS);
  expect(b.asked.length).toBeLessThanOrEqual(2 * 8);
  await failReads(b, 8000, READS);
  expect(new Set(b.asked).size).toBe(READS.length);
});

test("a read whose dispatcher ended is held against nobody", async () => {
  const b = bed();
  b.reliability.catalogRead();
  await failReads(b, 9000);
  b.reliability.readEnded(READ);
  await b.time.run(b.time.now() + 60_000);
  expect(b.moved).toEqual([]);
  await failReads(b, 12_000);
  expect(b.reliability.readiness().ready).toBe(false);
  b.reliability.readEnded(READ);
  expect(b.reliability.readiness().ready).toBe(true);
});

test("a blocked event loop moves streams, and readiness comes back after a calm time", async () => {
  const b = bed();
  b.reliability.catalogRead();
  await b.time.run(10_000);
  expect(b.moved).toEqual([]);
  b.blockedMs += 5500;
  await b.time.run(b.time.now() + 1500);
  expect(b.moved).toEqual([[SERVER_BLOCKED, 0]]);
  expect(b.reliability.readiness().ready).toBe(false);
  await b.time.run(b.time.now() + 60_000);
  expect(b.readiness).toEqual([true, false, true]);
  expect(b.findings).toEqual([expect.stringContaining("blocked for")]);
});

test("a loop that is late for less than the limit is not blocked", async () => {
  const b = bed();
  b.blockedMs += 4900;
  await b.time.run(10_000);
  expect(b.moved).toEqual([]);
});

test("a stream whose open was under way when the drain began is told as soon as it asks", () => {
  const b = bed();
  b.reliability.drain(12_345);
  const told: unknown[] = [];
  b.reliability.onMoving((...moving) => told.push(moving));
  expect(told).toEqual([[1, 12_345]]);
});

test("a pod door stays ready and moves its client for drain only", async () => {
  const b = bed("pod");
  expect(b.reliability.readiness().ready).toBe(true);
  b.blockedMs += 60_000;
  await failReads(b, 60_000);
  expect(b.moved).toEqual([]);
  b.reliability.drain(5);
  expect(b.moved).toEqual([[DRAIN, 5]]);
  expect(b.reliability.readiness().ready).toBe(true);
});
