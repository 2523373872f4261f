/** Handoff between two real servers: one is killed, drained or refused, and the stream goes on. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { Bed, Load, SLOW_MS } from "./bed.ts";
import { EARLIEST, rawStream } from "./subscriber.ts";
import { Waits } from "./waits.ts";

let bed: Bed;

beforeAll(async () => {
  bed = await Bed.open();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

test(
  "P1 P2 P3 P4: a server killed in mid-stream: its clients go on elsewhere, with several partitions and a filter",
  async () => {
    const topic = await bed.topic("killed", { partitions: 4 });
    // Small tails, so that a client that was away needs a catch-up and not only the tail.
    const flags = ["--tail-partition-bytes", "64Ki"];
    let a = await bed.server(["killed"], ...flags);
    const b = await bed.server(["killed"], ...flags);
    const load = new Load((from, count) => bed.append(topic, from, count));
    const options = { topic: "killed", start: EARLIEST };
    const all = [
      bed.subscriber([a.address, b.address], options),
      bed.subscriber([b.address, a.address], options),
    ];
    const odd = bed.subscriber([a.address, b.address], {
      ...options,
      filter: { keys: [], types: ["odd"], headers: [] },
    });
    const slow = bed.subscriber([a.address, b.address], { ...options, creditEvents: 40 });
    for (const subscriber of [...all, odd, slow]) await subscriber.has(200);
    const { address } = a;
    await a.kill();
    for (const subscriber of [...all, odd, slow])
      await subscriber.has(subscriber.seen.length + 500);
    a = await bed.server(["killed"], ...flags, "--listen", address);
    await b.kill();
    for (const subscriber of [...all, odd, slow])
      await subscriber.has(subscriber.seen.length + 500);
    await load.stop();
    await bed.expectWhole(topic, [...all, slow]);
    await bed.expectWhole(topic, odd, ({ value }) => Number(value) % 2 === 1);
    expect(all[0]?.breaks.length).toBeGreaterThan(0);
    expect(new Set(all[0]?.notices.map((told) => told.address)).size).toBe(2);
  },
  SLOW_MS,
);

test(
  "SIGTERM: streams are told to move with deadline and token, new ones are refused, clients leave, exit code 0",
  async () => {
    const topic = await bed.topic("drained", { partitions: 2 });
    const a = await bed.server(["drained"]);
    const b = await bed.server(["drained"]);
    const load = new Load((from, count) => bed.append(topic, from, count));
    const client = bed.subscriber([a.address, b.address], { topic: "drained", start: EARLIEST });
    const raw = rawStream(a.address, { topic: "drained" });
    await client.has(200);
    await raw.until(() => raw.down.length > 1);
    const before = Date.now();
    a.signal("SIGTERM");
    await raw.until(() => raw.down.some(({ $case }) => $case === "moving"));
    const moving = raw.down.find((message) => message.$case === "moving");
    expect(moving?.value.reason).toBe(1);
    expect(Number(moving?.value.deadlineMs) - before).toBeGreaterThan(15_000);
    expect(Number(moving?.value.deadlineMs) - before).toBeLessThan(60_000);
    const late = rawStream(a.address, { topic: "drained" });
    expect((await late.fails()).error).toBe("DRAINING");
    late.close();
    expect((await a.isReady()).why).toBe("draining");

    // Its token is taken elsewhere, and what follows it there is what would have followed here.
    const { token } = moving?.value ?? { token: Buffer.alloc(0) };
    const at = raw.down.findIndex(({ $case }) => $case === "moving");
    const had = eventsOf(raw.down.slice(0, at));
    raw.close();
    const resumed = bed.subscriber([b.address], {
      topic: "drained",
      start: { $case: "token", value: { token, after: [] } },
    });
    // The library leaves by itself: it need not wait for the deadline.
    expect(await a.ended).toBe(0);
    expect(Date.now()).toBeLessThan(Number(moving?.value.deadlineMs));
    await client.has(client.seen.length + 200);
    await load.stop();
    const log = await bed.expectWhole(topic, client);
    await resumed.has(log.length - had);
    expect(resumed.seen.length + had).toBe(log.length);
  },
  SLOW_MS,
);

test(
  "streams of one client that are told to move together are refused nowhere on their way",
  async () => {
    await bed.topic("together", { partitions: 1 });
    const [a, b] = [await bed.server(["together"]), await bed.server(["together"])];
    const client = new ThroughlineClient([a.address, b.address]);
    const abort = new AbortController();
    const waits = new Waits();
    const opened: string[] = [];
    const broken: string[] = [];
    const streams = Array.from({ length: 4 }, async () => {
      const batches = client.subscribe({
        ...{ topic: "together", signal: abort.signal },
        onNotice: ({ $case }, address) => {
          if ($case === "opened") opened.push(address);
          waits.changed();
        },
        onBreak: ({ error }) => broken.push(error),
      });
      for await (const _ of batches);
    });
    await waits.until(() => opened.length === 4);
    a.signal("SIGTERM");
    await waits.until(() => opened.length >= 8);
    expect(opened.slice(4)).toEqual([b.address, b.address, b.address, b.address]);
    expect(broken).toEqual([]);
    abort.abort();
    await Promise.all(streams);
    client.close();
  },
  SLOW_MS,
);

test(
  "behind one address, as a Service has, clients of a server that drains go on at another before it has ended",
  async () => {
    const topic = await bed.topic("service", { partitions: 2 });
    const [a, b] = [await bed.server(["service"]), await bed.server(["service"])];
    const service = await FaultProxy.listen({ target: Number(a.address.split(":")[1]) });
    const client = bed.subscriber([service.address], { topic: "service", start: EARLIEST });
    const publisher = new ThroughlineClient([service.address]);
    const event = { key: undefined, payload: undefined, headers: [], type: "", timeMs: undefined };
    await client.told("opened");
    await publisher.publish("service", [event]);
    const stays = rawStream(a.address, { topic: "service" });
    await stays.until(() => stays.down.length > 0);

    service.target = Number(b.address.split(":")[1]);
    a.signal("SIGTERM");
    await client.told("opened", 2);
    const [answer] = await publisher.publish("service", [event]);
    expect(answer?.result?.$case).toBe("position");
    await client.has(2);
    expect(stays.failure()).toBeUndefined();
    stays.close();
    expect(await a.ended).toBe(0);
    await bed.expectWhole(topic, client);
    publisher.close();
    await client.stop();
    await service.close();
  },
  SLOW_MS,
);

test(
  "a client that stays holds a drain until its deadline, and a second SIGTERM ends it at once",
  async () => {
    await bed.topic("stays", { partitions: 1 });
    const a = await bed.server(["stays"], "--drain-ms", "300");
    const b = await bed.server(["stays"], "--drain-ms", "60000");
    for (const [server, again, code] of [
      [a, false, 0],
      [b, true, 1],
    ] as const) {
      const raw = rawStream(server.address, { topic: "stays" });
      await raw.until(() => raw.down.length > 0);
      server.signal("SIGTERM");
      await raw.until(() => raw.down.some(({ $case }) => $case === "moving"));
      if (again) server.signal("SIGTERM");
      expect(await server.ended).toBe(code);
      expect((await raw.fails()).retryable).toBe(true);
      raw.close();
    }
  },
  SLOW_MS,
);

function eventsOf(down: readonly { $case: string; value: unknown }[]): number {
  return down.reduce(
    (sum, { $case, value }) =>
      sum + ($case === "batch" ? (value as { events: unknown[] }).events.length : 0),
    0,
  );
}
