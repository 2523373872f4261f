/** The Topic changes under its streams: they end with a typed error, go on where told, or get more partitions. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Kafka } from "kafkajs";
import type { SessionOptions } from "../../client/client.ts";
import type { Start } from "../../proto/gen/throughline/v1/throughline.ts";
import { Bed, SLOW_MS } from "./bed.ts";
import type { StoryServer } from "./story-server.ts";
import { EARLIEST, rawStream } from "./subscriber.ts";
import { until } from "./waits.ts";

const LOSS_RETENTION = 1;
const LOSS_GONE = 3;
const RECOVERY_EARLIEST = 2;
const RECOVERY_LATEST = 3;

const sessions = [
  undefined,
  { name: "one" },
  { name: "many", mode: "shared" },
] as const satisfies readonly (SessionOptions | undefined)[];

let bed: Bed;
let server: StoryServer;
let admin: ReturnType<Kafka["admin"]>;

beforeAll(async () => {
  bed = await Bed.open();
  const store = await bed.store();
  server = await bed.server([], "--session-store", store.url);
  admin = bed.part.kafkajs().admin();
  await admin.connect();
}, SLOW_MS);

afterAll(async () => {
  await admin?.disconnect();
  await bed?.close();
}, SLOW_MS);

function at(token: Buffer): NonNullable<Start["at"]> {
  return { $case: "token", value: { token, after: [] } };
}

test(
  "P2: partitions are grown in mid-stream: the new ones are delivered from their first event",
  async () => {
    const before = await bed.topic("grown", { partitions: 2 });
    await server.knows("grown");
    const open = bed.subscriber([server.address], { topic: "grown", start: EARLIEST });
    await bed.append(before, 0, 100);
    await open.has(100);
    const { token } = open;
    const topic = await bed.topic("grown", { partitions: 5 });
    await bed.append(topic, 100, 200);
    await bed.expectWhole(topic, open);
    expect(open.breaks).toEqual([]);
    // A token that names fewer partitions than there are now: the others start at 0.
    const resumed = bed.subscriber([server.address], { topic: "grown", start: at(token) });
    await resumed.has(200);
    expect(new Set(resumed.seen.map(({ partition }) => partition)).size).toBe(5);
  },
  SLOW_MS,
);

test(
  "a server knows of a Topic, and of each change of it, within a second",
  async () => {
    const tookMs: number[] = [];
    for (const partitions of [1, 2, 3, 4, 5]) {
      await bed.topic("followed", { partitions });
      const sinceMs = performance.now();
      await server.knows("followed", partitions);
      tookMs.push(performance.now() - sinceMs);
    }
    // The middle one: a machine that is busy may hold up one of them.
    expect(tookMs.toSorted((a, b) => a - b)[2]).toBeLessThan(1000);
  },
  SLOW_MS,
);

test(
  "a Topic that is removed ends its streams with POSITION_LOST; its name is not found, or not ready when retained",
  async () => {
    for (const [name, policy, error] of [
      ["removed", "Delete", "TOPIC_NOT_FOUND"],
      ["retained", "Retain", "TOPIC_NOT_READY"],
    ] as const) {
      const topic = await bed.topic(name, { partitions: 2 });
      await server.knows(name);
      const subscriber = bed.subscriber([server.address], { topic: name, start: EARLIEST });
      await bed.append(topic, 0, 20);
      await subscriber.has(20);
      await bed.removeTopic(name, policy);
      const lost = await subscriber.fails();
      expect([lost.error, lost.retryable]).toEqual(["POSITION_LOST", false]);
      expect(lost.token.length).toBeGreaterThan(0);
      const again = bed.subscriber([server.address], { topic: name, start: EARLIEST });
      expect((await again.fails()).error).toBe(error);
    }
  },
  SLOW_MS,
);

test(
  "somebody deletes the catalog: its operator makes it anew, one Topic after the other, and no stream of them ends",
  async () => {
    const [first, second] = [await bed.topic("named-first"), await bed.topic("named-second")];
    for (const name of ["named-first", "named-second"]) await server.knows(name);
    const subscribers = ["named-first", "named-second"].map((topic) =>
      bed.subscriber([server.address], { topic, start: EARLIEST }),
    );
    for (const topic of [first, second]) await bed.append(topic, 0, 20);
    await bed.loseCatalog();
    // The server has read what is in it; the second one is not.
    await bed.topic("named-first", { partitions: 2 });
    await server.knows("named-first", 2);
    await bed.append(second, 20, 20);
    await subscribers[1]?.has(40);
    await bed.topic("named-second", { partitions: 3 });
    await server.knows("named-second", 3);
    for (const topic of [first, second]) await bed.append(topic, 40, 20);
    for (const [i, topic] of [first, second].entries())
      await bed.expectWhole(topic, subscribers[i] ?? []);
    expect(subscribers.flatMap(({ breaks }) => breaks)).toEqual([]);
  },
  SLOW_MS,
);

test(
  "P2: a topic deleted in Kafka and made anew: streams end typed, old tokens too, or a preset restarts with a notice",
  async () => {
    const topic = await bed.topic("recreated", { partitions: 2 });
    await server.knows("recreated");
    const subscriber = bed.subscriber([server.address], { topic: "recreated", start: EARLIEST });
    const live = sessions.map((session) =>
      bed.subscriber([server.address], {
        ...{ topic: "recreated", start: EARLIEST, recovery: RECOVERY_EARLIEST },
        ...(session && { session }),
      }),
    );
    await bed.append(topic, 0, 50);
    for (const one of [subscriber, ...live]) await one.has(50);
    const { token } = subscriber;
    await admin.deleteTopics({ topics: [topic.name] });
    expect((await subscriber.fails()).error).toBe("POSITION_LOST");
    for (const one of live) await one.until(() => one.breaks.length > 0);
    const accept = { "throughline.dev/accept-loss": topic.id };
    let made = topic;
    while (made.id === topic.id) {
      // Kafka may still know the name for a moment.
      made = await bed.topic("recreated", { partitions: 2 }, accept).catch(() => topic);
    }
    await bed.append(made, 1000, 30);
    const resumed = () =>
      bed.subscriber([server.address], { topic: "recreated", start: at(token) });
    // Until the server has read of the new one, the Topic has lost its data.
    let lost = await resumed().fails();
    while (lost.error === "TOPIC_NOT_READY" || lost.earliest.length < 2) {
      lost = await resumed().fails();
    }
    expect(lost.error).toBe("POSITION_LOST");
    expect(lost.earliest.map(({ offset }) => offset)).toEqual([0n, 0n]);
    const restarted = bed.subscriber([server.address], {
      topic: "recreated",
      start: at(token),
      recovery: RECOVERY_EARLIEST,
    });
    const notice = await restarted.told("restarted", 2);
    expect(notice.value).toMatchObject({ toOffset: 0n, loss: LOSS_GONE });
    await bed.expectWhole(made, restarted);
    // What was live when it happened goes on by itself.
    for (const one of live) {
      expect(one.breaks[0]?.error.error).toBe("TOPIC_GONE");
      expect((await one.told("restarted", 2)).value).toMatchObject({ loss: LOSS_GONE });
      one.seen.splice(0, 50);
    }
    await bed.expectWhole(made, live);
  },
  SLOW_MS,
);

test(
  "P2: retention passes a client that takes nothing: POSITION_LOST names the earliest, presets restart with a notice",
  async () => {
    const topic = await bed.topic("retention", { partitions: 1 });
    // Little stays in memory, so that clients do not find there what Kafka has removed.
    const small = await bed.server(
      ["retention"],
      ...["--tail-partition-bytes", "64Ki", "--fetch-bytes", "64Ki"],
      ...["--alone-stall-ms", "50", "--shared-stall-ms", "50"],
    );
    const credit = { events: 1n, bytes: 0n };
    const fails = rawStream(small.address, { topic: "retention", credit });
    const earliest = rawStream(small.address, {
      ...{ topic: "retention", credit, recovery: RECOVERY_EARLIEST },
    });
    const latest = rawStream(small.address, {
      ...{ topic: "retention", credit, recovery: RECOVERY_LATEST },
    });
    const all = [fails, earliest, latest];
    await bed.append(topic, 0, 1);
    for (const raw of all) await raw.until(() => raw.down.some(({ $case }) => $case === "batch"));
    for (let from = 1; from < 8000; from += 500) await bed.append(topic, from, 500);
    const witness = rawStream(small.address, {
      topic: "retention",
      start: { at: { $case: "latest", value: {} } },
    });
    await witness.until(() => witness.down.length > 0);
    await until(async () => (await small.metric("catch_up_bytes")) === 0);
    const partitions = [{ partition: 0, offset: "4000" }];
    await admin.fetchTopicOffsets(topic.name);
    await admin.deleteTopicRecords({ topic: topic.name, partitions });
    for (const raw of all) raw.send({ $case: "credit", value: { events: 10_000n, bytes: 0n } });
    const lost = await fails.fails();
    expect(lost).toMatchObject({
      error: "POSITION_LOST",
      earliest: [{ partition: 0, offset: 4000n }],
    });
    for (const [raw, to] of [
      [earliest, 4000n],
      [latest, 8001n],
    ] as const) {
      await raw.until(() => raw.down.some(({ $case }) => $case === "restarted"));
      const notice = raw.down.find((message) => message.$case === "restarted");
      expect(notice?.value).toMatchObject({ fromOffset: 1n, toOffset: to, loss: LOSS_RETENTION });
    }
    await bed.append(topic, 8001, 10);
    const had = (raw: typeof latest): number =>
      raw.down.reduce((sum, m) => sum + (m.$case === "batch" ? m.value.events.length : 0), 0);
    await earliest.until(() => had(earliest) === 1 + 4001 + 10);
    await latest.until(() => had(latest) === 1 + 10);
    for (const raw of [...all, witness]) raw.close();
  },
  SLOW_MS,
);
