/** Shared sessions over real gRPC, two servers, one store (the twin): P2, P3, P5. */
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import {
  ErrorInfo,
  type GetSessionResponse,
  type Start,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { ERROR_TRAILER } from "../../sidecar/failure.ts";
import type { Limits } from "../../sidecar/limits.ts";
import type { MemoryStoreOptions, Trouble } from "../../sidecar/sessions/memory-store.ts";
import { decodeToken } from "../../sidecar/token.ts";
import { SessionBed, type Stream } from "./session-bed.ts";

const EARLIEST = { at: { $case: "earliest", value: {} } } as const;
const SHARED = 2;

let bed: SessionBed;
let trouble: Trouble | undefined;

async function start(
  partitions: number,
  limits: Partial<Limits> = {},
  options: Partial<MemoryStoreOptions> = {},
  shape?: "pod",
): Promise<void> {
  trouble = undefined;
  const all = { gate: async () => trouble, ...options };
  bed = await new SessionBed(all, limits, shape).start(partitions);
}

afterEach(() => bed.stop());

function member(server: "A" | "B", instance: string, attempt = 1n): Stream {
  return bed.stream(server, { mode: SHARED, instance, attempt }, { start: EARLIEST });
}

function offsetsIn(token: Buffer): number[] {
  const identity = { deploymentId: "test", topic: "shop/orders", topicId: bed.topic.id };
  const { positions } = decodeToken(token, identity, bed.topic.partitions);
  return positions.map(({ offset }) => offset);
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

const of = { topic: "orders", session: "worker" };
const get = (): Promise<GetSessionResponse> => call((done) => bed.stubs[0]?.getSession(of, done));

async function storeHas(...offsets: number[]): Promise<void> {
  while (!offsetsIn((await get()).token).every((offset, p) => offset === offsets[p]));
}

/** Acknowledges by position all that comes of these partitions, from now on. */
function acknowledging(stream: Stream): Stream {
  stream.onBatch = ({ events, partition }) =>
    stream.ack(Number(events.at(-1)?.offset ?? 0), partition);
  return stream;
}

/** Two members, of which each has a partition of two: the first acknowledges all that comes. */
async function pair(): Promise<[Stream, Stream]> {
  const a = acknowledging(member("A", "one"));
  await a.next("assigned");
  const b = member("B", "two");
  expect((await b.next("assigned")).partitions).toEqual([]);
  expect((await b.next("assigned")).partitions).toEqual([1]);
  return [a, b];
}

function at(token: Buffer): { start: Start } {
  return { start: { at: { $case: "token", value: { token, after: [] } } } };
}

test("the first member has all; a second gets its share after the first has acknowledged, unmarked (P3)", async () => {
  await start(4);
  for (let p = 0; p < 4; p++) await bed.publish(2, p);
  const a = member("A", "one");
  expect((await a.next("opened")).session?.storedToken).toEqual(Buffer.alloc(0));
  expect(await a.next("assigned")).toEqual({ partitions: [0, 1, 2, 3] });
  await a.got(8);
  const b = member("B", "two");
  expect(await b.next("assigned")).toEqual({ partitions: [] });
  const { partitions, deadlineMs } = await a.next("revoked");
  expect(partitions).toEqual([2, 3]);
  expect(Number(deadlineMs)).toBeGreaterThan(Date.now());
  for (const p of partitions) a.ack(1, p);
  const got = [...(await b.next("assigned")).partitions];
  while (got.length < 2) got.push(...(await b.next("assigned")).partitions);
  expect(got.toSorted()).toEqual([2, 3]);
  await bed.publish(1, 2);
  await bed.publish(1, 1);
  await b.got(1);
  await a.got(9);
  expect(b.events).toEqual(["8"]);
  expect(a.events[8]).toBe("9");
});

test("a move is Revoked, acknowledged, saved, Assigned: the next one begins exactly after (P2, P3)", async () => {
  await start(2);
  await bed.publish(10, 1);
  const a = member("A", "one");
  await a.got(10);
  const b = member("B", "two");
  expect((await a.next("revoked")).partitions).toEqual([1]);
  // On its way when the partition was revoked: still counts, but not before all is acknowledged.
  a.ack(6, 1);
  await storeHas(0, 7);
  expect(b.received.some(({ $case }) => $case === "batch")).toBe(false);
  a.ack(9, 1);
  await b.next("assigned");
  expect((await b.next("assigned")).partitions).toEqual([1]);
  // It comes after the partition went: no mistake.
  a.ack(9, 1);
  await bed.publish(2, 1);
  await b.got(2);
  expect(b.events).toEqual(["10", "11"]);
  await bed.publish(1, 0);
  await a.got(11);
  a.ack(0, 0);
  await storeHas(1, 10);
});

test("the revoke time is over: what was acknowledged is saved, the rest comes again, marked", async () => {
  await start(2, { memberRevokeMs: 300 });
  await bed.publish(4, 1);
  const a = member("A", "one");
  await a.got(4);
  a.ack(1, 1);
  await storeHas(0, 2);
  const b = member("B", "two");
  await a.next("revoked");
  await b.got(2);
  expect(b.events).toEqual(["2?", "3?"]);
  // It had these, but the partition is another's: nothing moves, and nobody is harmed.
  a.ack(3, 1);
  await bed.publish(1, 1);
  await b.got(3);
  expect(b.events[2]).toBe("4");
  expect(offsetsIn((await get()).token)).toEqual([0, 2]);
});

test("who leaves in order gives its partitions at once; what it did not take is not marked", async () => {
  await start(2);
  const [a, b] = await pair();
  await bed.publish(3, 1);
  await b.got(3);
  b.ack(0, 1);
  await b.leave();
  await a.got(2);
  expect(a.events).toEqual(["1", "2"]);
  expect(await get()).toMatchObject({
    mode: SHARED,
    held: true,
    members: [{ instance: "one", server: "A", partitions: [0, 1], awaited: [] }],
  });
});

test("a connection that breaks: its instance has its partitions back at once, and only the marked repeat (P3)", async () => {
  await start(2);
  const [a, b] = await pair();
  await bed.publish(3, 1);
  await b.got(3);
  b.ack(0, 1);
  await storeHas(0, 1);
  await b.cancel();
  const back = member("A", "two", 2n);
  expect((await back.next("assigned")).partitions).toEqual([1]);
  await back.got(2);
  expect(back.events).toEqual(["1?", "2?"]);
  expect(a.events).toEqual([]);
  const late = member("B", "two", 1n);
  expect(await late.failure()).toMatchObject({ name: "SUPERSEDED" });
});

test("a connection that breaks and does not come back: the others have its partitions after the return time", async () => {
  await start(2, { memberReturnMs: 200 });
  const [a, b] = await pair();
  await bed.publish(2, 1);
  await b.got(2);
  await b.cancel();
  await a.got(2);
  expect(a.events).toEqual(["0?", "1?"]);
});

test("a connection that breaks while its pod ends: the others have its partitions at once", async () => {
  const aMinute = { memberReturnMs: 60_000, memberLapseMs: 60_000 };
  await start(2, aMinute, {}, "pod");
  const [a, b] = await pair();
  const sinceMs = performance.now();
  bed.servers[1]?.beginDrain();
  await b.next("moving");
  await b.cancel();
  expect((await a.next("assigned")).partitions).toEqual([1]);
  expect(performance.now() - sinceMs).toBeLessThan(30_000);
});

test("more members than partitions: one waits with none, and takes over from who leaves", async () => {
  await start(2);
  const a = acknowledging(member("A", "one"));
  await a.next("assigned");
  const b = acknowledging(member("B", "two"));
  await b.next("assigned");
  expect((await b.next("assigned")).partitions).toEqual([1]);
  const c = acknowledging(member("B", "three"));
  expect((await c.next("assigned")).partitions).toEqual([]);
  await bed.publish(1, 0);
  await a.got(1);
  await storeHas(1, 0);
  await a.leave();
  expect((await c.next("assigned")).partitions).toEqual([0]);
  await bed.publish(1, 0);
  await c.got(1);
  expect(c.events).toEqual(["1"]);
});

test("partitions that the topic grows are split too, from their first event", async () => {
  await start(1);
  const a = acknowledging(member("A", "one"));
  const b = acknowledging(member("B", "two"));
  await b.next("assigned");
  await bed.apply(3);
  for (const p of [1, 2]) await bed.publish(2, p);
  await a.until(() => a.events.length + b.events.length === 4, "not all");
  await storeHas(0, 2, 2);
  expect(b.events.length).toBeGreaterThan(0);
});

test("a member that acknowledges nothing loses its partitions with MEMBER_STUCK, and the others go on", async () => {
  await start(2, { memberStuckMs: 1000 });
  const [a, b] = await pair();
  await bed.publish(2, 1);
  await b.got(2);
  expect(await b.failure()).toMatchObject({
    name: "MEMBER_STUCK",
    retryable: true,
    message: expect.stringContaining("Partition 1, offset 0"),
  });
  await a.got(2);
  expect(a.events).toEqual(["0?", "1?"]);
});

test("the token claims of partitions that are not held only what is saved (P4)", async () => {
  await start(2);
  await bed.publish(3, 0);
  await bed.publish(3, 1);
  const a = member("A", "one");
  await a.got(6);
  a.ack(2, 1);
  a.ack(0, 0);
  await storeHas(1, 3);
  const b = member("B", "two");
  await b.next("assigned");
  await b.next("assigned");
  const { token } = await a.next("heartbeat");
  expect(offsetsIn(token)).toEqual([3, 3]);
  expect(offsetsIn((await b.next("heartbeat")).token)).toEqual([1, 3]);
  await bed.publish(1, 1);
  await b.got(1);
  const [batch] = b.received.filter(({ $case }) => $case === "batch");
  if (batch?.$case !== "batch") throw new Error("no batch");
  expect(offsetsIn(batch.value.token)).toEqual([1, 4]);
  // A whole token acknowledges what is held.
  b.ackToken(batch.value.token);
  await storeHas(1, 4);
  // Without the session it opens anywhere.
  const c = bed.stream("A", undefined, at(batch.value.token));
  await c.got(2);
  expect(c.events).toEqual(["1", "2"]);
});

test("SeekSession repositions every member; ForgetSession ends them all", async () => {
  await start(2);
  for (const p of [0, 1]) await bed.publish(2, p);
  const a = acknowledging(member("A", "one"));
  await a.got(4);
  await storeHas(2, 2);
  const b = acknowledging(member("B", "two"));
  await b.next("assigned");
  await b.next("assigned");
  a.onBatch = () => {};
  b.onBatch = () => {};
  await call((done) => bed.stubs[1]?.seekSession({ ...of, to: EARLIEST }, done));
  for (const stream of [a, b]) {
    const { token, seeks } = await stream.next("repositioned");
    expect([offsetsIn(token), seeks]).toEqual([[0, 0], 1n]);
    // Of before: counts no more.
    stream.ack(1, stream === a ? 0 : 1);
    stream.ackToken(token);
  }
  await a.got(6);
  await b.got(2);
  expect([a.events.slice(4), b.events]).toEqual([
    ["0", "1"],
    ["2", "3"],
  ]);
  expect(offsetsIn((await get()).token)).toEqual([0, 0]);
  await call((done) => bed.stubs[1]?.forgetSession(of, done));
  for (const stream of [a, b]) expect(await stream.failure()).toMatchObject({ name: "SUPERSEDED" });
  await expect(get()).rejects.toThrow("SESSION_NOT_FOUND");
});

test("store down: members go on for the lapse time, with Unverified once, then wait; strict ends; all go on after", async () => {
  await start(1, { memberLapseMs: 3000, memberReturnMs: 100 });
  const a = member("A", "one");
  await a.next("assigned");
  const strict = bed.stream("A", { name: "strict", mode: SHARED, strict: true });
  await strict.next("assigned");
  trouble = { reason: "down on purpose", isDone: false };
  expect(await strict.failure()).toMatchObject({ name: "SESSION_STORE_UNAVAILABLE" });
  expect(await member("B", "new").failure()).toMatchObject({ name: "SESSION_STORE_UNAVAILABLE" });
  await a.next("unverified");
  await bed.publish(1);
  await a.got(1);
  const begunMs = performance.now();
  while (performance.now() - begunMs < 3100) await a.next("heartbeat");
  await bed.publish(1);
  await a.next("heartbeat");
  await a.next("heartbeat");
  expect(a.events).toEqual(["0"]);
  trouble = undefined;
  // Nobody came meanwhile: it is its own still.
  await a.until(() => a.events.length === 2 || a.ended !== undefined, "stuck", true);
  expect(a.received.filter(({ $case }) => $case === "unverified")).toHaveLength(1);
});

test("the store lost everything: its members bring the session back as they have it", async () => {
  await start(2);
  const [a, b] = await pair();
  acknowledging(b);
  for (const p of [0, 1]) await bed.publish(2, p);
  await storeHas(2, 2);
  bed.store.empty();
  for (const p of [0, 1]) await bed.publish(1, p);
  await a.got(3);
  await b.got(3);
  let offsets: number[] = [];
  while (offsets.join() !== "3,3")
    offsets = await get().then(
      ({ token }) => offsetsIn(token),
      () => [],
    );
  expect((await get()).members).toHaveLength(2);
});

test("one name has one mode; a token start, and acks of what is not held, are named (P10)", async () => {
  await start(2);
  const a = member("A", "one");
  const { token } = await a.next("opened");
  const exclusive = bed.stream("B", {});
  expect(await exclusive.failure()).toMatchObject({
    name: "SESSION_MODE_DIFFERS",
    message: expect.stringContaining("SHARED"),
  });
  const other = bed.stream("B", { name: "other" });
  await other.next("opened");
  const mixed = bed.stream("A", { name: "other", mode: SHARED });
  expect(await mixed.failure()).toMatchObject({
    name: "SESSION_MODE_DIFFERS",
    message: expect.stringContaining("EXCLUSIVE"),
  });
  const byToken = bed.stream("B", { mode: SHARED, instance: "two" }, at(token));
  expect(await byToken.failure()).toMatchObject({
    name: "INVALID_REQUEST",
    message: expect.stringContaining("open.start.token"),
  });
  const b = member("B", "three");
  await b.next("assigned");
  await b.next("assigned");
  b.ack(0, 0);
  expect(await b.failure()).toMatchObject({
    name: "INVALID_REQUEST",
    message: expect.stringContaining("holds no partition 0"),
  });
  expect(offsetsIn((await get()).token)).toEqual([0, 0]);
});

test("a client of the library that ends its loop leaves: the others have its partitions at once", async () => {
  await start(1);
  await bed.publish(1);
  const client = new ThroughlineClient([bed.servers[0]?.address as string]);
  const session = { name: "worker", mode: "shared" } as const;
  for await (const batch of client.subscribe({ topic: "orders", start: EARLIEST.at, session })) {
    batch.ack();
    break;
  }
  client.close();
  expect(await get()).toMatchObject({ held: false, members: [] });
});
