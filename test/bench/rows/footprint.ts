/** Memory and start-up of the server as shipped. */
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  SubscribeRequest,
  ThroughlineServiceService,
} from "../../../proto/gen/throughline/v1/throughline.ts";
import { type Bed, type BenchServer, pause } from "../bed.ts";
import type { Figure } from "../figures.ts";
import { fill } from "../fill.ts";
import { round } from "../subscribers.ts";
import type { Scale } from "./backlog.ts";

const MIB = 1 << 20;
const CONNECTIONS = 50;
const STREAMS = 3000;
const SETTLE_MS = 3000;

export async function footprint(bed: Bed, { runs, share }: Scale): Promise<Figure[]> {
  const topic = await bed.topic("footprint");
  const events = await fill(bed.kafka.brokers, topic, { events: 5_000_000 * share });
  const idle: number[] = [];
  const ready: number[] = [];
  const after: number[] = [];
  const perConnection: number[] = [];
  const perStream: number[] = [];
  for (let i = 0; i < runs; i++) {
    const server = await bed.server();
    ready.push(server.readyMs);
    await pause(2000);
    idle.push(server.rssBytes() / MIB);
    const held = await idleStreams(server);
    perConnection.push(held.kibPerConnection);
    perStream.push(held.kibPerStream);
    await server.stop();
    const busy = await bed.server();
    await round(busy, { topic: "footprint", events, clients: 1, mode: "walk" });
    await pause(10_000);
    after.push(busy.rssBytes() / MIB);
    await busy.stop();
  }
  return [
    { what: "idle server, resident", unit: "MiB", ours: idle, goal: { atMost: 85 } },
    {
      what: "ten seconds after a backlog, resident",
      unit: "MiB",
      ours: after,
      goal: { atMost: 110 },
    },
    { what: "ready after its start", unit: "ms", ours: ready, goal: { atMost: 500 } },
    { what: "per connection without a stream", unit: "KiB", ours: perConnection },
    { what: `per idle stream, of ${STREAMS}`, unit: "KiB", ours: perStream, goal: { atMost: 30 } },
  ];
}

async function idleStreams(server: BenchServer) {
  const started = server.rssBytes();
  const clients = Array.from(
    { length: CONNECTIONS },
    () =>
      new Client(server.address, credentials.createInsecure(), {
        "grpc.use_local_subchannel_pool": 1,
      }),
  );
  await Promise.all(clients.map(connected));
  await pause(SETTLE_MS);
  const withConnections = server.rssBytes();
  await Promise.all(
    Array.from({ length: STREAMS }, (_, i) => opened(clients[i % CONNECTIONS] as Client)),
  );
  await pause(SETTLE_MS);
  const grown = server.rssBytes() - withConnections;
  for (const client of clients) client.close();
  return {
    kibPerConnection: (withConnections - started) / CONNECTIONS / 1024,
    kibPerStream: grown / STREAMS / 1024,
  };
}

function connected(client: Client): Promise<void> {
  return new Promise((resolve, reject) =>
    client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve())),
  );
}

/** Opens a stream at the end of the topic; resolves at its first message. */
function opened(client: Client): Promise<void> {
  const { path } = ThroughlineServiceService.subscribe;
  const pass = (bytes: Buffer): Buffer => bytes;
  const call = client.makeBidiStreamRequest(path, pass, pass, new Metadata());
  const open = {
    ...{ topic: "footprint", start: undefined, filter: undefined, session: undefined },
    ...{ recovery: 0 as const, maxFrameBytes: 0, heartbeatMs: 60_000 },
    credit: { events: 1000n, bytes: 0n },
  };
  call.write(
    Buffer.from(SubscribeRequest.encode({ kind: { $case: "open", value: open } }).finish()),
  );
  return new Promise((resolve, reject) => {
    call.once("data", () => resolve());
    call.on("error", (error) => reject(error));
  });
}
