/** Clients that fail, or misbehave, and the way between client and server: nobody else is harmed (P6, P10). */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import type { TopicInfo } from "../../kafka/log.ts";
import type { SubscribeRequest } from "../../proto/gen/throughline/v1/throughline.ts";
import { type Fault, FaultProxy } from "../faults/fault-proxy.ts";
import { Bed, Load, SLOW_MS } from "./bed.ts";
import { newEvent } from "./publisher.ts";
import type { StoryServer } from "./story-server.ts";
import { EARLIEST, openOf, rawStream } from "./subscriber.ts";
import { until } from "./waits.ts";

const INVALID = "INVALID_REQUEST";

let bed: Bed;
let topic: TopicInfo;
let a: StoryServer;
let b: StoryServer;
/** Resolves with the milliseconds that it took; the other tests need not wait for that. */
let freed: Promise<number>;

beforeAll(async () => {
  bed = await Bed.open();
  topic = await bed.topic("orders", { partitions: 3 });
  a = await bed.server(["orders"]);
  b = await bed.server(["orders"]);
  freed = freedBehindADeadConnection(await bed.server(["orders"]));
  freed.catch(() => {}); // Its own test tells.
}, SLOW_MS);

afterAll(async () => {
  await bed?.close();
}, SLOW_MS);

/** Waits for a gauge of a server to be as said. */
async function gauge(server: StoryServer, name: string, value: number): Promise<void> {
  await until(async () => (await server.metric(name)) === value);
}

async function freedBehindADeadConnection(server: StoryServer): Promise<number> {
  const proxy = await FaultProxy.listen({ target: Number(server.address.split(":")[1]) });
  const raw = rawStream(proxy.address, { topic: "orders", start: undefined });
  await raw.until(() => raw.down.length > 0);
  await gauge(server, "streams", 1);
  proxy.fault({ kind: "freeze" });
  const begun = performance.now();
  await gauge(server, "streams", 0);
  const tookMs = performance.now() - begun;
  raw.close();
  await proxy.close();
  return tookMs;
}

test.each<[string, Fault]>([
  ["freezes", { kind: "freeze" }],
  ["loses what the server says", { kind: "lose", way: "down" }],
])(
  "P4: the way to the server %s: the library notices the silence and goes on elsewhere",
  async (_what, fault) => {
    const proxy = await FaultProxy.listen({ target: Number(a.address.split(":")[1]) });
    const load = new Load((from, count) => bed.append(topic, from, count));
    const client = bed.subscriber([proxy.address, b.address], { topic: "orders", start: EARLIEST });
    await client.has(100);
    proxy.fault(fault);
    await client.told("opened", 2);
    await client.has(client.seen.length + 100);
    await load.stop();
    expect(client.notices.map(({ address }) => address)).toEqual([proxy.address, b.address]);
    await bed.expectWhole(topic, client);
    await client.stop();
    await proxy.close();
  },
  SLOW_MS,
);

test(
  "P6: a client that never reads harms nobody, and goes on later with its token",
  async () => {
    const deaf = rawStream(a.address, {
      topic: "orders",
      credit: { events: 1_000_000n, bytes: 0n },
    });
    await deaf.until(() => deaf.down.some(({ $case }) => $case === "batch"));
    deaf.call.pause();
    const others = [1, 2, 3].map(() =>
      bed.subscriber([a.address], { topic: "orders", start: EARLIEST }),
    );
    const end = await a.metric("published_events_total");
    expect(end).toBe(0);
    for (let from = 100_000; from < 120_000; from += 1000) await bed.append(topic, from, 1000);
    await bed.expectWhole(topic, others);
    deaf.call.resume();
    await deaf.until(() => deaf.down.length > 10);
    const taken = deaf.down.flatMap((m) => (m.$case === "batch" ? [m.value] : []));
    const had = taken.reduce((sum, { events }) => sum + events.length, 0);
    const token = taken.at(-1)?.token as Buffer;
    deaf.close();
    const log = await bed.read(topic);
    const later = bed.subscriber([b.address], {
      topic: "orders",
      start: { $case: "token", value: { token, after: [] } },
    });
    await later.has(log.length - had);
    expect(later.seen.length + had).toBe(log.length);
  },
  SLOW_MS,
);

test.each<[string, NonNullable<SubscribeRequest["kind"]>]>([
  ["credit of zero", { $case: "credit", value: { events: 0n, bytes: 0n } }],
  ["negative credit", { $case: "credit", value: { events: -5n, bytes: 0n } }],
  ["huge credit", { $case: "credit", value: { events: 10n ** 15n, bytes: 0n } }],
  [
    "credit beyond what may be outstanding",
    { $case: "credit", value: { events: 10n ** 9n, bytes: 0n } },
  ],
  ["a second open", { $case: "open", value: openOf({ topic: "orders" }) }],
  ["an ack without a session", { $case: "ack", value: { positions: [], token: Buffer.alloc(0) } }],
])(
  "P10: %s in mid-stream ends this stream by name, and no other",
  async (_what, message) => {
    const other = rawStream(a.address, { topic: "orders", start: undefined });
    const raw = rawStream(a.address, { topic: "orders", start: undefined });
    for (const stream of [other, raw]) await stream.until(() => stream.down.length > 0);
    raw.send(message);
    expect((await raw.fails()).error).toBe(INVALID);
    const beats = other.down.length;
    await other.until(() => other.down.length > beats);
    expect(other.failure()).toBeUndefined();
    raw.close();
    other.close();
  },
  SLOW_MS,
);

test(
  "P10: bytes that are no message of ours end the stream by name",
  async () => {
    const raw = rawStream(a.address, { topic: "orders", start: undefined });
    await raw.until(() => raw.down.length > 0);
    // An object whose fields the generated encoder does not know becomes an empty message.
    raw.call.write({ kind: undefined });
    expect((await raw.fails()).error).toBe(INVALID);
    raw.close();
  },
  SLOW_MS,
);

test(
  "a flood of credit is taken, and the server goes on",
  async () => {
    const raw = rawStream(a.address, { topic: "orders", credit: { events: 1n, bytes: 0n } });
    await raw.until(() => raw.down.length > 1);
    for (let i = 0; i < 20_000; i++)
      raw.send({ $case: "credit", value: { events: 1n, bytes: 0n } });
    const had = (): number =>
      raw.down.reduce((sum, m) => sum + (m.$case === "batch" ? m.value.events.length : 0), 0);
    await raw.until(() => had() > 20_000);
    expect(had()).toBe(20_001);
    expect(raw.failure()).toBeUndefined();
    raw.close();
  },
  SLOW_MS,
);

test.each<[string, number, number, (proxy: FaultProxy) => void]>([
  ["never comes, ends in time and", 1_000_000, 2000, () => {}],
  ["is lost with the connection, ends then and", 2_000_000, 60_000, (proxy) => proxy.reset()],
])(
  "P7: a publish whose answer %s is not said to be unsent: the event is in the topic",
  async (_what, first, publishTimeoutMs, breaks) => {
    const proxy = await FaultProxy.listen({ target: Number(a.address.split(":")[1]) });
    const client = new ThroughlineClient([proxy.address], { publishTimeoutMs });
    const [result] = await client.publish("orders", [newEvent(first)]);
    expect(result?.result?.$case).toBe("position");
    const published = await a.metric("published_events_total");
    proxy.fault({ kind: "lose", way: "down" });
    const failure = client.publish("orders", [newEvent(first + 1)]).catch((error) => error);
    await gauge(a, "published_events_total", published + 1);
    breaks(proxy);
    expect(await failure).toMatchObject({ error: "OUTCOME_UNKNOWN", retryable: true });
    const values = (await bed.read(topic)).map(({ value }) => value);
    expect(values).toContain(String(first + 1));
    client.close();
    await proxy.close();
  },
  SLOW_MS,
);

test(
  "P6: a server frees the stream of a client behind a dead connection within its keepalive",
  async () => {
    expect(await freed).toBeLessThan(45_000);
  },
  SLOW_MS,
);

test("P7: a publish that found no server is said to be unsent", async () => {
  const nobody = await FaultProxy.listen();
  await nobody.close();
  const client = new ThroughlineClient([nobody.address]);
  const failure = await client.publish("orders", [newEvent(0)]).catch((error) => error);
  expect([failure.error, failure.retryable]).toEqual(["UNREACHABLE", true]);
  client.close();
});
