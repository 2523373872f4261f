/**
 * A store that fails over to a replica which has not had the last writes (T3, M4): real processes, whose
 * replication is frozen, then the primary is killed and the replica promoted.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import type { SessionKey, SessionStore } from "../../sidecar/sessions/session-store.ts";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { at, claimed, claimOf, holder, newKey, saveOf, TOPIC } from "./cases.ts";
import { holding, joined, joinOf, ownersOf, Speaker } from "./memberships.ts";
import { openPlain, openStore, type Plain, SLOW_MS } from "./real-store.ts";

let directory: string;
let primary: EmbeddedStore;
let replica: EmbeddedStore;
let replication: FaultProxy;
/** What servers know as the store's address. */
let address: FaultProxy;
let ofPrimary: Plain;
let ofReplica: Plain;
let store: SessionStore;
let other: SessionStore;
let key: SessionKey;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-failover-"));
  const settings = { "repl-diskless-sync-delay": "0" };
  primary = await startStore({ directory: join(directory, "primary"), settings });
  replication = await FaultProxy.listen({ target: primary.port });
  replica = await startStore({
    directory: join(directory, "replica"),
    settings: { ...settings, replicaof: `127.0.0.1 ${replication.port}` },
  });
  address = await FaultProxy.listen({ target: primary.port });
  ofPrimary = await openPlain(primary.port);
  ofReplica = await openPlain(replica.port);
  store = openStore(address.port);
  other = openStore(address.port);
  key = newKey();
}, SLOW_MS);

afterEach(async () => {
  await Promise.all([store.close(), other.close()]);
  ofPrimary.close();
  ofReplica.close();
  await Promise.all([address.close(), replication.close()]);
  await Promise.all([primary.kill(), replica.kill()]);
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

/** What was written until now is on the replica; what comes is not. */
async function stopReplication(): Promise<void> {
  while (!String(await ofReplica.ask("INFO", "replication")).includes("master_link_status:up"));
  // WAIT is for what its own connection wrote; what came before that is on the replica then too.
  await ofPrimary.ask("SET", "throughline-test", "written");
  while (Number(await ofPrimary.ask("WAIT", "1", "1000")) < 1);
  replication.fault({ kind: "freeze" });
}

async function failOver(): Promise<void> {
  await primary.kill();
  await ofReplica.ask("REPLICAOF", "NO", "ONE");
  address.target = replica.port;
  address.reset();
  for (const one of [store, other])
    while ((await one.read({ ...newKey() })).kind === "unavailable");
}

test("saves were lost: the holder's next save moves the position on, with the fence it had", async () => {
  const { held } = await claimed(store, key, claimOf(holder("a")));
  await store.save(held, saveOf(1, "p1"));
  await stopReplication();
  await store.save(held, saveOf(2, "p2"));
  await failOver();
  expect(await other.read(key)).toMatchObject({ position: at("p1"), fence: held.fence });
  expect(await store.save(held, saveOf(3, "p3"))).toEqual({ kind: "saved" });
  expect(await other.read(key)).toMatchObject({ position: at("p3"), fence: held.fence });
});

test("a claim was lost: the holder before cannot keep the session, whoever of the two saves first (P5)", async () => {
  const keys = [key, newKey()];
  const before = [];
  for (const one of keys) before.push(await claimed(store, one, claimOf(holder("a"))));
  await stopReplication();
  const after = [];
  for (const one of keys) after.push(await claimed(other, one, claimOf(holder("b"))));
  await failOver();
  for (const [i, newest] of after.entries()) {
    const older = before[i] as (typeof before)[number];
    if (i === 0) expect(await store.save(older.held, saveOf(5, "old"))).toEqual({ kind: "saved" });
    expect(await other.save(newest.held, saveOf(1, "new"))).toEqual({ kind: "saved" });
    const told = { kind: "superseded", by: newest.held.holder };
    expect(await store.save(older.held, saveOf(6, "x"))).toEqual(told);
    expect(await store.read(keys[i] as SessionKey)).toMatchObject({
      ...{ position: at("new"), fence: newest.fence },
    });
  }
});

test("a session was lost: its holder makes it again", async () => {
  await stopReplication();
  const { held } = await claimed(store, key, claimOf(holder("a")));
  await store.save(held, saveOf(1, "p1"));
  await failOver();
  expect(await other.read(key)).toEqual({ kind: "none", forgotten: undefined });
  expect(await store.save(held, saveOf(2, "p2"))).toEqual({ kind: "saved" });
  expect(await other.read(key)).toMatchObject({ position: at("p2"), fence: held.fence });
});

test("a seek was lost that the holder has followed: its next save brings it back", async () => {
  const { held } = await claimed(store, key, claimOf(holder("a")));
  await store.save(held, saveOf(5, "p5"));
  await stopReplication();
  await other.seek(key, { topicId: TOPIC, position: at("s"), positions: [] });
  const told = await store.save(held, saveOf(6, "p6"));
  if (told.kind !== "sought") throw new Error(told.kind);
  await failOver();
  const moved = { ...held, fence: told.fence };
  expect(await store.save(moved, saveOf(7, "s7"))).toEqual({ kind: "saved" });
  expect(await other.read(key)).toMatchObject({ position: at("s7"), fence: told.fence });
});

test("a member's join and a hand-over were lost: it joins again, and what it saved before is not undone (M4)", async () => {
  const a = new Speaker(store, key, "a");
  const b = new Speaker(other, key, "b");
  const first = await joined(store, key, joinOf("a"));
  await a.renewed([holding(first, 2, 25)]);
  await stopReplication();
  await joined(other, key, joinOf("b"));
  const given = await a.renewed([2, 3].map((p) => holding(first, p, 40 + p, { letsGo: true })));
  expect(ownersOf(given)).toEqual(["a", "a", "b", "b"]);
  await b.renewed([holding(given, 2, 50), holding(given, 3, 51)]);
  await failOver();
  expect(await b.renew([])).toEqual({ kind: "no-member", by: undefined });
  await joined(other, key, joinOf("b"));
  await other.restore(key, given, SLOW_MS);
  const again = await b.renewed([holding(given, 2, 52), holding(given, 3, 53)]);
  expect(ownersOf(again)).toEqual(["a", "a", "b", "b"]);
  expect(again.shares.map(({ position }) => position.offset).slice(2)).toEqual([52, 53]);
  const old = await a.renewed([holding(first, 2, 99)]);
  expect(old.shares[2]?.position.offset).toBe(52);
});
