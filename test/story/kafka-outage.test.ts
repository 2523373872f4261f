/**
 * Kafka fails under a server: its only broker is killed, it is absent at the start, its connections
 * freeze, are slow, or are reset again and again. Streams stay open and go on by themselves (P1, P2, P3).
 */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { ThroughlineError } from "../../client/errors.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import { FaultProxy, type ProxiedConnection } from "../faults/fault-proxy.ts";
import { readCommitted } from "../kafka/witness.ts";
import { Load, LoneBed, SLOW_MS } from "./bed.ts";
import { Counting, expectExactlyOnce } from "./counting.ts";
import { newEvent } from "./publisher.ts";
import { EARLIEST, rawStream } from "./subscriber.ts";
import { until } from "./waits.ts";

const FETCH = 1;
const WAITS_FOR_KAFKA = 2;
const READS_STALLED = 4;

/** Before Kafka for the servers; the witness and the publishers of most stories go past its faults. */
let proxy: FaultProxy;
let bed: LoneBed;
/** Connections that have asked for events: the live polls and the catalog's. */
const readers = new Set<ProxiedConnection>();
let readersFrozen = false;
/** The reader that brought events last; what brings none is smaller. */
let brought: ProxiedConnection | undefined;
const SOME_BYTES = 400;

beforeAll(async () => {
  proxy = await FaultProxy.listen({
    onUp: (connection, bytes) => {
      if (readers.has(connection) || bytes.length < 6 || bytes.readInt16BE(4) !== FETCH) return;
      readers.add(connection);
      if (readersFrozen) connection.fault({ kind: "freeze" });
    },
    onDown: (connection, bytes) => {
      if (readers.has(connection) && bytes.length > SOME_BYTES) brought = connection;
    },
  });
  bed = await LoneBed.open({ through: proxy });
}, SLOW_MS);

afterAll(async () => {
  await bed?.close();
  await proxy?.close();
}, SLOW_MS);

test(
  "the broker is killed and comes back: streams say what they wait for, publishers hear it, and all goes on",
  async () => {
    const topic = await bed.topic("killed", { partitions: 3 });
    const server = await bed.server(["killed"]);
    const publisher = new ThroughlineClient([server.address]);
    const subscriber = bed.subscriber([server.address], { topic: "killed", start: EARLIEST });
    const raw = rawStream(server.address, { topic: "killed" });
    await bed.append(topic, 0, 500);
    await subscriber.has(500);
    await bed.kafka.kill(1);
    const heard = publisher.publish("killed", [newEvent(500)]).then(
      ([result]) => (result?.result?.$case === "error" ? result.result.value.name : "acknowledged"),
      (error: ThroughlineError) => error.error,
    );
    await raw.until(
      () => raw.down.at(-1)?.$case === "heartbeat" && waitsFor(raw.down.at(-1)) === WAITS_FOR_KAFKA,
    );
    expect((await server.isReady()).ready).toBe(true);
    expect(["KAFKA_UNAVAILABLE", "OUTCOME_UNKNOWN"]).toContain(await heard);
    await bed.kafka.startNode(1);
    await raw.until(() => waitsFor(raw.down.at(-1)) === 0);
    await bed.append(topic, 501, 500);
    await bed.expectWhole(topic, subscriber);
    // Nobody had to open again.
    expect([subscriber.breaks, raw.failure()]).toEqual([[], undefined]);
    raw.close();
    publisher.close();
  },
  SLOW_MS,
);

test(
  "P1 P7: the broker with the only replica is killed again and again under named publishers: every number is in the log once, in order",
  async () => {
    const names = Array.from({ length: 6 }, (_, i) => `numbered-${i}`);
    const topics = await Promise.all(names.map((name) => bed.topic(name, { partitions: 2 })));
    const servers = [await bed.server(names), await bed.server(names)];
    const addresses = servers.map(({ address }) => address);
    const counting = names.map((name) => new Counting(addresses, name, "counter"));
    for (let kills = 0; kills < 3; kills++) {
      await Promise.all(counting.map((one) => one.more(100)));
      await bed.kafka.kill(1);
      await bed.kafka.startNode(1);
    }
    await Promise.all(counting.map((one) => one.more(100)));
    for (const [i, one] of counting.entries()) {
      expect(await one.stop()).toBeUndefined();
      // To its end: nothing is left open, before which readers would wait.
      const log = await readCommitted(bed.log, bed.part.kafkajs(), topics[i] as TopicInfo);
      expectExactlyOnce(log, [one]);
    }
  },
  SLOW_MS,
);

test(
  "P2: all connections to Kafka are reset again and again under load: nothing is lost or repeated",
  async () => {
    const topic = await bed.topic("reset", { partitions: 3 });
    const server = await bed.server(["reset"]);
    const live = bed.subscriber([server.address], { topic: "reset", start: EARLIEST });
    const slow = bed.subscriber([server.address], {
      topic: "reset",
      start: EARLIEST,
      creditEvents: 50,
    });
    const load = new Load((from, count) => bed.append(topic, from, count));
    for (let i = 0; i < 8; i++) {
      await live.has(live.seen.length + 100);
      proxy.reset();
    }
    await load.stop();
    await bed.expectWhole(topic, [live, slow]);
    expect([live.breaks, slow.breaks]).toEqual([[], []]);
  },
  SLOW_MS,
);

test(
  "a slow Kafka is only slow",
  async () => {
    const topic = await bed.topic("slow", { partitions: 2 });
    const server = await bed.server(["slow"]);
    const subscriber = bed.subscriber([server.address], { topic: "slow", start: EARLIEST });
    await subscriber.told("opened");
    proxy.fault({ kind: "slow", delayMs: 150 });
    try {
      await bed.append(topic, 0, 200);
      await subscriber.has(200);
      expect((await server.isReady()).ready).toBe(true);
    } finally {
      proxy.heal();
    }
    await bed.expectWhole(topic, subscriber);
    expect(subscriber.breaks).toEqual([]);
  },
  SLOW_MS,
);

test.each<[string, string, () => Iterable<ProxiedConnection>]>([
  ["reads freeze", "frozen", () => readers],
  ["one partition's reads freeze", "frozen-one", () => (brought ? [brought] : [])],
])(
  "%s while look-ups work: streams are told to move, the server is not ready; both end with the freeze",
  async (_what, name, frozen) => {
    const topic = await bed.topic(name, { partitions: 2 });
    const server = await bed.server([name], "--reads-stalled-ms", "2000");
    const raw = rawStream(server.address, { topic: name, start: undefined });
    await raw.until(() => raw.down.length > 0);
    await bed.append(topic, 0, 100);
    await raw.until(() => raw.down.some(({ $case }) => $case === "batch"));
    readersFrozen = true;
    // Also those that a reader opens anew, while the others keep theirs.
    for (const connection of frozen()) connection.fault({ kind: "freeze" });
    try {
      await raw.until(() => raw.down.some(({ $case }) => $case === "moving"));
      const moving = raw.down.find((message) => message.$case === "moving");
      expect(moving?.value).toMatchObject({ reason: READS_STALLED, deadlineMs: 0n });
      expect(await server.isReady()).toEqual({ ready: false, why: "reads from Kafka stall" });
    } finally {
      readersFrozen = false;
      for (const connection of readers) connection.fault({ kind: "none" });
    }
    await server.said("reads from Kafka go on");
    await until(async () => (await server.isReady()).ready);
    await bed.append(topic, 100, 100);
    const subscriber = bed.subscriber([server.address], { topic: name, start: EARLIEST });
    await bed.expectWhole(topic, subscriber);
    expect(raw.failure()).toBeUndefined();
    raw.close();
  },
  SLOW_MS,
);

test(
  "Kafka is absent at the start and comes later: the server begins to serve by itself",
  async () => {
    const absent = await FaultProxy.listen();
    const topic = await bed.topic("absent");
    await bed.append(topic, 0, 50);
    const server = bed.spawn("--kafka", absent.address);
    await server.said("serving");
    await server.said("waiting for the catalog");
    expect((await server.isReady()).ready).toBe(false);
    absent.target = proxy.port;
    await server.ready();
    const subscriber = bed.subscriber([server.address], { topic: "absent", start: EARLIEST });
    await bed.expectWhole(topic, subscriber);
    await server.kill();
    await absent.close();
  },
  SLOW_MS,
);

function waitsFor(message: { $case: string; value: unknown } | undefined): number | undefined {
  return message?.$case === "heartbeat"
    ? (message.value as { waitsFor: number }).waitsFor
    : undefined;
}
