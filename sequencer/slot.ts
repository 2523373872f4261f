/**
 * The replication slot and what is known of it: what a sequencer gathers before it decides, how a slot is
 * made, and how one is given up.
 *
 * Making one: slot with its snapshot → progress in Kafka → in one transaction that sees exactly what was
 * there before the slot: stamp the events that wait, in the order of their ids, and record the slot. A crash
 * in between leaves a slot without a record: it is dropped and made again. P8 holds for what is committed
 * after that point; earlier events have a dense sequence too, by id.
 */
import type { Client } from "pg";
import type { Facts, SlotRecord } from "./decide.ts";
import { FailClosed } from "./fail-closed.ts";
import { lsnOf } from "./lsn.ts";
import { freeSlot, takeLock } from "./ownership.ts";
import { NO_HEADERS } from "./plan.ts";

const SCHEMA_VERSION = 1;
const OLDEST_SERVER = 140_000;
/** From there on standbys take slots over. */
const FAILOVER_SERVER = 170_000;

/** What must be so before anything is asked of the tables. @throws FailClosed */
export async function checkServer(sql: Client): Promise<void> {
  const { rows } = await sql.query(
    `select current_setting('wal_level') as wal_level, current_setting('server_version_num')::int as version,
       current_setting('server_encoding') as encoding, pg_is_in_recovery() as standby,
       to_regclass('throughline.schema_versions') is not null as installed`,
  );
  const { wal_level, version, encoding, standby, installed } = rows[0];
  if (version < OLDEST_SERVER)
    throw new FailClosed(
      "Unsupported",
      `PostgreSQL is ${Math.floor(version / 10_000)}; 14 is the oldest that this works with.`,
    );
  if (wal_level !== "logical")
    throw new FailClosed(
      "WalLevel",
      `wal_level is ${wal_level}. Run: alter system set wal_level = logical; and restart PostgreSQL.`,
    );
  if (standby)
    throw new FailClosed(
      "Unsupported",
      "The database is a standby. Name the primary in --database.",
    );
  if (encoding === "SQL_ASCII")
    throw new FailClosed(
      "Unsupported",
      "The database has the encoding SQL_ASCII, so its texts may be no text. Use one with UTF8.",
    );
  if (!installed)
    throw new FailClosed(
      "SchemaMissing",
      "The database has no schema throughline. Run the sequencer with --do migrate as the database's owner, or sequencer/schema.sql with psql.",
    );
  const installedVersion = await refusedAs(
    sql.query("select max(version) as version from throughline.schema_versions"),
  );
  const found = installedVersion.rows[0].version;
  if (found !== SCHEMA_VERSION)
    throw new FailClosed(
      "SchemaMissing",
      `The schema throughline has version ${found}; this release works with ${SCHEMA_VERSION}. ${found > SCHEMA_VERSION ? "Run the newer release." : "Run the sequencer with --do migrate."}`,
    );
}

async function refusedAs<T>(asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (error) {
    throw refusalOf(error);
  }
}

/** What PostgreSQL does not let us do is for a person to mend; any other error is left as it is. */
export function refusalOf(error: unknown): unknown {
  const { code, message, hint } = error as Error & { code?: string; hint?: string };
  // Slots are used up: one that is freed is enough.
  if (code === "53400") return new Error(`PostgreSQL: ${message}. ${hint ?? ""}`);
  if (code !== "42501") return error;
  return new FailClosed(
    "RightsMissing",
    `PostgreSQL: ${message}. Run as the database's owner: select throughline.grant_sequencer('<the user of --database>');`,
  );
}

/** @throws FailClosed */
export async function gather(
  sql: Client,
  replication: Client,
  slotName: string,
): Promise<Omit<Facts, "owner" | "slotName" | "progress" | "lastValues">> {
  const system = await identify(replication);
  const { timeline } = system;
  const { publication, outbox } = await publicationOf(sql);
  const record = await refusedAs(
    sql.query(`select owner, name, system_id, timeline, consistent_point::text as point,
      publication::text, outbox::text from throughline.slot`),
  );
  const slot = await sql.query(
    `select slot_type = 'logical' and plugin = 'pgoutput' and database = current_database()
         and not temporary as ours,
       coalesce(wal_status, '') = 'lost' as lost, confirmed_flush_lsn::text as confirmed
     from pg_replication_slots where slot_name = $1`,
    [slotName],
  );
  const beat = await sql.query("select safe_lsn::text as safe from throughline.heartbeat");
  const [known] = record.rows;
  const [there] = slot.rows;
  return {
    ...{ ...system, publication, outbox },
    switchPoint:
      known && known.timeline !== timeline
        ? await endOf(known.timeline, timeline, replication)
        : undefined,
    record: known && {
      ...{ owner: known.owner, name: known.name, systemId: known.system_id },
      ...{ timeline: known.timeline, consistentPoint: lsnOf(known.point) },
      ...{ publication: known.publication, outbox: known.outbox },
    },
    slot: there && {
      ...{ isOurs: there.ours, isLost: there.lost },
      confirmed: lsnOf(there.confirmed ?? "0/0"),
    },
    safeLsn: lsnOf(beat.rows[0]?.safe ?? "0/0"),
  };
}

async function identify(replication: Client): Promise<{ systemId: string; timeline: number }> {
  try {
    const { rows } = await replication.query("IDENTIFY_SYSTEM");
    return { systemId: String(rows[0].systemid), timeline: Number(rows[0].timeline) };
  } catch (error) {
    throw new FailClosed(
      "Pooler",
      `What answers at --database does not replicate (${(error as Error).message}): a connection pooler? Name PostgreSQL itself.`,
    );
  }
}

/** Where a timeline ended, by the history of a later one; undefined when it is not in it. */
async function endOf(
  earlier: number,
  later: number,
  replication: Client,
): Promise<bigint | undefined> {
  if (later < earlier) return undefined;
  const { rows } = await replication.query(`TIMELINE_HISTORY ${later}`);
  return switchPointIn(String(rows[0]?.content ?? ""), earlier);
}

/** Pure: a line per timeline, its number, where it ended, why. */
export function switchPointIn(history: string, timeline: number): bigint | undefined {
  for (const line of history.split("\n")) {
    const [, number, lsn] = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line) ?? [];
    if (lsn !== undefined && Number(number) === timeline) return lsnOf(lsn);
  }
  return undefined;
}

/** The slot came along to a new timeline: it counts there from now on. */
export async function followTimeline(sql: Client, timeline: number): Promise<void> {
  await sql.query("update throughline.slot set timeline = $1", [timeline]);
}

/** The publication that `schema.sql` makes: inserts, all of them, of the outbox alone. */
async function publicationOf(sql: Client): Promise<{ publication: string; outbox: string }> {
  const { rows } = await sql.query(
    `select p.oid::text as publication, 'throughline.outbox'::regclass::oid::text as outbox,
       p.pubinsert and not (p.pubupdate or p.pubdelete or p.pubtruncate or p.puballtables)
         and (select array_agg(prrelid) from pg_publication_rel where prpubid = p.oid)
           = array['throughline.outbox'::regclass::oid]
         and not exists (select from pg_publication_rel r where r.prpubid = p.oid
           and coalesce(to_jsonb(r) ->> 'prqual', to_jsonb(r) ->> 'prattrs') is not null) as whole
     from pg_publication p where pubname = 'throughline'`,
  );
  const [found] = rows;
  if (found?.whole) return found;
  throw new FailClosed(
    "PublicationChanged",
    found
      ? "The publication throughline is not as sequencer/schema.sql makes it (inserts of throughline.outbox, no row filter, no column list, nothing else). Correct it with alter publication; what it left out meanwhile did not reach the slot."
      : "The database has no publication throughline. Run the sequencer with --do migrate as the database's owner.",
  );
}

/** @param begun called between slot and record: Kafka gets its first progress. @returns the new slot's record. */
export async function makeSlot(
  sql: Client,
  replication: Client,
  facts: Facts,
  { dropFirst, begun }: { readonly dropFirst: boolean; readonly begun: () => Promise<void> },
): Promise<{ record: SlotRecord; stamped: number; parked: number }> {
  const { slotName: name, owner, systemId, timeline, publication, outbox } = facts;
  if (dropFirst) await sql.query("select pg_drop_replication_slot($1)", [name]);
  const server = await sql.query("select current_setting('server_version_num')::int as version");
  const how =
    server.rows[0].version < FAILOVER_SERVER
      ? "EXPORT_SNAPSHOT"
      : "(SNAPSHOT 'export', FAILOVER true)";
  const made = await refusedAs(
    replication.query(`CREATE_REPLICATION_SLOT "${name}" LOGICAL pgoutput ${how}`),
  );
  const { consistent_point: point, snapshot_name: snapshot } = made.rows[0];
  await begun();
  await sql.query("begin isolation level repeatable read");
  // A literal: this statement takes no parameters.
  await sql.query(`set transaction snapshot '${snapshot}'`);
  const placed = await refusedAs(
    sql.query(
      `with waiting as materialized (
         select o.id, t.id as topic_id, why, row_number() over (order by o.id) - 1 as place,
           row_number() over (partition by t.id, why is null order by o.id) as nth,
           -- Before any commit of the slot, whose first one may be at the point itself: no record begins there.
           ($1::text::pg_lsn - '0/0'::pg_lsn)::bigint - 1 as point
         from throughline.outbox o left join throughline.topics t on t.name = o.topic and t.accepts
         cross join lateral (select octet_length(o.type) + coalesce(octet_length(o.key), 0)
           + coalesce(octet_length(o.payload), 0) + coalesce(octet_length(o.headers::text), 0)) s(bytes)
         cross join lateral (select case
           when t.id is null then '"' || o.topic || '" is no Topic of this Outbox'
           when jsonb_typeof(o.headers) <> 'object' then $2
           when exists (select from jsonb_object_keys(o.headers) k
             where k = 'ce_type' or starts_with(k, 'tl-')) then $2
           when bytes > t.max_event_bytes
             then format('it has %s bytes, and its Topic takes up to %s', bytes, t.max_event_bytes)
           end) w(why)
         where not exists (select from throughline.order_values v where v.event_id = o.id)
           and not exists (select from throughline.parked p where p.event_id = o.id)),
       stamped as (
         insert into throughline.order_values
           (event_id, topic_id, sequence, commit_id, commit_index, commit_time)
         select w.id, w.topic_id, v.last_value + w.nth, w.point, w.place, now()
         from waiting w join throughline.last_values v using (topic_id)
         where why is null returning topic_id, sequence),
       moved as (
         update throughline.last_values v set last_value = s.last
         from (select topic_id, max(sequence) as last from stamped group by topic_id) s
         where v.topic_id = s.topic_id),
       parked as (
         insert into throughline.parked (event_id, commit_id, commit_index, commit_time, reason)
         select id, point, place, now(), why from waiting where why is not null returning 1)
       select (select count(*)::int from stamped) as stamped,
         (select count(*)::int from parked) as parked`,
      [point, NO_HEADERS],
    ),
  );
  await sql.query(
    `insert into throughline.slot
       (owner, name, system_id, timeline, consistent_point, publication, outbox)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [owner, name, systemId, timeline, point, publication, outbox],
  );
  await sql.query("commit");
  return {
    record: {
      ...{ owner, name, systemId, timeline, publication, outbox },
      consistentPoint: lsnOf(point),
    },
    ...(placed.rows[0] as { stamped: number; parked: number }),
  };
}

/**
 * Gives the slot up, so that it holds back no WAL; events, stamps and progress stay, and so does the publication,
 * which is the schema's. Waits until no sequencer is at work, unless the outbox is another's.
 * @throws FailClosed, or what PostgreSQL said.
 */
export async function forgetSlot(
  sql: Client,
  slotName: string,
  hooks: Parameters<typeof takeLock>[1],
): Promise<void> {
  const schema = await sql.query("select to_regclass('throughline.slot') is not null as there");
  if (schema.rows[0].there) {
    const record = await refusedAs(sql.query("select name from throughline.slot"));
    const name = record.rows[0]?.name ?? slotName;
    // Whose lock another's would be.
    if (name === slotName) await takeLock(sql, hooks);
  }
  await freeSlot(sql, slotName, hooks.pause);
  if (schema.rows[0].there)
    await refusedAs(sql.query("delete from throughline.slot where name = $1", [slotName]));
  await refusedAs(
    sql.query(
      "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
      [slotName],
    ),
  );
}
