/**
 * A Subscription on a log in memory, in virtual time, with a transport that takes what the test says.
 */
import { expect, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { type Recovery, SubscribeResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import type { Catalog, CatalogTopic } from "../../sidecar/catalog.ts";
import { CreditBalance } from "../../sidecar/credit.ts";
import { CatchUpBudget } from "../../sidecar/dispatch/catch-up-budget.ts";
import { CatchUpLoad } from "../../sidecar/dispatch/catch-up-load.ts";
import { SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import { PLANNING_PACE } from "../../sidecar/dispatch/plan-catch-up.ts";
import { RULES } from "../../sidecar/dispatch/rules.ts";
import { Dispatch } from "../../sidecar/dispatch/topic-dispatch.ts";
import { Turns } from "../../sidecar/dispatch/turns.ts";
import type { Failure } from "../../sidecar/failure.ts";
import type { Frame } from "../../sidecar/frame.ts";
import { InFlightBudget } from "../../sidecar/in-flight-budget.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import type { Reliability } from "../../sidecar/reliability.ts";
import type { ServerContext } from "../../sidecar/server-context.ts";
import { Subscription } from "../../sidecar/subscription.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";

const HEARTBEAT_MS = 1000;
const WRITE_BLOCKED = 2;
const LOSS_GONE = 3;
const RECOVERY_LATEST = 3;

const none = (): void => {};

function bed(shape: "gateway" | "pod" = "gateway", recovery: Recovery = 0) {
  const clock = new VirtualClock(new Random(1));
  const log = new MemoryLog({ setTimer: clock.setTimer });
  const info = log.createTopicNow("shop.orders", 1);
  const found: CatalogTopic = {
    ...{ name: "shop/orders", namespace: "shop", kafkaTopic: info.name, topicId: info.id },
    ...{ partitions: 1, ordering: "Key", state: "Ready", maxEventBytes: 1 << 20 },
    ...{ publishNamespaces: [], subscribeNamespaces: [] },
  };
  const topics = new Map([[found.name, found]]);
  const catalog: Catalog = {
    get: (name) => topics.get(name),
    list: () => [...topics.values()],
    onChange: () => none,
  };
  const dispatch = new Dispatch({
    ...{ log, clock, encoder: new SegmentEncoder(), rules: RULES, budget: new CatchUpBudget(4) },
    turns: new Turns(clock, 1 << 20, setImmediate),
    pace: PLANNING_PACE,
    load: new CatchUpLoad(() => false, PLANNING_PACE, 0),
    limits: { ...DEFAULT_LIMITS, catchUpWindowBytes: 1 << 20 },
    metrics: {
      ...{ catchUpsMade: none, catchUpShared: none, eventsQueuedDuringCatchUp: none },
      ...{ merges: none, demotions: none, logBytesRead: none },
    },
    ...{ tailBytesAllowed: () => 1 << 20, tailBytes: none, catchUpBytes: none },
    reads: { readOk: none, readFailed: none, readEnded: none },
  });
  const limits = { ...DEFAULT_LIMITS, writeBlockedMs: 3000 };
  const reliability = { onMoving: () => none } as Partial<Reliability> as Reliability;
  const server = {
    log,
    catalog,
    clock,
    limits,
    shape,
    reliability,
    serverName: "A",
    namespace: "shop",
  };
  const identity = { deploymentId: "test", topic: found.name, topicId: info.id };
  const credit = new CreditBalance({ events: 1_000_000n, bytes: 0n });
  /** What the transport was given and has not taken. */
  const untaken: (() => void)[] = [];
  const down: NonNullable<SubscribeResponse["kind"]>[] = [];
  const bed = {
    clock,
    log,
    topics,
    found,
    down,
    untaken,
    takes: true,
    failure: undefined as Failure | undefined,
    subscription: undefined as unknown as Subscription,
    append: (partition: number, ...values: string[]): void => {
      const records = values.map((value) => ({
        ...{ key: null, value: Buffer.from(value), headers: [], timeMs: 1 },
      }));
      log.appendNow(info.name, partition, records);
    },
    of: (kind: string) => down.filter(({ $case }) => $case === kind),
    values: () =>
      down.flatMap((m) =>
        m.$case === "batch" ? m.value.events.map(({ payload }) => String(payload)) : [],
      ),
    offsetsIn: (token: Buffer): number[] => {
      return decodeToken(token, identity, 1).positions.map(({ offset }) => offset);
    },
    /** The transport takes all that it was given, and what comes of that. */
    takeAll: (): void => {
      while (untaken.length > 0) untaken.shift()?.();
    },
    run: (ms: number) => clock.run(clock.now() + ms),
  };
  bed.subscription = new Subscription(
    server as Partial<ServerContext> as ServerContext,
    found,
    info satisfies TopicInfo,
    {
      credit,
      admits: undefined,
      recovery,
      maxFrameBytes: 1 << 20,
      session: undefined,
      heartbeatMs: HEARTBEAT_MS,
    },
    {
      ...{ identity, dispatch: dispatch.topic(info), credit, admits: undefined, recovery },
      ...{ maxFrameBytes: 1 << 20, targetFrameBytes: 1 << 16, delivered: none },
      budget: new InFlightBudget(1 << 20),
    },
    {
      write: (frame, taken) => {
        down.push(messageOf(frame));
        if (bed.takes) taken();
        else untaken.push(taken);
      },
      end: (failure) => {
        bed.failure = failure;
      },
      spent: none,
    },
  );
  return bed;
}

/** As grpc-js does it: by `byteLength` and `copy` alone. */
function messageOf(frame: Frame): NonNullable<SubscribeResponse["kind"]> {
  const bytes = Buffer.alloc(frame.byteLength);
  frame.copy(bytes, 0);
  return SubscribeResponse.decode(bytes).kind as NonNullable<SubscribeResponse["kind"]>;
}

const FROM_FIRST = {
  kind: "positions",
  positions: [{ offset: 0, epoch: -1 }],
  verified: true,
  after: new Map<number, number>(),
} as const;

test("P6: heartbeats do not pile up for a client that does not read, and come again once it does", async () => {
  const b = bed();
  await b.subscription.start(FROM_FIRST);
  await b.run(3 * HEARTBEAT_MS);
  expect(b.of("heartbeat").length).toBeGreaterThan(1);
  b.takes = false;
  const before = b.of("heartbeat").length;
  await b.run(2 * HEARTBEAT_MS);
  expect(b.of("heartbeat")).toHaveLength(before + 1);
  await b.run(600 * HEARTBEAT_MS);
  expect(b.of("heartbeat")).toHaveLength(before + 1);
  b.takes = true;
  b.takeAll();
  await b.run(3 * HEARTBEAT_MS);
  expect(b.of("heartbeat").length).toBeGreaterThan(before + 1);
});

test("a client that takes nothing is told to move once, with the token after all that was written", async () => {
  const b = bed();
  await b.subscription.start(FROM_FIRST);
  b.takes = false;
  b.append(0, "a", "b", "c");
  await b.run(2500);
  expect(b.values()).toEqual(["a", "b", "c"]);
  expect(b.of("moving")).toEqual([]);
  await b.run(600_000);
  expect(b.of("moving")).toHaveLength(1);
  const moving = b.down.at(-1);
  if (moving?.$case !== "moving") throw new Error("Moving is not the last");
  expect(moving.value).toMatchObject({ reason: WRITE_BLOCKED, deadlineMs: 0n });
  expect(b.offsetsIn(moving.value.token)).toEqual([3]);
});

test("a client that takes one frame now and then has at most one Moving under way", async () => {
  const b = bed();
  await b.subscription.start(FROM_FIRST);
  b.takes = false;
  for (let i = 0; i < 50; i++) {
    b.append(0, `event ${i}`);
    await b.run(10_000);
    const first = b.of("moving").length;
    expect(b.untaken.length).toBeLessThanOrEqual(3);
    if (i === 0) expect(first).toBe(1);
    b.untaken.shift()?.();
  }
  b.takes = true;
  b.takeAll();
  const told = b.of("moving").length;
  await b.run(60_000);
  expect(b.of("moving")).toHaveLength(told);
  expect(b.values()).toHaveLength(50);
});

test("a client that waits for events, or is slow but takes, is not told to move", async () => {
  const b = bed();
  await b.subscription.start(FROM_FIRST);
  await b.run(60_000);
  b.takes = false;
  for (let i = 0; i < 30; i++) {
    b.append(0, "x".repeat(20_000), "x".repeat(20_000));
    await b.run(2000);
    b.untaken.shift()?.();
  }
  expect(b.of("moving")).toEqual([]);
});

test("a pod door tells nobody to move for taking nothing: its app has no other server", async () => {
  const b = bed("pod");
  await b.subscription.start(FROM_FIRST);
  b.takes = false;
  b.append(0, "a");
  await b.run(600_000);
  expect(b.of("moving")).toEqual([]);
});

test("P2: a Topic that grew between its look-up and the start of the stream is read whole", async () => {
  const b = bed();
  await b.log.admin.createPartitions(b.found.kafkaTopic, 2);
  b.topics.set(b.found.name, { ...b.found, partitions: 2 });
  b.append(0, "in the old partition");
  b.append(1, "in the new one");
  await b.subscription.start(FROM_FIRST);
  await b.run(100);
  expect(b.values().sort()).toEqual(["in the new one", "in the old partition"]);
});

test.each<[string, (found: CatalogTopic) => CatalogTopic | undefined, string]>([
  ["was removed", () => undefined, "TOPIC_NOT_FOUND"],
  ["was recreated", (found) => ({ ...found, topicId: "another" }), "TOPIC_GONE"],
  ["lost its data", (found) => ({ ...found, state: "DataLost" }), "TOPIC_NOT_READY"],
])(
  "P2: a Topic that %s between its look-up and the start of the stream ends it by name",
  async (_what, now, withPreset) => {
    for (const [recovery, error] of [
      [0, "POSITION_LOST"],
      [RECOVERY_LATEST, withPreset],
    ] as const) {
      const b = bed("gateway", recovery);
      const changed = now(b.found);
      if (changed) b.topics.set(b.found.name, changed);
      else b.topics.delete(b.found.name);
      await b.subscription.start(FROM_FIRST);
      expect(b.failure?.error).toBe(error);
      if (recovery === 0) expect(b.failure?.details).toMatchObject({ loss: LOSS_GONE });
    }
  },
);
