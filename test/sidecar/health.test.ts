import { once } from "node:events";
import { credentials, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { openStatusPage } from "../../process/status-page.ts";
import { type HealthCheckResponse, HealthClient } from "../../proto/gen/grpc/health/v1/health.ts";
import { healthService } from "../../sidecar/health.ts";

const SERVING = 1;
const NOT_SERVING = 2;

let ready = false;
let draining = false;
let listeners: Set<() => void>;
let server: Server;
let client: HealthClient;

function set(next: { ready: boolean; draining?: boolean }): void {
  ready = next.ready;
  draining = next.draining ?? false;
  for (const listener of [...listeners]) listener();
}

beforeEach(async () => {
  ready = false;
  draining = false;
  listeners = new Set();
  server = new Server();
  const { definition, handlers } = healthService({
    ready: () => ready,
    draining: () => draining,
    onReadiness: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  });
  server.addService(definition, handlers);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  client = new HealthClient(`127.0.0.1:${port}`, credentials.createInsecure());
});

afterEach(() => {
  client.close();
  server.forceShutdown();
});

function check(service: string): Promise<number> {
  return new Promise((resolve, reject) => {
    client.check({ service }, (error, response) =>
      error ? reject(error) : resolve(response.status),
    );
  });
}

test("Check follows readiness, for the server and for its service", async () => {
  expect(await check("")).toBe(NOT_SERVING);
  set({ ready: true });
  expect(await check("")).toBe(SERVING);
  expect(await check("throughline.v1.ThroughlineService")).toBe(SERVING);
});

test("Check of an unknown service is NOT_FOUND", async () => {
  await expect(check("nothing")).rejects.toMatchObject({ code: status.NOT_FOUND });
});

test("Watch tells each change, and ends when the server drains", async () => {
  const call = client.watch({ service: "" });
  const seen: number[] = [];
  const next = async (): Promise<void> => {
    const [response] = (await once(call, "data")) as [HealthCheckResponse];
    seen.push(response.status);
  };
  await next();
  set({ ready: true });
  await next();
  const last = next();
  const ended = once(call, "end");
  set({ ready: false, draining: true });
  await last;
  await ended;
  expect(seen).toEqual([NOT_SERVING, SERVING, NOT_SERVING]);
});

test("a watcher that leaves is forgotten", async () => {
  const call = client.watch({ service: "" });
  call.on("error", () => {});
  await once(call, "data");
  expect(listeners.size).toBe(1);
  const emptied = new Promise<void>((resolve) => {
    const { delete: remove } = listeners;
    listeners.delete = (listener) => {
      const was = remove.call(listeners, listener);
      resolve();
      return was;
    };
  });
  call.cancel();
  await emptied;
  expect(listeners.size).toBe(0);
});

test("the status page answers probes and gives metrics", async () => {
  let why = { ready: false, why: "draining" };
  const page = await openStatusPage(
    { readiness: () => why, metricsPage: async () => "throughline_streams 3\n" },
    { host: "127.0.0.1", port: 0 },
  );
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${page.port}${path}`);
    return [response.status, await response.text()];
  };
  try {
    expect(await get("/livez")).toEqual([200, "alive\n"]);
    expect(await get("/readyz")).toEqual([503, "draining\n"]);
    why = { ready: true, why: "ready" };
    expect(await get("/readyz?verbose")).toEqual([200, "ready\n"]);
    expect(await get("/metrics")).toEqual([200, "throughline_streams 3\n"]);
    expect((await get("/"))[0]).toBe(404);
  } finally {
    page.close();
  }
});
