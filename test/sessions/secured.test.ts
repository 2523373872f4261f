/** TLS, user and password before a real Redis: what serves, who is kept out, and that nobody reads a secret. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import type { RedisStoreOptions } from "../../sidecar/sessions/redis-store.ts";
import { loopbackCertificate } from "../certificate.ts";
import { claimOf, type Driver, essentialCases, holder, newKey } from "./cases.ts";
import { openPlain, openStore, type Plain, plainDeeds, SLOW_MS } from "./real-store.ts";

const PASSWORD = 'se"cr\\et-42';
/** No more than the product needs. */
const RIGHTS =
  "~throughline:* -@all +ping +eval +evalsha +type +hget +hgetall +hset +hdel +hincrby +del +pexpire +time";

let directory: string;
let redis: EmbeddedStore;
let plain: Plain;
let driver: Driver;
let access: Partial<RedisStoreOptions>;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-store-secured-"));
  const { cert, key } = await loopbackCertificate();
  const files = { certFile: join(directory, "cert.pem"), keyFile: join(directory, "key.pem") };
  await writeFile(files.certFile, cert);
  await writeFile(files.keyFile, key);
  redis = await startStore({
    directory,
    ...{ user: "throughline", password: PASSWORD, rights: RIGHTS, tls: files },
    admin: { user: "admin", password: "admin" },
  });
  plain = await openPlain(redis.port, { username: "admin", password: "admin", ca: cert });
  access = { user: "throughline", password: PASSWORD, tls: { ca: Buffer.from(cert) } };
  driver = {
    store: openStore(redis.port, access),
    other: openStore(redis.port, access),
    ...plainDeeds(plain.ask),
  };
}, SLOW_MS);
afterAll(async () => {
  await driver?.store.close();
  await driver?.other.close();
  plain?.close();
  await redis?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

describe("with the rights that it needs and no others", () => {
  essentialCases(() => driver);
});

test("settings that it may not read are said to be unchecked, with what they should be", async () => {
  expect(await driver.store.inspect()).toEqual([
    expect.stringMatching(/could not be checked \(NOPERM .*noeviction and appendonly yes\.$/),
  ]);
});

test.each([
  ["a wrong password", { password: "wrong-secret" }, /WRONGPASS.*--session-store-password-file/],
  ["no password", { user: undefined, password: undefined }, /NOAUTH.*--session-store-user/],
  ["no authority", { tls: {} }, /certificate.*--session-store-tls-ca-file/],
  ["no TLS", { tls: undefined }, /rediss:\/\//],
] as const)(
  "%s: unavailable, with the next step and without a secret",
  async (_name, more, said) => {
    const store = openStore(redis.port, { ...access, ...more });
    const outcome = await store.claim(newKey(), claimOf(holder("a")));
    expect(outcome).toMatchObject({ kind: "unavailable", reason: expect.stringMatching(said) });
    expect(JSON.stringify(outcome)).not.toMatch(/secret|se.{1,3}cr/);
    await store.close();
  },
);

test(
  "settings that lose sessions are named, each with its remedy; none when all is well",
  async () => {
    const loose = await startStore({
      directory: join(directory, "loose"),
      settings: { appendonly: "no", save: '""', "maxmemory-policy": "allkeys-lru" },
    });
    const store = openStore(loose.port);
    expect(await store.inspect()).toEqual([
      expect.stringMatching(/allkeys-lru.*set maxmemory-policy noeviction\.$/),
      expect.stringMatching(/set appendonly yes\.$/),
    ]);
    const admin = await openPlain(loose.port);
    await admin.ask("CONFIG", "SET", "save", "60 1");
    expect(await store.inspect()).toHaveLength(1);
    await admin.ask("CONFIG", "SET", "maxmemory-policy", "noeviction");
    expect(await store.inspect()).toEqual([]);
    await admin.ask("CONFIG", "SET", "save", "");
    await admin.ask("CONFIG", "SET", "appendonly", "yes");
    expect(await store.inspect()).toEqual([]);
    admin.close();
    await store.close();
    // It would first end the rewrite that appendonly began.
    await loose.kill();
  },
  SLOW_MS,
);

test(
  "a full store that does not evict refuses, and says so",
  async () => {
    const full = await startStore({
      directory: join(directory, "full"),
      settings: { maxmemory: "1" },
    });
    const store = openStore(full.port);
    expect(await store.claim(newKey(), claimOf(holder("a")))).toMatchObject({
      kind: "unavailable",
      reason: expect.stringMatching(/OOM.*more memory/),
    });
    await store.close();
    await full.stop();
  },
  SLOW_MS,
);
