import { mkdtemp, rename, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Client,
  credentials,
  Metadata,
  type ServiceError,
  setLogger,
  status,
} from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { makeLogger } from "../../process/logger.ts";
import { HealthClient } from "../../proto/gen/grpc/health/v1/health.ts";
import { CatalogRecord } from "../../proto/gen/throughline/stored/v1/stored.ts";
import {
  ErrorInfo,
  type PublishResponse,
  type SubscribeRequest,
  type SubscribeResponse,
  ThroughlineServiceClient,
  ThroughlineServiceService,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { catalogTopicName } from "../../sidecar/catalog-follower.ts";
import type { Config } from "../../sidecar/config.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import { DEFAULT_LIMITS } from "../../sidecar/limits.ts";
import { type RunningServer, startServer } from "../../sidecar/server.ts";

const CONFIG: Config = {
  listen: "127.0.0.1:0",
  healthListen: { host: "127.0.0.1", port: 0 },
  shape: "gateway",
  tls: undefined,
  kafka: { brokers: [], tls: undefined, sasl: undefined },
  sessionStore: undefined,
  deploymentId: "local",
  clusterUid: undefined,
  namespace: "shop",
  serverName: "A",
  logLevel: "silent",
  limits: { ...DEFAULT_LIMITS, drainMs: 60_000 },
};

// What grpc-js prints of a failed bind is asserted as an error below.
setLogger({ error: () => {} });

let log: MemoryLog;
let servers: RunningServer[];
let clients: Client[];

beforeEach(async () => {
  log = new MemoryLog();
  servers = [];
  clients = [];
  const make = async (name: string, partitions: number) => {
    const made = await log.admin.createTopic({ name, partitions, replicas: 1, settings: {} });
    if (made.kind !== "done") throw new Error(made.reason);
    return made.value;
  };
  const orders = await make("shop.orders", 3);
  const catalog = await make(catalogTopicName("local"), 1);
  const value = CatalogRecord.encode({
    ...{ formatVersion: 1, namespace: "shop", name: "orders", ownerUid: "u", ownerGeneration: 1n },
    ...{ state: 1, kafkaTopic: "shop.orders", topicId: Buffer.from(orders.id, "hex") },
    ...{ partitions: 3, ordering: 1, outbox: "", maxEventBytes: 0 },
    ...{ publishNamespaces: [], subscribeNamespaces: [], clusterUid: "" },
    ...{ takenAtMs: 0n, adopted: false },
  }).finish();
  await log.append(catalog, 0, {
    key: Buffer.from("shop/orders"),
    value: Buffer.from(value),
    headers: [],
    timeMs: 1,
  });
});

afterEach(async () => {
  for (const client of clients) client.close();
  for (const server of servers) await server.close();
  await log.close();
});

async function start(over: Partial<Config> = {}) {
  const server = await startServer({ ...CONFIG, ...over }, log, makeLogger("silent", "A"));
  servers.push(server);
  const { address } = server;
  const client = new ThroughlineServiceClient(address, credentials.createInsecure());
  const health = new HealthClient(address, credentials.createInsecure());
  clients.push(client, health);
  const watch = health.watch({ service: "" });
  watch.on("error", () => {});
  await new Promise<void>((resolve) => {
    watch.on("data", ({ status: serving }) => serving === 1 && resolve());
  });
  return { server, client };
}

/** The failure of a unary call by path, with bytes of our own. */
function failureOf(client: Client, path: string, bytes: Buffer): Promise<ServiceError> {
  return new Promise((resolve, reject) => {
    const pass = (value: Buffer): Buffer => value;
    client.makeUnaryRequest(path, pass, pass, bytes, (error) =>
      error ? resolve(error) : reject(new Error("the call succeeded")),
    );
  });
}

function infoOf(error: ServiceError): ErrorInfo {
  return ErrorInfo.decode(error.metadata.get(ERROR_TRAILER)[0] as Buffer);
}

function publish(client: ThroughlineServiceClient, topic: string, payloads: string[]) {
  return new Promise<PublishResponse>((resolve, reject) => {
    const events = payloads.map((text) => ({
      ...{ key: undefined, headers: [], type: "", timeMs: undefined },
      payload: Buffer.from(text),
    }));
    client.publish({ topic, events }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

/** A stream that has opened and stays open. */
async function subscribe(client: ThroughlineServiceClient) {
  const call = client.subscribe(new Metadata());
  const down: SubscribeResponse[] = [];
  let failure: ServiceError | undefined;
  let look = (): void => {};
  call.on("data", (response: SubscribeResponse) => {
    down.push(response);
    look();
  });
  call.on("error", (error: ServiceError) => {
    failure = error;
    look();
  });
  const open: SubscribeRequest = {
    kind: {
      $case: "open",
      value: {
        ...{ topic: "orders", start: undefined, filter: undefined, session: undefined },
        ...{ recovery: 0, maxFrameBytes: 0, heartbeatMs: 60_000 },
        credit: { events: 10n, bytes: 0n },
      },
    },
  };
  call.write(open);
  const until = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      look = () => holds() && resolve();
      look();
    });
  await until(() => down.length > 0 || failure !== undefined);
  return { call, down, until, failure: () => failure };
}

test("publish, get and list over gRPC", async () => {
  const { client } = await start();
  const { results } = await publish(client, "orders", ["a", "b", "c"]);
  expect(results.map(({ result }) => result?.$case)).toEqual(["position", "position", "position"]);
  const got = await new Promise<{ latest: bigint; state: number | undefined }>(
    (resolve, reject) => {
      client.getTopic({ topic: "shop/orders" }, (error, response) => {
        if (error) return reject(error);
        const latest = response.positions.reduce((sum, at) => sum + at.latestOffset, 0n);
        resolve({ latest, state: response.topic?.state });
      });
    },
  );
  expect(got).toEqual({ latest: 3n, state: 1 });
  const names = await new Promise<string[]>((resolve, reject) => {
    client.listTopics({}, (error, response) =>
      error ? reject(error) : resolve(response.topics.map(({ name }) => name)),
    );
  });
  expect(names).toEqual(["shop/orders"]);
});

test("P10: a failure carries its name and advice in the trailer", async () => {
  const { client } = await start();
  const error = await publish(client, "nothing", ["a"]).catch((thrown: ServiceError) => thrown);
  expect(error).toMatchObject({ code: status.NOT_FOUND });
  expect(infoOf(error as ServiceError)).toMatchObject({
    name: "TOPIC_NOT_FOUND",
    retryable: false,
  });
});

test.each(["publish", "getTopic"] as const)(
  "P10: bytes that are not ours are an invalid request to %s, and harm nobody",
  async (name) => {
    const { client } = await start();
    const { path } = ThroughlineServiceService[name];
    const error = await failureOf(client, path, Buffer.from([10, 200, 1, 3]));
    expect(error.code).toBe(status.INVALID_ARGUMENT);
    expect(infoOf(error).name).toBe("INVALID_REQUEST");
    expect((await publish(client, "orders", ["a"])).results).toHaveLength(1);
  },
);

test("a message over the limit is refused before it is read", async () => {
  const { client } = await start({ limits: { ...CONFIG.limits, requestBytes: 64 * 1024 } });
  const error = await failureOf(
    client,
    ThroughlineServiceService.publish.path,
    Buffer.alloc(65_537),
  );
  expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
});

test("without a session store what needs one says so", async () => {
  const { client } = await start();
  for (const name of ["getSession", "seekSession", "forgetSession"] as const) {
    const error = await failureOf(client, ThroughlineServiceService[name].path, Buffer.alloc(0));
    expect(error.code).toBe(status.FAILED_PRECONDITION);
    expect(infoOf(error).name).toBe("NO_SESSION_STORE");
  }
});

test("drain tells streams to move, refuses new ones, serves publishers, and ends with the last stream", async () => {
  const { server, client } = await start();
  const stream = await subscribe(client);
  expect(stream.down[0]?.kind?.$case).toBe("opened");
  let drained = false;
  const done = server.drain().then(() => {
    drained = true;
  });
  await stream.until(() => stream.down.length > 1);
  const moving = stream.down[1]?.kind;
  if (moving?.$case !== "moving") throw new Error(`got ${moving?.$case}`);
  expect(moving.value.reason).toBe(1);
  expect(moving.value.deadlineMs).toBeGreaterThan(0n);
  const late = await subscribe(client);
  expect(infoOf(late.failure() as ServiceError).name).toBe("DRAINING");
  await publish(client, "orders", ["still"]);
  expect((await fetch(`http://127.0.0.1:${server.healthPort}/readyz`)).status).toBe(503);
  expect(drained).toBe(false);
  stream.call.cancel();
  await done;
});

test("drain ends at its deadline when a client stays", async () => {
  const { server, client } = await start({ limits: { ...CONFIG.limits, drainMs: 30 } });
  await subscribe(client);
  await server.drain();
});

test("an address in use is one clear error with the next step", async () => {
  const { server } = await start();
  const taken = server.address;
  await expect(
    startServer({ ...CONFIG, listen: taken }, log, makeLogger("silent", "B")),
  ).rejects.toThrow(
    `${taken} is in use: stop the process that listens there, or choose another --listen.`,
  );
});

test("a Unix socket serves, and one left behind by a killed server is no obstacle", async () => {
  const folder = await mkdtemp(join(tmpdir(), "throughline-"));
  const path = join(folder, "door.sock");
  try {
    // Listening leaves the file; closing the handle without unlinking it is what SIGKILL does.
    const killed = createServer();
    await new Promise<void>((resolve) => killed.listen(path, resolve));
    await rename(path, `${path}.kept`);
    await new Promise((resolve) => killed.close(resolve));
    await rename(`${path}.kept`, path);
    const { client } = await start({ listen: `unix:${path}` });
    expect((await publish(client, "orders", ["a"])).results).toHaveLength(1);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a client that closes its side is served until its credit is used up", async () => {
  const { client } = await start();
  const { call, down, until, failure } = await subscribe(client);
  let ended = false;
  call.on("end", () => {
    ended = true;
  });
  call.end();
  await publish(
    client,
    "orders",
    Array.from({ length: 12 }, (_, i) => `${i}`),
  );
  await new Promise<void>((resolve) => call.once("status", () => resolve()));
  await until(() => ended);
  const events = down.flatMap(({ kind }) => (kind?.$case === "batch" ? kind.value.events : []));
  expect(events).toHaveLength(10);
  expect(failure()).toBeUndefined();
});

test("a client that closes its side without an open hears what is missing", async () => {
  const { client } = await start();
  const call = client.subscribe(new Metadata());
  call.on("data", () => {});
  const failed = new Promise<ServiceError>((resolve) => call.once("error", resolve));
  call.end();
  expect(infoOf(await failed).name).toBe("INVALID_REQUEST");
});
