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

const DAY_MS = 24 * 60 * 60 * 1000;
const REFUSED_WITHIN_MS = 10_000;

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
  tls = showing(made, "good");
  await tls.ready();
  plain = await bed.server(["orders"]);
}, SLOW_MS);

afterAll(async () => {
  for (const client of clients) client.close();
  await bed?.close();
}, SLOW_MS);

/** A server whose door has this certificate. */
function showing(made: { cert: string; key: string }, name: string): StoryServer {
  const [cert, key] = [join(bed.folder, `${name}.pem`), join(bed.folder, `${name}.key`)];
  writeFileSync(cert, made.cert);
  writeFileSync(key, made.key);
  return bed.spawn("--tls-cert-file", cert, "--tls-key-file", key);
}

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

/** Whatever the client does, it ends or goes on trying, and says why, within the time that the library has. */
async function expectRefused(client: ThroughlineClient, why: string): Promise<void> {
  const before = performance.now();
  const unreachable = {
    ...{ error: "UNREACHABLE", message: expect.stringContaining(why) },
    advice: expect.stringContaining("the server's certificate: renew it"),
  };
  const published = client.publish("orders", [newEvent(9)]).catch((error) => error);
  expect(await published).toMatchObject(unreachable);
  expect(await hears(client)).toMatch(why);
  expect(performance.now() - before).toBeLessThan(REFUSED_WITHIN_MS);
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

test(
  "a server with a certificate that has expired starts, and its log names flag, time and remedy",
  async () => {
    const ended = new Date(Math.floor(Date.now() / 1000) * 1000 - DAY_MS);
    const made = await loopbackCertificate(new Date(ended.getTime() - DAY_MS), ended);
    const server = showing(made, "expired");
    await server.ready();
    expect(server.lines.filter(({ msg }) => msg?.startsWith("--tls-cert-file: "))).toEqual([
      expect.objectContaining({
        level: "warn",
        msg: expect.stringMatching(
          new RegExp(`expired at ${ended.toISOString()}.* renew it and start this server again`),
        ),
      }),
    ]);
    expect(tls.lines.filter(({ msg }) => msg?.startsWith("--tls-cert-file: "))).toEqual([]);
    await expectRefused(
      clientOf(server.address, { tls: { ca: made.cert } }),
      "certificate has expired",
    );
  },
  SLOW_MS,
);

test(
  "a certificate that names another host: its client hears which, and in time",
  async () => {
    const made = await loopbackCertificate(undefined, undefined, [
      { type: 2, value: "db.example" },
    ]);
    const server = showing(made, "elsewhere");
    await server.ready();
    const client = clientOf(server.address, { tls: { ca: made.cert } });
    await expectRefused(client, "127.0.0.1 is not in the cert's list");
  },
  SLOW_MS,
);

test(
  "a client that trusts another authority hears so in time, and a stream of that door goes on",
  async () => {
    const good = clientOf(tls.address, { tls: { ca } });
    const breaks: string[] = [];
    const onBreak = ({ message }: Error): void => void breaks.push(message);
    const stream = good.subscribe({ topic: "orders", start: EARLIEST, onBreak });
    const takes = async (n: number): Promise<void> => {
      await good.publish("orders", [newEvent(n)]);
      for (;;) {
        const { value } = await stream.next();
        if (
          value?.events.some(({ payload }: { payload?: Buffer }) => String(payload) === String(n))
        )
          return;
      }
    };
    await takes(4);
    const other = await loopbackCertificate();
    const stranger = clientOf(tls.address, { tls: { ca: other.cert } });
    await expectRefused(stranger, "self-signed certificate");
    await takes(5);
    await stream.return(undefined);
    expect(breaks).toEqual([]);
  },
  SLOW_MS,
);
