/** Exclusive sessions over real gRPC, two servers, one store (the twin): P3, P4, P5. */
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, expect, jest, test } from "@jest/globals";
import {
  ErrorInfo,
  type GetSessionResponse,
  type Start,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import type { Trouble } from "../../sidecar/sessions/memory-store.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { SessionBed, type Stream } from "./session-bed.ts";

const EARLIEST = { at: { $case: "earliest", value: {} } } as const;

let bed: SessionBed;
let trouble: Trouble | undefined;
let onStep: (step: string) => void = () => {};

async function start(partitions = 1): Promise<void> {
  trouble = undefined;
  const gate = async (step: string): Promise<Trouble | undefined> => {
    onStep(step);
    return trouble;
  };
  bed = await new SessionBed({ gate }).start(partitions);
}

afterEach(() => bed.stop());

function offsetIn(token: Buffer, partition = 0): number {
  const identity = { deploymentId: "test", topic: "shop/orders", topicId: bed.topic.id };
  const read = decodeToken(token, identity, bed.topic.partitions);
  return read.positions[partition]?.offset ?? -1;
}

function from(token: Buffer): Start {
  return { at: { $case: "token", value: { token, after: [] } } };
}

async function saved(stream: Stream, offset: number): Promise<void> {
  await stream.saved(offset, offsetIn);
}

function call<T>(ask: (done: (error: ServiceError | null, answer: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    ask((error, answer) => {
      if (!error) return resolve(answer);
      const [info] = error.metadata.get(ERROR_TRAILER);
      reject(new Error(info ? ErrorInfo.decode(info as Buffer).name : error.message));
    });
  });
}

const get = (session = "worker"): Promise<GetSessionResponse> =>
  call((done) => bed.stubs[0]?.getSession({ topic: "orders", session }, done));

test("a session goes on by name on another server, exactly after what was acknowledged (P3)", async () => {
  await start();
  await bed.publish(10);
  const a = bed.stream("A", {}, { start: EARLIEST });
  const opened = await a.next("opened");
  expect(opened.session).toMatchObject({ storedToken: Buffer.alloc(0), tokenIsOlder: false });
  await a.got(10);
  a.ack(5);
  await saved(a, 6);
  await a.cancel();
  const b = bed.stream("B", { attempt: 2n });
  const again = await b.next("opened");
  expect(offsetIn(again.session?.storedToken as Buffer)).toBe(6);
  expect(again.session?.generation).toBeGreaterThan(opened.session?.generation as bigint);
  await b.got(4);
  expect(b.events).toEqual(["6?", "7?", "8?", "9?"]);
  await bed.publish(1);
  await b.got(5);
  expect(b.events[4]).toBe("10");
});

test("a session that was left in order with all acknowledged is clean: nothing is marked as redelivered", async () => {
  await start();
  await bed.publish(3);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(3);
  a.ack(2);
  await a.leave();
  await bed.publish(2);
  const b = bed.stream("B", {});
  await b.got(2);
  expect(b.events).toEqual(["3", "4"]);
});

test("doubt outlives a holder that took nothing: what the one before may have delivered stays marked (P3)", async () => {
  await start();
  await bed.publish(3);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(3);
  await a.cancel();
  const b = bed.stream("B", {}, { credit: { events: 1n, bytes: 0n } });
  await b.got(1);
  await b.cancel();
  const c = bed.stream("A", {});
  await c.got(3);
  expect(c.events).toEqual(["0?", "1?", "2?"]);
});

test("a new session that starts at latest keeps its place before its first event (P2)", async () => {
  await start();
  await bed.publish(3);
  const a = bed.stream("A", {});
  await a.next("opened");
  await a.leave();
  await bed.publish(2);
  const b = bed.stream("B", {});
  await b.got(2);
  expect(b.events).toEqual(["3", "4"]);
});

test("the newest stream wins: the older ends with Superseded and its acks move nothing (P5)", async () => {
  await start();
  await bed.publish(10);
  const a = bed.stream("A", { instance: "one" }, { start: EARLIEST });
  await a.got(10);
  const b = bed.stream("B", { instance: "two" });
  await b.got(10);
  a.ack(9);
  expect(await a.next("superseded")).toEqual({ byInstance: "two", byServer: "B" });
  expect(await a.failure()).toMatchObject({ name: "SUPERSEDED", retryable: false });
  b.ack(3);
  await saved(b, 4);
  expect(await get()).toMatchObject({ held: true, instance: "two", server: "B", lag: 6n });
});

test("an idle older stream learns within a second that it was superseded (P5)", async () => {
  await start();
  // A machine that stalls may be late once, a server that looks too seldom is late each time.
  let tookMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 5 && tookMs >= 1000; round++) {
    const a = bed.stream("A", { instance: `older ${round}` });
    await a.next("opened");
    const b = bed.stream("B", { instance: `newer ${round}` });
    await b.next("opened");
    const before = performance.now();
    await a.next("superseded");
    tookMs = Math.min(tookMs, performance.now() - before);
  }
  expect(tookMs).toBeLessThan(1000);
});

test("a connection of the same instance that arrives late does not supersede its successor (P5)", async () => {
  await start();
  const b = bed.stream("B", { attempt: 2n });
  await b.next("opened");
  const late = bed.stream("A", { attempt: 1n });
  expect(await late.failure()).toMatchObject({ name: "SUPERSEDED" });
  await bed.publish(1);
  await b.got(1);
});

test("a start is used only when nothing is stored; a token repositions, and it is said when it is older", async () => {
  await start();
  await bed.publish(6);
  const a = bed.stream("A", {}, { start: EARLIEST });
  const { token } = await a.next("opened");
  await a.got(6);
  a.ack(4);
  await saved(a, 5);
  a.ack(5);
  await saved(a, 6);
  await a.cancel();
  const b = bed.stream("B", {}, { start: EARLIEST });
  await b.next("opened");
  await b.cancel();
  expect(b.events).toEqual([]);
  const start2 = from(token);
  const c = bed.stream("A", {}, { start: start2 });
  expect((await c.next("opened")).session?.tokenIsOlder).toBe(true);
  await c.got(6);
  expect(c.events).toEqual(["0", "1", "2", "3", "4", "5"]);
});

test("a bad token is refused before anything is claimed: the holder stays", async () => {
  await start();
  const a = bed.stream("A", { instance: "one" });
  const { session } = await a.next("opened");
  const token = Buffer.from("nonsense");
  const bad = from(token);
  const b = bed.stream("B", { instance: "two" }, { start: bad });
  expect(await b.failure()).toMatchObject({ name: "INVALID_TOKEN" });
  expect((await get()).generation).toBe(session?.generation);
});

test("a whole token may be acknowledged: everything up to and including its frame", async () => {
  await start(2);
  await bed.publish(3, 0);
  await bed.publish(2, 1);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(5);
  const last = a.received.filter(({ $case }) => $case === "batch").at(-1);
  if (last?.$case !== "batch") throw new Error("no batch");
  a.ackToken(last.value.token);
  await saved(a, 3);
  expect(await get()).toMatchObject({ lag: 0n });
});

test("acks by credits: returned credit moves the position past the events that were delivered first", async () => {
  await start();
  await bed.publish(10);
  const credit = { events: 6n, bytes: 0n };
  const a = bed.stream("A", { acks: 2 }, { start: EARLIEST, credit });
  await a.got(6);
  a.credit(4);
  await saved(a, 4);
  await a.got(10);
  a.credit(6);
  await saved(a, 10);
  a.credit(1);
  expect(await a.failure()).toMatchObject({
    name: "INVALID_REQUEST",
    message: expect.stringContaining("1 came back, 0 are out"),
  });
  expect(await get()).toMatchObject({ lag: 0n, held: false });
});

test("with explicit acks credit never moves the position", async () => {
  await start();
  await bed.publish(4);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(4);
  a.credit(4);
  await saved(a, 0);
});

test("an ack of what was not sent, of no partition here, or backward: a clear error, nothing moved", async () => {
  await start();
  await bed.publish(5);
  for (const [acks, message] of [
    [[[9, 0]], "ack.positions[0].offset: 9 of partition 0 was not sent yet"],
    [[[1, 7]], "ack.positions[0].partition: this stream holds no partition 7"],
    [
      [
        [3, 0],
        [1, 0],
      ],
      "ack.positions[0].offset: 1 of partition 0 is before 3",
    ],
  ] as const) {
    const name = message;
    const a = bed.stream("A", { name }, { start: EARLIEST });
    await a.got(5);
    for (const [offset, partition] of acks) a.ack(offset, partition);
    expect(await a.failure()).toMatchObject({
      name: "INVALID_REQUEST",
      message: expect.stringContaining(message),
    });
    expect(offsetIn((await get(name)).token)).toBe(acks.length === 2 ? 4 : 0);
  }
});

test("a filter that admits nothing does not hold the position back: it goes with the scan", async () => {
  await start();
  await bed.publish(5);
  const filter = { keys: [], types: ["never"], headers: [] };
  const a = bed.stream("A", {}, { start: EARLIEST, filter });
  await saved(a, 5);
  expect(a.events).toEqual([]);
});

test("a session whose start is still looked up is not asked for in the store, and opens then", async () => {
  await start();
  const other = bed.stream("A", { name: "other" });
  await other.next("opened");
  // Left without a word, so that the next claim looks up where the log ends.
  const before = bed.stream("B", {}, { start: EARLIEST });
  await bed.publish(1);
  await before.got(1);
  await before.cancel();
  let goOn = (): void => {};
  bed.lookUps = new Promise((resolve) => {
    goOn = resolve;
  });
  const a = bed.stream("A", {});
  const readMany = jest.spyOn(bed.store, "readMany");
  // The other's watch goes round twice meanwhile.
  await new Promise<void>((resolve) => {
    let left = 2;
    onStep = (step) => {
      if (step === "readMany" && --left === 0) resolve();
    };
  });
  const asked = readMany.mock.calls.flatMap(([keys]) => keys.map(({ session }) => session));
  goOn();
  await a.next("opened");
  expect(new Set(asked)).toEqual(new Set(["other"]));
});

test("SeekSession on a live session repositions it; acks on their way count again after the notice's own", async () => {
  await start();
  await bed.publish(5);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(5);
  a.ack(4);
  await saved(a, 5);
  const to = { at: { $case: "earliest", value: {} } } as const;
  await call((done) => bed.stubs[1]?.seekSession({ topic: "orders", session: "worker", to }, done));
  const { token } = await a.next("repositioned");
  await a.got(10);
  expect(a.events.slice(5)).toEqual(["0", "1", "2", "3", "4"]);
  a.ack(4);
  await a.next("heartbeat");
  expect(offsetIn((await get()).token)).toBe(0);
  a.ackToken(token);
  a.ack(1);
  await saved(a, 2);
});

test("store down at open: by name the open fails, by token it is detached, and claims when the store is back (P4)", async () => {
  await start();
  await bed.publish(4);
  const a = bed.stream("A", {}, { start: EARLIEST });
  const { token } = await a.next("opened");
  await a.got(4);
  a.ack(1);
  await saved(a, 2);
  await a.cancel();
  trouble = { reason: "down on purpose", isDone: false };
  const byName = bed.stream("B", {});
  expect(await byName.failure()).toMatchObject({
    name: "SESSION_STORE_UNAVAILABLE",
    retryable: true,
  });
  const byToken = from(token);
  const strict = bed.stream("B", { strict: true }, { start: byToken });
  expect(await strict.failure()).toMatchObject({ name: "SESSION_STORE_UNAVAILABLE" });
  const b = bed.stream("B", { attempt: 2n }, { start: byToken });
  await b.next("unverified");
  await b.got(4);
  b.ack(2);
  trouble = undefined;
  await saved(b, 3);
  expect(await get()).toMatchObject({ held: true, server: "B" });
});

test("store down while a session is held: Unverified once, events go on, saves go on when it is back; strict ends", async () => {
  await start();
  await bed.publish(2);
  const a = bed.stream("A", {}, { start: EARLIEST });
  const strict = bed.stream("A", { name: "strict", strict: true }, { start: EARLIEST });
  await Promise.all([a.got(2), strict.got(2)]);
  trouble = { reason: "down on purpose", isDone: false };
  await a.next("unverified");
  expect(await strict.failure()).toMatchObject({ name: "SESSION_STORE_UNAVAILABLE" });
  await bed.publish(2);
  await a.got(4);
  a.ack(3);
  await a.next("heartbeat");
  trouble = undefined;
  await saved(a, 4);
  expect(a.received.filter(({ $case }) => $case === "unverified")).toHaveLength(1);
});

test("bad session fields are named, and claim nothing", async () => {
  await start();
  for (const [session, field] of [
    [{ name: "" }, "open.session.name: is empty"],
    [{ name: "a\nb" }, "open.session.name: has control characters"],
    [{ name: "x".repeat(201) }, "open.session.name: has 201 bytes"],
    [{ instance: "x".repeat(101) }, "open.session.instance: has 101 bytes"],
    [{ mode: 9 }, "open.session.mode: 9 is not a session mode"],
    [{ acks: 9 }, "open.session.acks: 9 is not a way to acknowledge"],
  ] as const) {
    const stream = bed.stream("A", session as Parameters<typeof bed.stream>[1]);
    expect((await stream.failure()).message).toContain(field);
  }
  await expect(get()).rejects.toThrow("SESSION_NOT_FOUND");
});

test("partitions that the topic grows belong to the session from their first event", async () => {
  await start(1);
  await bed.publish(1);
  const a = bed.stream("A", {}, { start: EARLIEST });
  await a.got(1);
  await bed.apply(2);
  await bed.publish(3, 1);
  await a.got(4);
  a.ack(2, 1);
  a.ack(0, 0);
  await saved(a, 1);
  expect(await get()).toMatchObject({ lag: 0n });
});
