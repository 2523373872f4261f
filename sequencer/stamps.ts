/**
 * Stamps in the database: one statement moves the topics' counters from their last stored values and inserts
 * commit id and order value of each event, or does neither. Values go as PostgreSQL's own binary arrays:
 * thousands of events cost a few parameters.
 *
 * - S1 A counter that is not where we left it moves nothing, no other one either: another sequencer has stamped, or
 *   a person.
 * - S2 An event is stamped once, and a number is given once: both are unique in the table.
 */
import type { Client } from "pg";
import { FailClosed } from "./fail-closed.ts";
import type { CommittedEvent } from "./intake.ts";
import type { Place } from "./lsn.ts";
import type { Plan, Stamp } from "./plan.ts";

/** PostgreSQL's numbers of types. */
const INT8 = 20;
const INT4 = 23;
const TIMESTAMPTZ = 1184;
const TEXT = 25;
const HEAD_BYTES = 20;
/** PostgreSQL's codes of errors. */
const UNIQUE_VIOLATION = "23505";
const DIVISION_BY_ZERO = "22012";

const STAMP = {
  name: "stamp",
  text: `with moved as (
      update throughline.last_values v set last_value = m.last
      from unnest($1::int4[], $2::int8[], $3::int8[]) m(topic, first, last)
      where v.topic_id = m.topic and v.last_value = m.first returning 1)
    insert into throughline.order_values (event_id, topic_id, sequence, commit_id, commit_index, commit_time)
    select e.* from unnest($4::int8[], $5::int4[], $6::int8[], $7::int8[], $8::int4[], $9::timestamptz[]) e
    -- One that is elsewhere fails the statement: else the others would be moved, and nothing stamped.
    where 1 / ((select count(*) from moved) = cardinality($1))::int = 1`,
};

const PARK = {
  name: "park",
  text: `insert into throughline.parked (event_id, commit_id, commit_index, commit_time, reason)
    select e.* from unnest($1::int8[], $2::int8[], $3::int4[], $4::timestamptz[], $5::text[]) e`,
};

/** @throws FailClosed when someone else has stamped; else it is done, or the database could not do it. */
export async function stamp(sql: Client, plan: Plan): Promise<void> {
  try {
    await stampAll(sql, plan);
  } catch (error) {
    const { code, message, detail, constraint } = error as Error & Record<string, string>;
    if (code === UNIQUE_VIOLATION && constraint === "order_values_pkey")
      throw idsAgain(plan, detail ?? "");
    if (code === UNIQUE_VIOLATION) throw stampedByOther(message);
    if (code === DIVISION_BY_ZERO)
      throw stampedByOther(
        "a counter in throughline.last_values is not where this sequencer left it",
      );
    throw error;
  }
}

async function stampAll(sql: Client, plan: Plan): Promise<void> {
  const { toStamp, toPark } = plan;
  if (toPark.length === 0) {
    if (toStamp.length > 0) await stampEvents(sql, plan);
    return;
  }
  await sql.query("begin");
  if (toStamp.length > 0) await stampEvents(sql, plan);
  const places = new Places(toPark.length);
  for (const { event } of toPark) places.push(event);
  const reasons = toPark.map(({ reason }) => Buffer.from(reason));
  await sql.query({ ...PARK, values: [...places.columns, texts(reasons)] });
  await sql.query("commit");
}

async function stampEvents(sql: Client, { toStamp, moves }: Plan): Promise<void> {
  const moved = new BinaryArray(INT4, moves.length);
  const first = new BinaryArray(INT8, moves.length);
  const last = new BinaryArray(INT8, moves.length);
  for (const { topicId, from, to } of moves) {
    moved.int4(topicId);
    first.int8(BigInt(from));
    last.int8(BigInt(to));
  }
  const places = new Places(toStamp.length);
  const topics = new BinaryArray(INT4, toStamp.length);
  const sequences = new BinaryArray(INT8, toStamp.length);
  for (const { event, topic, sequence } of toStamp) {
    places.push(event);
    topics.int4(topic.id);
    sequences.int8(BigInt(sequence));
  }
  const [ids, ...commits] = places.columns;
  const events = [ids, topics.bytes, sequences.bytes, ...commits];
  await sql.query({ ...STAMP, values: [moved.bytes, first.bytes, last.bytes, ...events] });
}

function stampedByOther(how: string): FailClosed {
  return new FailClosed(
    "StampsChanged",
    `Another sequencer has stamped, or somebody changed the stamps: ${how}. Nothing was stamped or sent. Restore what was there: a topic's last_value is the largest sequence that it ever had in throughline.order_values.`,
  );
}

/** S2 */
function idsAgain({ toStamp }: Plan, detail: string): FailClosed {
  const first = toStamp.reduce(
    (least, { event }) => (event.id < least ? event.id : least),
    MOST_ID,
  );
  const before = toStamp[0]?.event.commit.id ?? 0n;
  return new FailClosed(
    "StampsChanged",
    `An event has the id of one that was stamped before (${detail}): the ids of throughline.outbox begin again, as with truncate … restart identity. Nothing was stamped or sent. Run: delete from throughline.order_values where event_id >= ${first} and commit_id < ${before}; this forgets which numbers the earlier events had, who keep them in Kafka.`,
  );
}

const MOST_ID = 2n ** 63n;

/** Of so many events what a stamp and a parking have in common. */
class Places {
  readonly #ids: BinaryArray;
  readonly #commits: BinaryArray;
  readonly #indexes: BinaryArray;
  readonly #times: BinaryArray;

  constructor(length: number) {
    this.#ids = new BinaryArray(INT8, length);
    this.#commits = new BinaryArray(INT8, length);
    this.#indexes = new BinaryArray(INT4, length);
    this.#times = new BinaryArray(TIMESTAMPTZ, length);
  }

  push({ id, commit, index }: CommittedEvent): void {
    this.#ids.int8(id);
    this.#commits.int8(commit.id);
    this.#indexes.int4(index);
    this.#times.int8(commit.timeUs);
  }

  get columns(): Buffer[] {
    return [this.#ids, this.#commits, this.#indexes, this.#times].map(({ bytes }) => bytes);
  }
}

const BYTES: Readonly<Record<number, number>> = { [INT4]: 4, [INT8]: 8, [TIMESTAMPTZ]: 8 };

/** So many numbers of one type. */
class BinaryArray {
  readonly bytes: Buffer;
  readonly #view: DataView;
  #at = HEAD_BYTES;

  constructor(type: number, length: number) {
    this.bytes = Buffer.allocUnsafe(HEAD_BYTES + length * (4 + (BYTES[type] as number)));
    arrayHead(this.bytes, type, length);
    const { buffer, byteOffset, byteLength } = this.bytes;
    this.#view = new DataView(buffer, byteOffset, byteLength);
  }

  int4(value: number): void {
    this.#view.setInt32(this.#at, 4);
    this.#view.setInt32(this.#at + 4, value);
    this.#at += 8;
  }

  int8(value: bigint): void {
    this.#view.setInt32(this.#at, 8);
    this.#view.setBigInt64(this.#at + 4, value);
    this.#at += 12;
  }
}

function texts(of: readonly Buffer[]): Buffer {
  const to = Buffer.allocUnsafe(of.reduce((sum, text) => sum + 4 + text.length, HEAD_BYTES));
  arrayHead(to, TEXT, of.length);
  let at = HEAD_BYTES;
  for (const text of of) {
    to.writeInt32BE(text.length, at);
    at += 4 + text.copy(to, at + 4);
  }
  return to;
}

/** One dimension, no nulls, counted from 1. */
function arrayHead(to: Buffer, type: number, length: number): void {
  for (const [i, value] of [1, 0, type, length, 1].entries()) to.writeInt32BE(value, i * 4);
}

/**
 * What was stamped and not sent, of the slot's own events: at most a few batches.
 * @param lastSent the last order value in Kafka, by the database's topic id.
 * @param slotBegins events of earlier commits are not in it.
 */
export async function unsentStamps(
  sql: Client,
  sent: Place,
  lastSent: ReadonlyMap<number, number>,
  slotBegins: bigint,
): Promise<Stamp[]> {
  const topics = [...lastSent];
  const { rows } = await sql.query(
    `select event_id, topic_id, sequence, commit_id, commit_index
       from unnest($1::int4[], $2::int8[]) s(topic, last)
       join throughline.order_values v on v.topic_id = s.topic and v.sequence > s.last
       where v.commit_id >= $5
     union all
     select event_id, null, null, commit_id, commit_index
       from throughline.parked where (commit_id, commit_index) > ($3, $4) and commit_id >= $5
     order by commit_id, commit_index`,
    [
      ...[topics.map(([id]) => id), topics.map(([, last]) => last)],
      ...[sent.commitId, sent.index, slotBegins],
    ],
  );
  return rows.map((row) => ({
    eventId: BigInt(row.event_id),
    place: { commitId: BigInt(row.commit_id), index: row.commit_index },
    value:
      row.topic_id === null ? undefined : { topicId: row.topic_id, sequence: Number(row.sequence) },
  }));
}
