/** The app's side is SQL: what the outbox takes and refuses, and who may do what, on a real PostgreSQL. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import pg from "pg";
import { type EmbeddedPostgres, startPostgres } from "../../local/embedded-postgres.ts";
import { ROOT } from "../source-files.ts";

const SLOW_MS = 240_000;
const SCHEMA = readFileSync(join(ROOT, "sequencer/schema.sql"), "utf8");
const INTO = "insert into throughline.outbox";

let folder: string;
let postgres: EmbeddedPostgres;
const clients: pg.Client[] = [];
let owner: pg.Client;
let app: pg.Client;

async function connect(user: string): Promise<pg.Client> {
  const client = new pg.Client(postgres.url.replace("postgres@", `${user}@`));
  await client.connect();
  clients.push(client);
  return client;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "throughline-outbox-sql-"));
  postgres = await startPostgres({ directory: folder, settings: { fsync: "off" } });
  owner = await connect("postgres");
  await owner.query("create role app login");
  await owner.query("create role sequencer login replication");
  // Two that migrate at once wait for each other; later releases do it again.
  const other = await connect("postgres");
  await Promise.all([owner.query(SCHEMA), other.query(SCHEMA)]);
  await owner.query(SCHEMA);
  await owner.query("select throughline.grant_app('app')");
  await owner.query("select throughline.grant_sequencer('sequencer')");
  // As the sequencer does for a Topic that is Ready, and for one that is gone.
  await owner.query(
    "insert into throughline.topics (name, max_event_bytes, accepts) values ('orders', 1000, true), ('gone', 1000, false)",
  );
  app = await connect("app");
}, SLOW_MS);

afterAll(async () => {
  for (const client of clients) await client.end();
  await postgres?.stop();
  rmSync(folder, { recursive: true, force: true });
}, SLOW_MS);

/** What PostgreSQL says to it; undefined: it is done. */
async function refusal(client: pg.Client, query: string): Promise<string | undefined> {
  return client.query(query).then(
    () => undefined,
    ({ message }: Error) => message,
  );
}

/** Every right of a role in the schema, of tables as a whole and of columns alone. */
async function rightsOf(role: string): Promise<Record<string, string>> {
  const { rows } = await owner.query({
    text: `with relations as (
        select c.oid, c.relname as name from pg_class c
        where c.relnamespace = 'throughline'::regnamespace and c.relkind in ('r', 'v', 'S')),
      whole as (
        select r.oid, r.name, p from relations r,
          unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
        where has_table_privilege($1, r.oid, p)),
      parts as (
        select r.oid, r.name || '.' || a.attname as name, p from relations r
        join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped,
          unnest(array['select', 'insert', 'update', 'references']) p
        where has_column_privilege($1, r.oid, a.attname, p)
          and not exists (select from whole w where w.oid = r.oid and w.p = p))
      select name, string_agg(p, ', ' order by p) as rights
      from (select name, p from whole union all select name, p from parts) of group by name`,
    values: [role],
  });
  return Object.fromEntries(rows.map(({ name, rights }) => [name, rights]));
}

test("an app's role may publish and see what became of it, and touch no stamp", async () => {
  const inserted = ["topic", "type", "key", "payload", "headers"];
  const rights = {
    ...Object.fromEntries(inserted.map((column) => [`outbox.${column}`, "insert"])),
    ...{ "outbox.id": "select", events: "select", topics: "select", last_values: "select" },
  };
  expect(await rightsOf("app")).toEqual(rights);

  const { rows } = await app.query(
    "select throughline.publish('orders', 'made', 'k', '\\x00ff', '{\"h\": \"v\"}') as id",
  );
  await app.query(`${INTO} (topic) values ('orders') returning id`);
  const seen = await app.query(
    "select type, commit_id, sequence, commit_time, parked from throughline.events where id = $1",
    [rows[0].id],
  );
  expect(seen.rows).toEqual([
    { type: "made", commit_id: "0", sequence: "0", commit_time: null, parked: null },
  ]);
  for (const query of [
    "update throughline.order_values set sequence = 1",
    "update throughline.outbox set payload = null",
    "delete from throughline.outbox",
    "truncate throughline.outbox",
    `${INTO} (id, topic) overriding system value values (1, 'orders')`,
    "update throughline.last_values set last_value = 0",
    "alter publication throughline set (publish = 'delete')",
    "drop view throughline.events",
  ])
    expect([query, await refusal(app, query)]).toEqual([
      query,
      expect.stringMatching(/^(permission denied|must be owner)/),
    ]);
  // Whoever may not give rights gives none.
  await refusal(app, "select throughline.grant_sequencer('app')");
  expect(await rightsOf("app")).toEqual(rights);
});

test("a sequencer's role has what its work needs, and no more", async () => {
  expect(await rightsOf("sequencer")).toEqual({
    ...{ events: "select", schema_versions: "select" },
    ...{ outbox: "delete, select", parked: "insert, select" },
    ...{ order_values: "delete, insert, select", slot: "delete, insert, select, update" },
    ...{ topics: "insert, select, update", last_values: "insert, select, update" },
    heartbeat: "insert, select, update",
  });
});

test.each<[string, string, RegExp]>([
  ["no topic", "(topic) values (null)", /null value in column "topic"/],
  ["no type", "(topic, type) values ('orders', null)", /null value in column "type"/],
  ["an empty topic", "(topic) values ('')", /^topic: "" is no Topic of this outbox/],
  ["an unknown topic", "(topic) values ('refunds')", /^topic: "refunds" is no Topic/],
  ["a topic whose Topic is gone", "(topic) values ('gone')", /^topic: "gone" is no Topic/],
  [
    "a huge payload",
    "(topic, payload) values ('orders', decode(repeat('00', 1001), 'hex'))",
    /^the event has 1001 bytes; topic "orders" takes up to 1000 \(limits\.maxEventBytes\)/,
  ],
  [
    "a huge key",
    "(topic, key) values ('orders', repeat('ü', 501))",
    /^the event has 1002 bytes; topic "orders" takes up to 1000/,
  ],
  [
    "huge headers",
    "(topic, headers) values ('orders', jsonb_build_object('h', repeat('x', 1000)))",
    /^the event has \d+ bytes; topic "orders" takes up to 1000/,
  ],
  ["a list of headers", "(topic, headers) values ('orders', '[]')", /^headers: must be a JSON obj/],
  ["headers that are null", "(topic, headers) values ('orders', 'null')", /^headers: must be a JS/],
  ["a header of a number", `(topic, headers) values ('orders', '{"a": 1}')`, /^headers: .*strings/],
  ["a nested header", `(topic, headers) values ('orders', '{"a": {}}')`, /^headers: .*strings/],
  ["a header without a name", `(topic, headers) values ('orders', '{"": ""}')`, /^headers: names/],
  ["our own header", `(topic, headers) values ('orders', '{"TL-a": "1"}')`, /^headers: .*own/],
  [
    "the type's header",
    `(topic, headers) values ('orders', '{"ce_type": "a"}')`,
    /^headers: .*typ/,
  ],
  ["text that is no UTF-8", "(topic, key) values ('orders', E'\\xff')", /^invalid byte sequence/],
  [
    "bytes as text that are no UTF-8",
    "(topic, key) values ('orders', convert_from('\\xff', 'UTF8'))",
    /^invalid byte sequence/,
  ],
])("the outbox refuses %s", async (_what, row, words) => {
  const count = "select count(*)::int as count from throughline.outbox";
  const before = (await owner.query(count)).rows[0].count;
  expect(await refusal(app, `${INTO} ${row}`)).toMatch(words);
  expect((await owner.query(count)).rows[0].count).toBe(before);
});

test("publish() and COPY are refused by the same checks, and a COPY with a bad row as a whole", async () => {
  expect(await refusal(app, "select throughline.publish('refunds')")).toMatch(/"refunds" is no/);
  expect(await refusal(app, "select throughline.publish(null)")).toMatch(/column "topic"/);
  const before = await owner.query("select max(id) as id from throughline.outbox");
  const copy = (rows: string): string =>
    `copy throughline.outbox (topic, type) from program 'printf "${rows}"'`;
  expect(await refusal(owner, copy("orders\\tcopied\\nrefunds\\tcopied\\n"))).toMatch(
    /"refunds" is no Topic/,
  );
  expect(await refusal(owner, copy("orders\\tcopied\\norders\\tcopied\\n"))).toBeUndefined();
  const { rows } = await owner.query("select type from throughline.outbox where id > $1", [
    before.rows[0].id,
  ]);
  expect(rows).toEqual([{ type: "copied" }, { type: "copied" }]);
});

test("columns that the sequencer reads can be neither dropped nor changed; others may be added", async () => {
  for (const change of ["drop column payload", "alter column key type bytea using key::bytea"])
    expect(await refusal(owner, `alter table throughline.outbox ${change}`)).toMatch(
      /^cannot (drop|alter)/,
    );
  expect(
    await refusal(owner, "alter table throughline.outbox add column note text"),
  ).toBeUndefined();
  expect(await refusal(app, "select throughline.publish('orders')")).toBeUndefined();
});
