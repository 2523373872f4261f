/** Requests to an API server, here a server of the test's own that speaks as one. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, expect, test } from "@jest/globals";
import { failureOf, statusOf } from "../../../operator/kube/api-error.ts";
import { KubeClient } from "../../../operator/kube/kube-client.ts";
import { kubeConfigOf } from "../../../operator/kube/kube-config.ts";

let server: Server;

afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function client(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  timeoutMs = 30_000,
) {
  server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const at = { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true };
  const kube = kubeConfigOf(
    JSON.stringify({
      clusters: [{ name: "a", cluster: at }],
      users: [{ name: "a", user: { token: "secret" } }],
      contexts: [{ name: "a", context: { cluster: "a", user: "a" } }],
      "current-context": "a",
    }),
  );
  const counted: string[] = [];
  const count = (method: string, code: number): void => void counted.push(`${method} ${code}`);
  return { client: new KubeClient(kube, timeoutMs, count), counted };
}

test("a request says who asks and what it sends, and each answer is counted", async () => {
  const asked: unknown[] = [];
  const bed = await client(async (request, response) => {
    const { method, url, headers } = request;
    asked.push([method, url, headers.authorization, headers["content-type"], await text(request)]);
    response.statusCode = method === "POST" ? 201 : 200;
    response.end('{"kind":"A"}');
  });
  expect(await bed.client.get("/a", { limit: 2, labelSelector: undefined })).toEqual({ kind: "A" });
  await bed.client.send("POST", "/a", { b: 1 });
  await bed.client.send("PATCH", "/a", { b: 1 });
  await bed.client.send("PATCH", "/a", []);
  await bed.client.apply("/a", { b: 1 }, "me");
  expect(asked).toEqual([
    ["GET", "/a?limit=2", "Bearer secret", undefined, ""],
    ["POST", "/a", "Bearer secret", "application/json", '{"b":1}'],
    ["PATCH", "/a", "Bearer secret", "application/merge-patch+json", '{"b":1}'],
    ["PATCH", "/a", "Bearer secret", "application/json-patch+json", "[]"],
    [
      ...["PATCH", "/a?fieldManager=me&force=true", "Bearer secret"],
      ...["application/apply-patch+yaml", '{"b":1}'],
    ],
  ]);
  expect(bed.counted).toEqual(["GET 200", "POST 201", "PATCH 200", "PATCH 200", "PATCH 200"]);
});

test("a refusal has its status and the server's own sentence", async () => {
  const bed = await client((_request, response) => {
    response.statusCode = 403;
    response.end('{"kind":"Status","message":"topics is forbidden"}');
  });
  const refusal = await bed.client.get("/a").catch((error: unknown) => error);
  expect([statusOf(refusal), failureOf(refusal).reason]).toEqual([403, "topics is forbidden"]);
  expect(bed.counted).toEqual(["GET 403"]);
});

test("no answer in time ends the request, also when it has begun, and counts as none", async () => {
  const bed = await client((request, response) => {
    if (request.url === "/begun") response.write("{");
  }, 50);
  for (const path of ["/none", "/begun"]) {
    const late = await bed.client.get(path).catch((error: unknown) => error);
    expect([statusOf(late), failureOf(late).reason]).toEqual([undefined, "no answer within 50 ms"]);
  }
  expect(bed.counted).toEqual(["GET 0", "GET 0"]);
});

test("nobody there: the reason says why", async () => {
  const bed = await client(() => {});
  await new Promise((resolve) => server.close(resolve));
  const failed = await bed.client.get("/a").catch((error: unknown) => error);
  expect(failureOf(failed).reason).toContain("ECONNREFUSED");
});

const watching = (
  events: unknown[],
  silenceMs = 30_000,
  signal = new AbortController().signal,
) => ({
  ...{ silenceMs, signal },
  onEvent: (event: unknown): void => void events.push(event),
});

test("a watch brings each event once it is whole, and ends when the server ends it", async () => {
  const events: unknown[] = [];
  const bed = await client((request, response) => {
    expect(request.url).toBe("/a?resourceVersion=7&watch=true");
    response.write('{"type":"ADDED"}\n{"ty');
    response.write('pe":"DELETED"}\n');
    response.end();
  });
  await bed.client.watch("/a", { resourceVersion: "7" }, watching(events));
  expect(events).toEqual([{ type: "ADDED" }, { type: "DELETED" }]);
});

test("a watch that is refused, cut, silent or called off rejects", async () => {
  const bed = await client(({ url }, response) => {
    if (url?.startsWith("/refused")) response.writeHead(410).end("{}");
    else response.write('{"type":"ADDED"}\n');
    if (url?.startsWith("/cut")) response.write("{", () => response.destroy());
  });
  const watch = (path: string, options: Parameters<KubeClient["watch"]>[2]): Promise<void> =>
    bed.client.watch(path, {}, options);
  await expect(watch("/refused", watching([]))).rejects.toMatchObject({ code: 410 });
  await expect(watch("/cut", watching([]))).rejects.toThrow("aborted");
  const events: unknown[] = [];
  await expect(watch("/silent", watching(events, 50))).rejects.toThrow("aborted");
  expect(events).toEqual([{ type: "ADDED" }]);
  const calledOff = new AbortController();
  const onEvent = (): void => calledOff.abort();
  const options = { ...watching([], 30_000, calledOff.signal), onEvent };
  await expect(watch("/called-off", options)).rejects.toThrow("aborted");
});
