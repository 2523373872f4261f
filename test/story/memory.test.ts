/**
 * P6 on a real server process as the image ships it, with its default limits: 1,000 clients that do not read and ten catch-ups
 * from old positions, over a topic of 256 MB, leave its resident memory bounded and honest readers
 * unharmed.
 */
import { readFileSync } from "node:fs";
import { type ClientHttp2Session, connect } from "node:http2";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { TopicInfo } from "../../kafka/log.ts";
import {
  SubscribeRequest,
  ThroughlineServiceService,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { Bed, Load, numbered, SLOW_MS } from "./bed.ts";
import type { StoryServer } from "./story-server.ts";
import { EARLIEST, openOf } from "./subscriber.ts";
import { until } from "./waits.ts";

/** A container limit that the defaults must fit. */
const LIMIT_BYTES = 256 * 2 ** 20;
const LIVE_EVENTS = 2000;
const CAUGHT_UP_EVENTS = 200;
const CLIENTS = 1000;
const CONNECTIONS = 40;
const STREAM_WINDOW_BYTES = 256 << 10;
const CATCH_UPS = 10;
const PARTITIONS = 6;
const EVENT_BYTES = 2000;
const EVENTS = 128_000;

let bed: Bed;

beforeAll(async () => {
  bed = await Bed.open();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

/**
 * The most memory of its own that the process ever had. Pages of its program's file are resident, too (54 MiB, once it
 * runs): the kernel takes those back before it ends anything for a container's limit.
 */
function peakBytes(server: StoryServer): number {
  const text = readFileSync(`/proc/${server.child.pid}/status`, "utf8");
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) * 1024;
  return bytes("VmHWM") - bytes("RssFile");
}

/** 256 MB over all partitions, appended a few MB at a time. */
async function fill(topic: TopicInfo): Promise<void> {
  for (let from = 0; from < EVENTS; from += 4000) {
    await Promise.all(
      Array.from({ length: 4000 }, (_, i) =>
        bed.log.append(topic, null, numbered(from + i, EVENT_BYTES)),
      ),
    );
  }
}

/**
 * Opens streams with large credit whose messages nobody reads. HTTP/2 itself, since a gRPC client whose
 * call is paused goes on to take messages into its own memory.
 */
function deafClients(address: string): { close(): void } {
  const { path } = ThroughlineServiceService.subscribe;
  const sessions = Array.from({ length: CONNECTIONS }, () => {
    const settings = { initialWindowSize: STREAM_WINDOW_BYTES };
    const session = connect(`http://${address}`, { settings });
    session.on("error", () => {});
    session.on("connect", () =>
      session.setLocalWindowSize((STREAM_WINDOW_BYTES * CLIENTS) / CONNECTIONS),
    );
    return session;
  });
  for (let i = 0; i < CLIENTS; i++) {
    const open: SubscribeRequest = {
      kind: {
        $case: "open",
        value: openOf({
          topic: "large",
          start: { at: i % 2 === 0 ? EARLIEST : { $case: "latest", value: {} } },
          credit: { events: 1_000_000_000n, bytes: 0n },
        }),
      },
    };
    const message = Buffer.from(SubscribeRequest.encode(open).finish());
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    const stream = (sessions[i % CONNECTIONS] as ClientHttp2Session).request({
      ...{ ":method": "POST", ":path": path },
      ...{ "content-type": "application/grpc", te: "trailers" },
    });
    stream.on("error", () => {});
    stream.pause();
    stream.write(Buffer.concat([head, message]));
  }
  return {
    close: () => {
      for (const session of sessions) session.destroy();
    },
  };
}

test(
  "P6: 1,000 clients that do not read and ten catch-ups: bounded memory, and honest readers are unharmed",
  async () => {
    const topic = await bed.topic("large", { partitions: PARTITIONS });
    await fill(topic);
    const server = await bed.server(["large"]);
    const start = { $case: "latest", value: {} } as const;
    const honest = [1, 2].map(() => bed.subscriber([server.address], { topic: "large", start }));
    for (const reader of honest) await reader.told("opened");
    const deaf = deafClients(server.address);
    bed.onClose(async () => deaf.close());
    await until(async () => (await server.metric("streams")) >= CLIENTS + honest.length);
    const load = new Load((from, count) => bed.append(topic, from, count), EVENTS);
    const behind = Array.from({ length: CATCH_UPS }, (_, i) =>
      bed.subscriber([server.address], {
        topic: "large",
        start: EARLIEST,
        // Each on a pace of its own, so that they do not all share one catch-up.
        creditEvents: 200 * (i + 1),
      }),
    );
    await load.more(LIVE_EVENTS);
    for (const reader of behind) await reader.has(CAUGHT_UP_EVENTS);
    const appended = (await load.stop()) - EVENTS;
    for (const reader of honest) await reader.has(appended);
    for (const reader of honest) {
      expect([reader.seen.length, reader.breaks]).toEqual([appended, []]);
    }
    expect(peakBytes(server)).toBeLessThan(LIMIT_BYTES);
  },
  SLOW_MS,
);
