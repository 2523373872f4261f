/** Subscribe over real gRPC: what is delivered, and what bad input hears. */
import { credentials } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { ThroughlineError } from "../../client/errors.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { makeLogger } from "../../process/logger.ts";
import { HealthClient } from "../../proto/gen/grpc/health/v1/health.ts";
import type { EventPosition, Recovery, Start } from "../../proto/gen/throughline/v1/throughline.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";
import { encodeToken } from "../../sidecar/token.ts";
import { damageBatchAt } from "../kafka/damaged-log.ts";

const CONFIG: Config = {
  listen: "127.0.0.1:0",
  healthListen: undefined,
  shape: "gateway",
  tls: undefined,
  kafka: { brokers: [], tls: undefined, sasl: undefined },
  sessionStore: undefined,
  deploymentId: "test",
  clusterUid: undefined,
  namespace: "shop",
  serverName: "A",
  logLevel: "silent",
  limits: DEFAULT_LIMITS,
};
const EARLIEST = { $case: "earliest", value: {} } as const;

let log: MemoryLog;
let server: RunningServer;
let client: ThroughlineClient;
let topic: TopicInfo;

beforeEach(async () => {
  log = new MemoryLog();
  const reconciler = new Reconciler(log, await CatalogWriter.open(log, "test", () => 1));
  const resource = { metadata: { name: "orders", namespace: "shop" }, spec: { partitions: 2 } };
  await reconciler.apply(resource, { uid: "u", generation: 1, clusterUid: "" });
  const found = await log.admin.describeTopics(["shop.orders"]);
  topic = (found.kind === "done" && found.value.get("shop.orders")) as TopicInfo;
  server = await startServer(CONFIG, log, makeLogger("silent", "A"));
  client = new ThroughlineClient([server.address]);
  await serving(server.address);
});

afterEach(async () => {
  client.close();
  await server.close();
  await log.close();
});

function serving(address: string): Promise<void> {
  const health = new HealthClient(address, credentials.createInsecure());
  const watch = health.watch({ service: "" });
  watch.on("error", () => {});
  return new Promise((resolve) => {
    watch.on("data", ({ status }) => {
      if (status !== 1) return;
      watch.cancel();
      health.close();
      resolve();
    });
  });
}

function append(partition: number, count: number, type = "made"): void {
  const record = (i: number) => ({
    key: Buffer.from(`k${i}`),
    value: Buffer.from(`v${i}`),
    headers: [["ce_type", Buffer.from(type)] as const],
    timeMs: 1000 + i,
  });
  log.appendNow(
    "shop.orders",
    partition,
    Array.from({ length: count }, (_, i) => record(i)),
  );
}

type Subscribe = Partial<Parameters<ThroughlineClient["subscribe"]>[0]>;

/** Takes events until `count` came. */
async function take(count: number, options: Subscribe = {}) {
  const events: string[] = [];
  let token = Buffer.alloc(0) as Buffer;
  for await (const batch of client.subscribe({ topic: "orders", start: EARLIEST, ...options })) {
    for (const { offset } of batch.events) events.push(`${batch.partition}/${offset}`);
    token = batch.token;
    if (events.length >= count) break;
  }
  return { events, token };
}

async function failureOf(options: Subscribe): Promise<ThroughlineError> {
  try {
    await take(1, options);
  } catch (error) {
    if (error instanceof ThroughlineError) return error;
    throw error;
  }
  throw new Error("the stream did not fail");
}

test("P1 P2 P3: a stream that is taken up again with its token goes on exactly after it", async () => {
  append(0, 5);
  append(1, 5);
  const first = await take(6);
  append(0, 5);
  const start = at(first.token);
  const second = await take(15 - first.events.length, { start });
  const all = [...first.events, ...second.events];
  expect(all).toHaveLength(15);
  expect(new Set(all).size).toBe(15);
});

test("events that the app has already by offset are dropped", async () => {
  append(0, 10);
  const { token } = await take(10);
  const from = encodeToken({ deploymentId: "test", topic: "shop/orders", topicId: topic.id }, [
    { offset: 0, epoch: -1 },
  ]);
  expect(token.length).toBeGreaterThan(0);
  const after = [{ partition: 0, offset: 6n }];
  const start = at(from, after);
  expect((await take(3, { start })).events).toEqual(["0/7", "0/8", "0/9"]);
});

test("a filter admits by type, and credit smaller than the backlog delivers it all", async () => {
  append(0, 50, "noise");
  append(0, 30, "signal");
  const filter = { keys: [], types: ["signal"], headers: [] };
  const { events } = await take(30, { filter, creditEvents: 4 });
  expect(events).toHaveLength(30);
  expect(events[0]).toBe("0/50");
});

test("a position that retention removed is POSITION_LOST and names the earliest", async () => {
  append(0, 10);
  const { token } = await take(1, { creditEvents: 1 });
  log.retainFrom("shop.orders", 0, 5);
  const start = at(token);
  const error = await failureOf({ start });
  expect(error.error).toBe("POSITION_LOST");
  expect(error.earliest[0]).toMatchObject({ partition: 0, offset: 5n });
  const notices: string[] = [];
  const { events } = await take(5, {
    start,
    recovery: 2 as Recovery,
    onNotice: ({ $case }) => notices.push($case),
  });
  expect(events).toEqual(["0/5", "0/6", "0/7", "0/8", "0/9"]);
  expect(notices).toEqual(["opened", "restarted"]);
});

test("a token past the end of the log is POSITION_LOST", async () => {
  append(0, 3);
  const token = encodeToken({ deploymentId: "test", topic: "shop/orders", topicId: topic.id }, [
    { offset: 100, epoch: 0 },
  ]);
  const error = await failureOf({ start: at(token) });
  expect(error.error).toBe("POSITION_LOST");
});

test("P2: what comes before a damaged batch is delivered, from the log and live; LOG_CORRUPT names its offset", async () => {
  damageBatchAt(log, 10);
  for (let batch = 0; batch < 2; batch++) append(0, 4);
  const live = deliveredUntilFailure();
  await live.delivered(8);
  append(0, 2);
  append(0, 5);
  expect(await live.failure).toMatchObject({ error: "LOG_CORRUPT" });
  const late = deliveredUntilFailure();
  expect((await late.failure).message).toContain("batch at offset 10");
  const before = Array.from({ length: 10 }, (_, i) => i);
  expect([live.offsets, late.offsets]).toEqual([before, before]);
});

test.each([
  ["no credit", { creditEvents: 0 }, "INVALID_REQUEST"],
  ["negative credit", { creditEvents: -1 }, "INVALID_REQUEST"],
  ["huge credit", { creditEvents: 2 ** 40 }, "INVALID_REQUEST"],
  ["an unknown topic", { topic: "nothing" }, "TOPIC_NOT_FOUND"],
  ["a broken token", { start: token("rubbish") }, "INVALID_TOKEN"],
  ["an empty token", { start: token("") }, "INVALID_TOKEN"],
  [
    "a sequence where there is none",
    { start: { $case: "sequence", value: 1n } as const },
    "INVALID_REQUEST",
  ],
])("%s is refused by name and harms nobody", async (_what, options, name) => {
  append(0, 3);
  expect((await failureOf(options)).error).toBe(name);
  expect((await take(3)).events).toHaveLength(3);
});

test("P10: a publish over --request-bytes is refused for good, not said to be unknown", async () => {
  const event = { key: undefined, headers: [], type: "", timeMs: undefined };
  const payload = Buffer.alloc(DEFAULT_LIMITS.requestBytes + 1);
  const failure = await client.publish("orders", [{ ...event, payload }]).catch((error) => error);
  expect(failure).toMatchObject({ error: "PAYLOAD_TOO_LARGE", retryable: false });
});

function at(bytes: Buffer, after: EventPosition[] = []): NonNullable<Start["at"]> {
  return { $case: "token", value: { token: bytes, after } };
}

function deliveredUntilFailure() {
  const offsets: number[] = [];
  let reached = (): void => {};
  const failure = (async () => {
    try {
      for await (const batch of client.subscribe({ topic: "orders", start: EARLIEST })) {
        offsets.push(...batch.events.map(({ offset }) => Number(offset)));
        reached();
      }
    } catch (error) {
      if (error instanceof ThroughlineError) return error;
      throw error;
    }
    throw new Error("the stream did not fail");
  })();
  const delivered = (count: number): Promise<void> =>
    new Promise((resolve) => {
      reached = () => {
        if (offsets.length >= count) resolve();
      };
      reached();
    });
  return { offsets, failure, delivered };
}

function token(text: string): NonNullable<Start["at"]> {
  return at(Buffer.from(text));
}
