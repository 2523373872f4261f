/** The doors of a real server: TLS and a Unix socket, with the client library before them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type ClientOptions, ThroughlineClient } from "../../client/client.ts";
import { loopbackCertificate } from "../certificate.ts";
import { Bed, SLOW_MS } from "./bed.ts";
import { newEvent } from "./publisher.ts";
import type { StoryServer } from "./story-server.ts";
import { EARLIEST } from "./subscriber.ts";

let bed: Bed;
let ca: string;
let tls: StoryServer;
let plain: StoryServer;
const clients: ThroughlineClient[] = [];

beforeAll(async () => {
  bed = await Bed.open();
  await bed.topic("orders");
  const made = await loopbackCertificate();
  ca = made.cert;
  const [cert, key] = [join(bed.folder, "cert.pem"), join(bed.folder, "key.pem")];
  writeFileSync(cert, made.cert);
  writeFileSync(key, made.key);
  tls = bed.spawn("--tls-cert-file", cert, "--tls-key-file", key);
  await tls.ready();
  plain = await bed.server(["orders"]);
}, SLOW_MS);

afterAll(async () => {
  for (const client of clients) client.close();
  await bed?.close();
}, SLOW_MS);

function clientOf(address: string, options?: ClientOptions): ThroughlineClient {
  const client = new ThroughlineClient([address], options);
  clients.push(client);
  return client;
}

/** Publishes one event and takes it back: whether the door serves both. */
async function passes(client: ThroughlineClient, n: number): Promise<void> {
  const [published] = await client.publish("orders", [newEvent(n)]);
  expect(published?.result?.$case).toBe("position");
  for await (const { events } of client.subscribe({ topic: "orders", start: EARLIEST })) {
    if (events.some(({ payload }) => String(payload) === String(n))) return;
  }
}

/** What a subscriber with this client hears first. */
async function hears(client: ThroughlineClient): Promise<string> {
  const abort = new AbortController();
  let heard = "";
  const onBreak = (error: Error): void => {
    heard = error.message;
    abort.abort();
  };
  const { signal } = abort;
  for await (const _ of client.subscribe({ topic: "orders", signal, onBreak })) break;
  return heard;
}

test("a TLS door serves a client that trusts its authority", async () => {
  await passes(clientOf(tls.address, { tls: { ca } }), 1);
});

test("a Unix socket serves a client", async () => {
  const path = `unix:${join(bed.folder, "door.sock")}`;
  const server = bed.spawn("--listen", path, "--shape", "pod");
  await server.ready();
  expect(server.address).toBe(path);
  await passes(clientOf(path), 2);
});

test.each<[string, () => ThroughlineClient, string]>([
  ["a client without TLS at a TLS door", () => clientOf(tls.address), "No connection established"],
  [
    "a client that does not trust the door's authority",
    () => clientOf(tls.address, { tls: {} }),
    "self-signed certificate",
  ],
  [
    "a client with TLS at a door without",
    () => clientOf(plain.address, { tls: { ca } }),
    "wrong version number",
  ],
])("P7 P10: %s hears that nothing was sent, why, and what to check", async (_what, make, why) => {
  const client = make();
  const failure = await client.publish("orders", [newEvent(3)]).catch((error) => error);
  expect(failure).toMatchObject({
    error: "UNREACHABLE",
    message: expect.stringContaining(why),
    advice: expect.stringContaining("both sides use TLS or neither does"),
  });
  expect(await hears(client)).toContain("UNREACHABLE");
});
