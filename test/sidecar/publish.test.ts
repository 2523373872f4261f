import { expect, test } from "@jest/globals";
import type { AppendOutcome, Log, NewRecord, TopicInfo } from "../../kafka/log.ts";
import {
  type NewEvent,
  PublishRequest,
  PublishResponse,
} from "../../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "../../sidecar/catalog.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { ServerMetrics } from "../../sidecar/metrics.ts";
import { makePublish } from "../../sidecar/publish.ts";
import type { ServerContext } from "../../sidecar/server-context.ts";

interface Appended {
  readonly topic: TopicInfo;
  readonly partition: number | null;
  readonly record: NewRecord;
}

const ORDERS: CatalogTopic = {
  name: "shop/orders",
  namespace: "shop",
  kafkaTopic: "shop.orders",
  topicId: "ab".repeat(16),
  partitions: 3,
  ordering: "Key",
  state: "Ready",
  maxEventBytes: 100,
  publishNamespaces: [],
  subscribeNamespaces: [],
};

/** Publish over a log whose answers the test gives. */
function bed(answer: (appended: Appended, index: number) => Promise<AppendOutcome>) {
  const appended: Appended[] = [];
  const metrics = new ServerMetrics();
  const topics = new Map([
    ["shop/orders", ORDERS],
    ["shop/ledger", { ...ORDERS, name: "shop/ledger", ordering: "Commit" as const }],
  ]);
  const log: Pick<Log, "append"> = {
    append: (topic, partition, record) => {
      appended.push({ topic, partition, record });
      return answer({ topic, partition, record }, appended.length - 1);
    },
  };
  const publish = makePublish({
    log: log as Log,
    catalog: { get: (name) => topics.get(name), list: () => [], onChange: () => () => {} },
    namespace: "shop",
    limits: { ...DEFAULT_LIMITS, publishBytes: 1000 },
    clock: { now: () => 1000, setTimer: () => () => {} },
    metrics,
  } as Partial<ServerContext> as ServerContext);
  return {
    appended,
    metrics,
    publish: async (events: Partial<NewEvent>[], topic = "orders") => {
      const request = PublishRequest.encode({
        topic,
        events: events.map((event) => ({
          ...{ key: undefined, payload: undefined, headers: [], type: "", timeMs: undefined },
          ...event,
        })),
      }).finish();
      const { results } = PublishResponse.decode(await publish(Buffer.from(request)));
      return results.map(({ result }) =>
        result?.$case === "position"
          ? `${result.value.partition}:${result.value.offset}`
          : `${result?.value.name} ${result?.value.message}`,
      );
    },
  };
}

const atIndex = async (_: Appended, index: number): Promise<AppendOutcome> => ({
  kind: "appended",
  partition: 1,
  offset: index,
});

const payload = (bytes: number): Buffer => Buffer.alloc(bytes, 1);

test("P7: each event has its position, in the order of the request", async () => {
  const { publish, appended } = bed(atIndex);
  expect(await publish([{ key: Buffer.from("a") }, { type: "t" }, {}])).toEqual([
    "1:0",
    "1:1",
    "1:2",
  ]);
  expect(appended.map(({ partition }) => partition)).toEqual([null, null, null]);
  expect(appended[0]?.topic).toEqual({
    name: "shop.orders",
    id: "ab".repeat(16),
    partitions: 3,
    replicas: 0,
  });
  expect(appended[1]?.record.headers).toEqual([["ce_type", Buffer.from("t")]]);
});

test("P1: all of a request is appended in one go, before any answer", async () => {
  const answers: (() => void)[] = [];
  const { publish, appended } = bed(
    (_, offset) =>
      new Promise((resolve) => {
        answers.push(() => resolve({ kind: "appended", partition: 0, offset }));
      }),
  );
  const done = publish([{}, {}, {}]);
  expect(appended).toHaveLength(3);
  for (const give of answers.reverse()) give();
  expect(await done).toEqual(["0:0", "0:1", "0:2"]);
});

test("P10: bad events do not harm the others", async () => {
  const { publish, appended } = bed(atIndex);
  const results = await publish([
    { payload: payload(100) },
    { payload: payload(101) },
    { headers: [{ key: "tl-commit-id", value: payload(1) }] },
    {},
  ]);
  expect(results).toEqual([
    "1:0",
    expect.stringMatching(/^PAYLOAD_TOO_LARGE events\[1\]: has 101 bytes; .* takes 100\.$/),
    expect.stringMatching(/^INVALID_REQUEST events\[2\]\.headers\[0\]\.key: /),
    "1:1",
  ]);
  expect(appended).toHaveLength(2);
});

test.each<[AppendOutcome, string]>([
  [{ kind: "unknown", reason: "the broker went" }, "OUTCOME_UNKNOWN"],
  [{ kind: "too-large", reason: "RecordTooLarge" }, "PAYLOAD_TOO_LARGE"],
  [{ kind: "gone" }, "TOPIC_NOT_FOUND"],
  [{ kind: "unauthorised", reason: "no WRITE" }, "KAFKA_REFUSED"],
  [{ kind: "unavailable", reason: "no leader" }, "KAFKA_UNAVAILABLE"],
  [{ kind: "corrupt", reason: "crc", offset: 1 }, "LOG_CORRUPT"],
])("P7: the log's answer %j is told as %s", async (outcome, name) => {
  const { publish } = bed(async (_, index) =>
    index === 1 ? outcome : { kind: "appended", partition: 0, offset: index },
  );
  const results = await publish([{}, {}, {}]);
  expect(results).toEqual(["0:0", expect.stringContaining(`${name} events[1]: `), "0:2"]);
});

test("a Commit topic is written by its outbox alone", async () => {
  const { publish, appended } = bed(atIndex);
  await expect(publish([{}], "ledger")).rejects.toMatchObject({ error: "COMMIT_TOPIC" });
  expect(appended).toEqual([]);
});

test("a request of no events is answered with no results", async () => {
  expect(await bed(atIndex).publish([])).toEqual([]);
});

test("bytes that are no request change nothing", async () => {
  const { publish } = bed(atIndex);
  await expect(publish([{}], "no topic!")).rejects.toMatchObject({ error: "INVALID_REQUEST" });
});

test("P6: bytes that Kafka has not taken yet are capped, and come back", async () => {
  let give: () => void = () => {};
  const held = new Promise<void>((resolve) => {
    give = resolve;
  });
  const { publish } = bed(async (appended, index) => {
    await held;
    return atIndex(appended, index);
  });
  const nine = Array.from({ length: 9 }, () => ({ payload: payload(90) }));
  const first = publish(nine);
  await expect(publish(nine)).rejects.toMatchObject({
    error: "OVERLOADED",
    message: expect.stringContaining("--publish-bytes"),
  });
  give();
  expect(await first).toHaveLength(9);
  expect(await publish(nine)).toHaveLength(9);
});

test("what was published and refused is counted", async () => {
  const { publish, metrics } = bed(atIndex);
  await publish([{}, { payload: payload(101) }, {}]);
  const page = await metrics.page();
  expect(page).toMatch(/^throughline_published_events_total 2$/m);
  expect(page).toMatch(/^throughline_refused_events_total 1$/m);
});

test("the metrics page names each catch-up figure that an audit reads, also twice", async () => {
  const metrics = new ServerMetrics();
  metrics.catchUpsMade();
  metrics.catchUpShared();
  metrics.eventsQueuedDuringCatchUp(5);
  metrics.merges();
  metrics.demotions();
  metrics.logBytesRead(10, "live");
  metrics.logBytesRead(20, "catch-up");
  await metrics.page();
  const page = await metrics.page();
  for (const line of [
    "throughline_catch_up_dispatchers_total 1",
    "throughline_catch_up_shared_total 1",
    "throughline_queued_events_total 5",
    "throughline_merges_total 1",
    "throughline_demotions_total 1",
    'throughline_log_read_bytes_total{path="live"} 10',
    'throughline_log_read_bytes_total{path="catch-up"} 20',
  ]) {
    expect(page.split("\n")).toContain(line);
  }
});
