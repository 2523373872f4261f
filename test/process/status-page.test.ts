/** The page for probes: alive, ready, and why not. */
import { afterEach, expect, test } from "@jest/globals";
import { openStatusPage, type StatusPage, type StatusSource } from "../../process/status-page.ts";

let page: StatusPage | undefined;

afterEach(() => page?.close());

async function ask(source: Partial<StatusSource>, path: string): Promise<[number, string]> {
  page = await openStatusPage(
    {
      readiness: () => ({ ready: true, why: "ready" }),
      metricsPage: async () => "m 1\n",
      ...source,
    },
    { host: "127.0.0.1", port: 0 },
  );
  const answer = await fetch(`http://127.0.0.1:${page.port}${path}`);
  return [answer.status, await answer.text()];
}

test.each([
  ["what runs is alive", {}, "/livez", 200, "alive\n"],
  ["what is stuck is not, and says why", { stuck: () => "stuck: x" }, "/livez", 503, "stuck: x\n"],
  ["what is stuck may be ready", { stuck: () => "stuck: x" }, "/readyz", 200, "ready\n"],
  [
    "what is not ready is alive",
    { readiness: () => ({ ready: false, why: "not yet" }) },
    "/livez",
    200,
    "alive\n",
  ],
  [
    "what is not ready says why",
    { readiness: () => ({ ready: false, why: "not yet" }) },
    "/readyz",
    503,
    "not yet\n",
  ],
  ["another path names those that there are", {}, "/", 404, "See /livez, /readyz and /metrics.\n"],
])("%s", async (_what, source, path, status, text) => {
  expect(await ask(source, path)).toEqual([status, text]);
});
