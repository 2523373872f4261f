/** Sessions in a Redis Cluster: each on its node, found again when it moves, and alone in its outage. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { SessionKey } from "../../sidecar/sessions/session-store.ts";
import { claimed, claimOf, type Driver, essentialCases, holder, newKey, saveOf } from "./cases.ts";
import { keyOf, openStore, plainDeeds, SLOW_MS } from "./real-store.ts";
import { type StoreCluster, startCluster } from "./store-cluster.ts";

/** Longer than a busy machine is late. */
const LIMIT_MS = 2000;
const PASSWORD = "cluster-42";
/** What the chart's README lists for a server's user in a cluster, and no more. */
const RIGHTS =
  "~throughline:* -@all +ping +eval +evalsha +type +hget +hgetall +hset +hdel +hincrby +del +pexpire +time +config|get +cluster|slots +asking";

let directory: string;
let cluster: StoreCluster;
let driver: Driver;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-store-cluster-"));
  cluster = await startCluster(directory);
  for (const { ask } of cluster.plain)
    await ask("ACL", "SETUSER", "throughline", "on", `>${PASSWORD}`, ...RIGHTS.split(" "));
  // One address is enough: the others are in its map.
  const access = { cluster: true, user: "throughline", password: PASSWORD };
  const open = (node: number) => openStore(cluster.nodes[node]?.port ?? 0, access);
  driver = {
    store: open(0),
    other: open(1),
    ...plainDeeds(cluster.ask),
    empty: async () => {
      for (const { ask } of cluster.plain) await ask("FLUSHALL");
    },
  };
}, SLOW_MS);
afterAll(async () => {
  await driver?.store.close();
  await driver?.other.close();
  await cluster?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

describe("in a cluster, with the rights that it needs and no others", () => {
  essentialCases(() => driver);
});

async function slotOf(key: SessionKey): Promise<number> {
  return Number(await cluster.ask("CLUSTER", "KEYSLOT", keyOf(key)));
}

async function nodeOf(key: SessionKey): Promise<number> {
  const slot = await slotOf(key);
  return Math.floor(slot / Math.ceil(16_384 / 3));
}

/** A new session on that node. */
async function keyOn(node: number): Promise<SessionKey> {
  let key = newKey();
  while ((await nodeOf(key)) !== node) key = newKey();
  return key;
}

test("a session whose slot moves is found on the way and at its new node", async () => {
  const key = await keyOn(0);
  const slot = String(await slotOf(key));
  const [from, to, third] = cluster.plain;
  const { held } = await claimed(driver.store, key, claimOf(holder("a")));
  const [fromId, toId] = await Promise.all(
    [from, to].map(async (node) => String(await node?.ask("CLUSTER", "MYID"))),
  );
  await to?.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", fromId as string);
  await from?.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", toId as string);
  expect(await driver.store.save(held, saveOf(1, "p1"))).toEqual({ kind: "saved" });
  const port = String(cluster.nodes[1]?.port);
  await from?.ask("MIGRATE", "127.0.0.1", port, keyOf(key), "0", "5000");
  // Half-way: asked at its old node, it is sent on for this one call.
  expect(await driver.store.save(held, saveOf(2, "p2"))).toEqual({ kind: "saved" });
  const [state] = await driver.store.readMany([key]);
  expect(state).toMatchObject({ position: Buffer.from("p2") });
  for (const node of [to, from, third])
    await node?.ask("CLUSTER", "SETSLOT", slot, "NODE", toId as string);
  expect(await driver.other.save(held, saveOf(3, "p3"))).toEqual({ kind: "saved" });
  expect(await driver.store.read(key)).toMatchObject({ position: Buffer.from("p3") });
});

test("a frozen node takes its own sessions away and no others; all mends itself", async () => {
  const store = openStore(cluster.nodes[2]?.port ?? 0, { cluster: true, timeoutMs: LIMIT_MS });
  const keys = await Promise.all([0, 1, 2].map(keyOn));
  const usable = async () => (await store.readMany(keys)).map(({ kind }) => kind !== "unavailable");
  while ((await usable()).includes(false));
  cluster.nodes[2]?.freeze();
  expect(await usable()).toEqual([true, true, false]);
  // Also while its map cannot be had from the frozen one.
  expect(await usable()).toEqual([true, true, false]);
  const addresses = cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  const fresh = openStore(0, { addresses, cluster: true, timeoutMs: LIMIT_MS });
  while ((await fresh.read(keys[0] as SessionKey)).kind === "unavailable");
  await fresh.close();
  cluster.nodes[2]?.thaw();
  while ((await usable()).includes(false));
  await cluster.nodes[1]?.restart("kept");
  while ((await usable()).includes(false));
  await store.close();
});

test("the settings of every node are looked at", async () => {
  await cluster.plain[1]?.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random");
  const found = await driver.store.inspect();
  expect(found).toEqual([expect.stringContaining(`127.0.0.1:${cluster.nodes[1]?.port}`)]);
});

test("a cluster that is taken for one node says so, and one node that is taken for a cluster", async () => {
  const store = openStore(cluster.nodes[0]?.port ?? 0);
  expect(await store.read(await keyOn(2))).toMatchObject({
    kind: "unavailable",
    reason: expect.stringContaining("--session-store-cluster true"),
  });
  await store.close();
});
