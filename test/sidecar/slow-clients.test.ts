/** P6 over real gRPC: what clients that do not read can do to others, with one catch-up dispatcher for all. */
import { credentials } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import { makeLogger } from "../../process/logger.ts";
import {
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../proto/gen/throughline/v1/throughline.ts";
import type { Config } from "../../sidecar/config.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";

const EVENTS = 3000;
const PARTITIONS = 2;
const CONFIG: Config = {
  ...{ listen: "127.0.0.1:0", healthListen: undefined, shape: "gateway", tls: undefined },
  ...{
    kafka: { brokers: [], tls: undefined, sasl: undefined },
    sessionStore: undefined,
    deploymentId: "test",
  },
  ...{ clusterUid: undefined, namespace: "shop", serverName: "A", logLevel: "silent" },
  // A client that does not read would hold the only catch-up dispatcher for ten minutes.
  limits: {
    ...DEFAULT_LIMITS,
    ...{ catchUpDispatchers: 1, catchUpBytes: 1 << 20, fetchBytes: 64 << 10 },
    ...{ shareDistanceBytes: 0, sharedStallMs: 20, aloneStallMs: 600_000 },
  },
};

let log: MemoryLog;
let server: RunningServer;
const closing: (() => void)[] = [];

beforeEach(async () => {
  log = new MemoryLog();
  const reconciler = new Reconciler(log, await CatalogWriter.open(log, "test", () => 1));
  const metadata = { name: "orders", namespace: "shop" };
  const owner = { uid: "u", generation: 1, clusterUid: "" };
  await reconciler.apply({ metadata, spec: { partitions: PARTITIONS } }, owner);
  server = await startServer(CONFIG, log, makeLogger("silent", "A"));
  const stub = new ThroughlineServiceClient(server.address, credentials.createInsecure());
  closing.push(() => stub.close());
  // Until the catalog was read every call is refused.
  for (let read = false; !read; ) {
    read = await new Promise<boolean>((resolve) =>
      stub.listTopics({}, (error) => resolve(error === null)),
    );
  }
});

afterEach(async () => {
  for (const close of closing.splice(0)) close();
  await server.close();
  await log.close();
});

/** Half of the events with time 1, half with time 2, in batches of so many. */
function fill(batch: number): void {
  const value = Buffer.alloc(1000, "x");
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for (let made = 0; made < EVENTS; made += batch) {
      const record = { key: null, value, headers: [], timeMs: made < EVENTS / 2 ? 1 : 2 };
      log.appendNow("shop.orders", partition, Array(batch).fill(record));
    }
  }
}

/** A stream from the middle of the log that takes its first messages and then nothing more. */
async function deaf(): Promise<void> {
  const stub = new ThroughlineServiceClient(server.address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const call = stub.subscribe();
  call.on("error", () => {});
  closing.push(() => {
    call.cancel();
    stub.close();
  });
  call.write({
    kind: {
      $case: "open",
      value: {
        ...{ topic: "orders", start: { at: { $case: "timeMs", value: 2n } }, recovery: 0 },
        ...{ filter: undefined, session: undefined, maxFrameBytes: 0, heartbeatMs: 60_000 },
        credit: { events: 1_000_000n, bytes: 0n },
      },
    },
  });
  await new Promise<void>((resolve) => {
    call.on("data", ({ kind }: SubscribeResponse) => {
      if (kind?.$case !== "opened") return;
      call.pause();
      resolve();
    });
  });
}

/** How many events a client that reads gets, up to all there are. */
async function receive(): Promise<number> {
  const client = new ThroughlineClient([server.address]);
  closing.push(() => client.close());
  let received = 0;
  for await (const { events } of client.subscribe({
    topic: "orders",
    start: { $case: "earliest", value: {} },
  })) {
    received += events.length;
    if (received === EVENTS * PARTITIONS) break;
  }
  return received;
}

test("batches larger than the window of a catch-up pass through it", async () => {
  fill(EVENTS / 2);
  expect(await receive()).toBe(EVENTS * PARTITIONS);
});

test("clients that do not read do not keep the catch-up dispatcher that another waits for", async () => {
  fill(20);
  for (let i = 0; i < 10; i++) await deaf();
  expect(await receive()).toBe(EVENTS * PARTITIONS);
});
