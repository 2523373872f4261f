/** The demo's database in a PostgreSQL that may be somebody's: what is not the demo's is never dropped. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type EmbeddedPostgres, startPostgres } from "../../local/embedded-postgres.ts";
import { connectSql } from "../../local/postgres-client.ts";
import { makeTemporaryDatabase } from "../../local/temporary-database.ts";

const SLOW_MS = 240_000;
const NAME = "throughline_demo";

let folder: string;
let postgres: EmbeddedPostgres;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-temporary-"));
  postgres = await startPostgres({ directory: folder, settings: { fsync: "off" } });
}, SLOW_MS);

afterAll(async () => {
  await postgres?.stop();
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

async function ask(url: string, query: string): Promise<unknown[]> {
  const sql = await connectSql(url);
  try {
    return (await sql.query({ text: query, rowMode: "array" })).rows.flat();
  } finally {
    await sql.end();
  }
}

const databases = () =>
  ask(postgres.url, "select datname from pg_database where datname like 'throughline%'");

test("what an interrupted run left is made anew, with its slots and sessions; the end leaves nothing", async () => {
  const { url } = await makeTemporaryDatabase(postgres.url, NAME, "host:/it's here");
  const left = await connectSql(url);
  await left.query("create table t ()");
  await left.query("select pg_create_logical_replication_slot('left', 'test_decoding')");
  const again = await makeTemporaryDatabase(postgres.url, NAME, "host:/it's here");
  expect(again.url).toBe(url);
  expect(await ask(url, "select to_regclass('t') is null")).toEqual([true]);
  await again.drop();
  expect(await databases()).toEqual([]);
  expect(await ask(postgres.url, "select count(*)::int from pg_replication_slots")).toEqual([0]);
});

test("a database of that name that another checkout, or nobody, has made is refused and stays", async () => {
  const other = await makeTemporaryDatabase(postgres.url, NAME, "host:/other");
  await expect(makeTemporaryDatabase(postgres.url, NAME, "host:/mine")).rejects.toThrow(
    /^PostgreSQL has a database throughline_demo that this checkout did not make: drop it if/,
  );
  expect(await databases()).toEqual([NAME]);
  await other.drop();
});

test("a user who may not make databases, and a server that is not there, are told what to do", async () => {
  await ask(postgres.url, "create role poor login");
  const poor = postgres.url.replace("postgres@", "poor@");
  await expect(makeTemporaryDatabase(poor, NAME, "host:/mine")).rejects.toThrow(
    /permission denied to create database\): give the user of POSTGRES_URL the rights CREATEDB/,
  );
  await expect(
    makeTemporaryDatabase("postgres://u@127.0.0.1:1/d", NAME, "host:/mine"),
  ).rejects.toThrow(/^PostgreSQL at 127\.0\.0\.1:1 does not let us in: .*Correct POSTGRES_URL/);
});
