/** The store lost a session between two streams of its client, while nobody had it: P2, P3. */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type SubscribeOptions, ThroughlineClient } from "../../client/client.ts";
import { ClientSession } from "../../client/session.ts";
import type {
  GetSessionResponse,
  SessionOpen,
  Start,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { SessionBed } from "./session-bed.ts";

const EARLIEST = { at: { $case: "earliest", value: {} } } as const;
const LATEST = { at: { $case: "latest", value: {} } } as const;
const EXCLUSIVE = 1;
const SHARED = 2;
const RECOVERY_EARLIEST = 2;
const of = { topic: "orders", session: "worker" };
const MODES = [
  ["exclusive", EXCLUSIVE],
  ["shared", SHARED],
] as const;

let bed: SessionBed;

beforeEach(async () => {
  bed = await new SessionBed().start();
});

afterEach(() => bed.stop());

function offsetIn(token: Buffer): number {
  const identity = { deploymentId: "test", topic: "shop/orders", topicId: bed.topic.id };
  return decodeToken(token, identity, 1).positions[0]?.offset ?? -1;
}

function from(token: Buffer): Start {
  return { at: { $case: "token", value: { token, after: [] } } };
}

/** Undefined where there is none. */
function get(): Promise<GetSessionResponse | undefined> {
  return new Promise((resolve) => {
    bed.stubs[0]?.getSession(of, (error, answer) => resolve(error ? undefined : answer));
  });
}

function forget(): Promise<unknown> {
  return new Promise((resolve) => bed.stubs[0]?.forgetSession(of, resolve));
}

/** Of five events a client had those from 2 on, acknowledged 2, and left. @returns what it knows then. */
async function left(mode: SessionOpen["mode"]): Promise<Partial<SessionOpen>> {
  await bed.publish(2);
  const a = bed.stream("A", { mode });
  const opened = await a.next("opened");
  expect(offsetIn(opened.token)).toBe(2);
  await bed.publish(3);
  await a.got(3);
  a.ack(2);
  await a.saved(3, offsetIn);
  const { savedToken } = await a.next("heartbeat");
  await a.leave();
  return { mode, attempt: 2n, knownToken: savedToken, knownSeeks: 7n };
}

test.each(MODES)(
  "%s: it goes on where its client knows it, marked to the log's end",
  async (_what, mode) => {
    const known = await left(mode);
    bed.store.empty();
    const b = bed.stream("B", known);
    const { token, session } = await b.next("opened");
    expect(offsetIn(token)).toBe(3);
    expect(session).toMatchObject({ storedToken: known.knownToken, seeks: 7n });
    await b.got(2);
    await bed.publish(1);
    await b.got(3);
    expect(b.events).toEqual(["3?", "4?", "5"]);
    b.ack(5);
    await b.saved(6, offsetIn);
    await b.leave();
    const c = bed.stream("A", known);
    expect(offsetIn((await c.next("opened")).token)).toBe(6);
  },
);

test.each(MODES)(
  "%s: one that was forgotten begins anew, as its start says",
  async (_what, mode) => {
    const known = await left(mode);
    await forget();
    const b = bed.stream("B", known, { start: EARLIEST });
    const { session } = await b.next("opened");
    expect(session).toMatchObject({ storedToken: Buffer.alloc(0), seeks: 0n });
    await b.got(5);
    expect(b.events).toEqual(["0", "1", "2", "3", "4"]);
  },
);

test.each(MODES)(
  "%s: what cannot be known is refused, and nothing is claimed",
  async (_what, mode) => {
    const bad = bed.stream("A", { mode, knownToken: Buffer.from("nonsense") });
    expect(await bad.failure()).toMatchObject({
      name: "INVALID_TOKEN",
      message: expect.stringContaining("open.session.known_token"),
    });
    const many = bed.stream("A", { mode, knownSeeks: 2n ** 33n });
    expect(await many.failure()).toMatchObject({
      name: "INVALID_REQUEST",
      message: expect.stringContaining("open.session.known_seeks"),
    });
    expect(await get()).toBeUndefined();
  },
);

test("a start that is a token comes before what is known", async () => {
  const known = await left(EXCLUSIVE);
  const plain = bed.stream("A", undefined, { start: EARLIEST });
  const { token } = await plain.next("opened");
  bed.store.empty();
  const start = from(token);
  const b = bed.stream("B", known, { start });
  expect((await b.next("opened")).session).toMatchObject({ tokenIsOlder: true });
  await b.got(5);
  expect(b.events).toEqual(["0?", "1?", "2?", "3?", "4?"]);
});

test.each(MODES)(
  "%s: known of the topic before it was recreated, it is lost, or recovers",
  async (_what, mode) => {
    const known = await left(mode);
    const lost = bed.topic.id;
    bed.store.empty();
    bed.recreate();
    await bed.apply(1, lost);
    await bed.publish(1);
    const open = async (recovery: SessionOpen["acks"]) => {
      for (;;) {
        const stream = bed.stream("B", known, { recovery });
        const opened = await stream.next("opened").catch(() => undefined);
        if (opened) return { stream, session: opened.session };
        const failure = await stream.failure();
        // Until the catalog names the new topic.
        if (failure.name !== "TOPIC_GONE") return { failure };
      }
    };
    expect((await open(0)).failure).toMatchObject({ name: "POSITION_LOST" });
    expect(await get()).toBeUndefined();
    const { stream, session } = await open(RECOVERY_EARLIEST);
    expect(session?.seeks).toBe(8n);
    expect(await stream?.next("restarted")).toMatchObject({ fromOffset: 3n, toOffset: 0n });
    await stream?.got(1);
    expect(stream?.events).toEqual(["5"]);
  },
);

const sessionStarts = async (): Promise<Record<string, Start>> => {
  const plain = bed.stream("A", undefined);
  return { latest: LATEST, earliest: EARLIEST, token: from((await plain.next("opened")).token) };
};

test.each([
  ["exclusive", "latest"],
  ["exclusive", "earliest"],
  ["exclusive", "token"],
  ["shared", "latest"],
  ["shared", "earliest"],
] as const)(
  "a client of the library, %s from %s, gets each event once (P2; L1 of client/session.ts)",
  async (mode, start) => {
    const { at } = (await sessionStarts())[start] as Start;
    const client = new ThroughlineClient(bed.servers.map(({ address }) => address));
    const session = { name: "worker", mode } as const;
    const onNotice: SubscribeOptions["onNotice"] = ({ $case }) => {
      // Not its first count.
      if ($case === "opened" && had.length === 0)
        bed.stubs[1]?.seekSession({ ...of, to: LATEST }, () => {});
      if ($case === "repositioned") void bed.publish(3);
    };
    const had: string[] = [];
    const options = { topic: "orders", session, onNotice, ...(at && { start: at }) };
    for await (const { events, maybeRedelivered } of client.subscribe(options)) {
      for (const { payload } of events) had.push(`${payload}${maybeRedelivered ? "?" : ""}`);
      if (had.length >= 5) break;
      if (had.length < 3) continue;
      // None of them is acknowledged yet.
      await bed.servers.shift()?.close();
      bed.store.empty();
      await bed.publish(2);
    }
    client.close();
    expect(had).toEqual(["0", "1", "2", "3?", "4?"]);
  },
);

test("the library knows of a new session where it begins, before the first heartbeat", () => {
  const session = new ClientSession({ name: "s" }, "one");
  const send = (): void => {};
  expect(session.open(send)).toMatchObject({ knownToken: Buffer.alloc(0), knownSeeks: 0n });
  const isNew = { generation: 1n, storedToken: Buffer.alloc(0), tokenIsOlder: false, seeks: 0n };
  const value = { token: Buffer.from("t"), partitions: 1, server: "A", session: isNew };
  session.heard({ kind: { $case: "opened", value } });
  expect(session.open(send).knownToken).toEqual(Buffer.from("t"));
});
