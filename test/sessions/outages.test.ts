/** A store that is killed, frozen, emptied, slow or not let in: every call ends in time, and all mends itself. */
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import type { Held, SessionKey, SessionStore } from "../../sidecar/sessions/session-store.ts";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { at, claimOf, holder, newKey, saveOf } from "./cases.ts";
import { joinOf, Speaker } from "./memberships.ts";
import { openStore, SLOW_MS } from "./real-store.ts";

const LIMIT_MS = 400;
/** On a busy machine timers fire late. */
const LATE_MS = 2000;

let directory: string;
let redis: EmbeddedStore;
let store: SessionStore;
let key: SessionKey;
let held: Held;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-outages-"));
  // What was answered is on disk, however busy that is: by default a kill may lose the last second.
  redis = await startStore({ directory, settings: { appendfsync: "always" } });
}, SLOW_MS);
afterAll(async () => {
  await redis?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

beforeEach(async () => {
  store = openStore(redis.port, { timeoutMs: LIMIT_MS });
  key = newKey();
  const claim = claimOf(holder("a"));
  const outcome = await answered(() => store.claim(key, claim));
  if (outcome.kind !== "claimed") throw new Error(outcome.kind);
  const { topicId } = claim;
  held = { key, topicId, holder: claim.holder, fence: outcome.fence };
  await answered(() => store.save(held, saveOf(1, "p1")));
});
afterEach(() => store.close());

/** Nothing is called but what its users call; the first answer that is one ends the wait. */
async function recovered(one: SessionStore): Promise<void> {
  await answered(() => one.read({ ...newKey() }));
}

/** A busy machine may be later than a limit: whoever uses the store asks again, and so do these tests. */
async function answered<T extends { readonly kind: string }>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    const outcome = await ask();
    if (outcome.kind !== "unavailable") return outcome;
  }
}

const NOTHING = {
  ...{ topicId: "t", seeks: 0, generation: 1, changedMs: 1 },
  ...{ members: [], shares: [] },
};

async function allUnavailable(): Promise<string[]> {
  const begunMs = performance.now();
  const outcomes = await Promise.all([
    store.claim(key, claimOf(holder("b"))),
    store.save(held, saveOf(2, "p2")),
    store.read(key),
    store.seek(key, { topicId: "topic-1", position: at("s"), positions: [] }),
    store.forget(key),
    store.join(key, joinOf("m")),
    new Speaker(store, key, "m").renew([]),
    store.restore(key, NOTHING, 1000),
    ...(await store.readMany([key, newKey()])),
  ]);
  expect(performance.now() - begunMs).toBeLessThan(2 * LIMIT_MS + LATE_MS);
  return outcomes.map((outcome) => {
    if (outcome.kind !== "unavailable") throw new Error(JSON.stringify(outcome));
    return outcome.reason;
  });
}

test("killed: every call is answered within its limit; after a restart with its data all goes on", async () => {
  await redis.kill();
  for (const reason of await allUnavailable()) expect(reason).toContain(`127.0.0.1:${redis.port}`);
  expect(await store.inspect()).toEqual([expect.stringContaining("could not be checked")]);
  await redis.restart("kept");
  await recovered(store);
  expect(await answered(() => store.read(key))).toMatchObject({
    position: at("p1"),
    fence: held.fence,
  });
  expect(await answered(() => store.save(held, saveOf(3, "p3")))).toEqual({ kind: "saved" });
});

test("killed with calls on their way: they end, and nothing is thrown elsewhere", async () => {
  redis.freeze();
  const calls = Array.from({ length: 500 }, (_none, i) => store.save(held, saveOf(i + 2, "x")));
  await redis.kill();
  const outcomes = await Promise.all(calls);
  expect(new Set(outcomes.map(({ kind }) => kind))).toEqual(new Set(["unavailable"]));
  await redis.restart("kept");
  await recovered(store);
});

test("restarted without its data: the holder makes the session again (T3), the scripts are sent again", async () => {
  await redis.restart("lost");
  await recovered(store);
  expect(await answered(() => store.read(key))).toEqual({ kind: "none", forgotten: undefined });
  expect(await answered(() => store.save(held, saveOf(2, "p2")))).toEqual({ kind: "saved" });
  expect(await answered(() => store.read(key))).toMatchObject({
    position: at("p2"),
    fence: held.fence,
  });
});

test("frozen: every call ends at its limit; what it did when it thawed moves nothing back", async () => {
  redis.freeze();
  const begunMs = performance.now();
  const reason = await store.save(held, saveOf(2, "p2"));
  expect(performance.now() - begunMs).toBeGreaterThan(LIMIT_MS - 20);
  expect(reason).toMatchObject({ kind: "unavailable", reason: expect.stringContaining("400 ms") });
  expect((await store.save(held, saveOf(3, "p3"))).kind).toBe("unavailable");
  redis.thaw();
  await recovered(store);
  expect(await answered(() => store.save(held, saveOf(4, "p4")))).toEqual({ kind: "saved" });
  expect(await answered(() => store.read(key))).toMatchObject({
    position: at("p4"),
    fence: held.fence,
  });
});

test("frozen for longer: it is tried less often, and in between calls are refused without a wait", async () => {
  redis.freeze();
  let quickSinceMs = performance.now();
  while (performance.now() - quickSinceMs < LIMIT_MS) {
    const begunMs = performance.now();
    expect((await store.read(key)).kind).toBe("unavailable");
    if (performance.now() - begunMs > LIMIT_MS / 4) quickSinceMs = performance.now();
  }
  redis.thaw();
  await recovered(store);
});

test("a store that is down at the start is used when it comes", async () => {
  await redis.kill();
  const early = openStore(redis.port, { timeoutMs: LIMIT_MS });
  expect(await early.claim(newKey(), claimOf(holder("b")))).toMatchObject({
    kind: "unavailable",
    reason: expect.stringMatching(/ECONNREFUSED.*--session-store/),
  });
  await redis.restart("kept");
  await recovered(early);
  const claim = claimOf(holder("b"));
  expect((await answered(() => early.claim(key, claim))).kind).toBe("claimed");
  await early.close();
});

test("more calls than may wait are refused at once, and the rest at the limit", async () => {
  redis.freeze();
  const keys = Array.from({ length: 19_000 }, () => key);
  const waiting = store.readMany(keys);
  const refused = await store.readMany(keys.slice(0, 5000));
  expect(refused[0]).toMatchObject({ reason: expect.stringContaining("19000 calls wait") });
  const states = await waiting;
  expect(states).toHaveLength(19_000);
  expect(states.every(({ kind }) => kind === "unavailable")).toBe(true);
  redis.thaw();
  await recovered(store);
});

test("a closed store answers unavailable, also what was asked before", async () => {
  redis.freeze();
  const before = store.read(key);
  await store.close();
  expect((await before).kind).toBe("unavailable");
  expect(await store.read(key)).toMatchObject({ reason: expect.stringContaining("closed") });
  redis.thaw();
});

describe("through a network that fails", () => {
  let proxy: FaultProxy;
  let far: SessionStore;
  beforeEach(async () => {
    proxy = await FaultProxy.listen({ target: redis.port });
    far = openStore(proxy.port, { timeoutMs: LIMIT_MS });
    await recovered(far);
  });
  afterEach(async () => {
    await far.close();
    await proxy.close();
  });

  test("slower than the limit: unavailable, until it is fast again", async () => {
    proxy.fault({ kind: "slow", delayMs: 3 * LIMIT_MS });
    expect((await far.read(key)).kind).toBe("unavailable");
    proxy.fault({ kind: "none" });
    await recovered(far);
    expect(await answered(() => far.read(key))).toMatchObject({ position: at("p1") });
  });

  test("slower than the limit, but answering: the connection is kept", async () => {
    const position = Buffer.alloc(20_000, "p");
    await answered(() => store.save(held, { sequence: 9, position, release: false }));
    // Of five seconds' answers two come in time, also where the machine stalls for one.
    const timeoutMs = 2000;
    const slow = openStore(proxy.port, { timeoutMs });
    await recovered(slow);
    const { accepted } = proxy;
    proxy.fault({ kind: "slow", bytesPerSecond: 400_000 });
    const states = await slow.readMany(Array.from({ length: 100 }, () => key));
    expect(new Set(states.map(({ kind }) => kind))).toEqual(new Set(["session", "unavailable"]));
    await recovered(slow);
    expect(proxy.accepted).toBe(accepted);
    await slow.close();
  });

  test("who takes a connection and says nothing is given up", async () => {
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    proxy.target = (mute.address() as AddressInfo).port;
    proxy.reset();
    while (proxy.connections.size === 0) await far.read(key);
    proxy.target = redis.port;
    await recovered(far);
    mute.close();
  });

  test("answers are lost: the connection is given up, and a new one serves", async () => {
    const [connection] = proxy.connections;
    connection?.fault({ kind: "lose", way: "down" });
    const claim = claimOf(holder("b"));
    expect((await far.claim(key, claim)).kind).toBe("unavailable");
    await recovered(far);
    expect(proxy.accepted).toBeGreaterThan(1);
    // It was done: the same claim again gets the fence that is stored.
    const state = await answered(() => store.read(key));
    const again = await answered(() => far.claim(key, claim));
    if (state.kind !== "session") throw new Error(state.kind);
    expect(again).toMatchObject({ kind: "claimed", fence: state.fence });
  });

  test("reset in the middle: one connection after the other, never more at once", async () => {
    for (let round = 0; round < 20; round++) {
      const reads = Array.from({ length: 50 }, () => far.read(key));
      for (const connection of proxy.connections) connection.reset();
      await Promise.all(reads);
      await recovered(far);
      expect(proxy.connections.size).toBe(1);
    }
  });
});
