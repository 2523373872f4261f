/**
 * Events that were stamped and are not in the slot: those that were there when it was made, and what a slot
 * before it had stamped and not sent. They are read from the outbox, in their order, a few thousand at a time.
 */
import type { Client } from "pg";
import type { Batch, CommittedEvent } from "./intake.ts";
import type { Place } from "./lsn.ts";
import type { Commit } from "./pgoutput.ts";
import type { Stamp } from "./plan.ts";

const BATCH_EVENTS = 2000;
const MAX_BYTES = 512 << 10;

export interface EarlierBatch {
  readonly batch: Batch;
  readonly unsent: readonly Stamp[];
}

/**
 * @param lastSent the last order value that is in Kafka, by the database's topic id.
 * @param sql a connection of its own.
 * @param slotBegins the slot's own events have commits from here on.
 * @returns batches with their stamps. @throws when an event is not in the outbox any more.
 */
export async function* earlierEvents(
  sql: Client,
  lastSent: ReadonlyMap<number, number>,
  slotBegins: bigint,
): AsyncGenerator<EarlierBatch> {
  const topics = [...lastSent];
  // Kafka may be away for a while.
  await sql.query("set idle_in_transaction_session_timeout = 0");
  await sql.query("begin isolation level repeatable read");
  try {
    await sql.query({
      text: `declare earlier no scroll cursor for
        select v.event_id, v.topic_id, v.sequence, v.commit_id, v.commit_index, t.name as topic, o.id,
          (extract(epoch from v.commit_time - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint as time_us,
          convert_to(o.type, 'UTF8') as type, convert_to(o.key, 'UTF8') as key, o.payload,
          convert_to(o.headers::text, 'UTF8') as headers
        from unnest($1::int4[], $2::int8[]) s(topic, last)
        join throughline.order_values v on v.topic_id = s.topic and v.sequence > s.last
        join throughline.topics t on t.id = v.topic_id
        left join throughline.outbox o on o.id = v.event_id
        where v.commit_id < $3
        order by v.commit_id, v.commit_index`,
      values: [topics.map(([id]) => id), topics.map(([, last]) => last), slotBegins],
    });
    for (;;) {
      const { rows } = await sql.query(`fetch ${BATCH_EVENTS} from earlier`);
      if (rows.length === 0) return;
      yield* batches(rows);
    }
  } finally {
    await sql.query("rollback").catch(() => {});
  }
}

type Row = Readonly<Record<string, string | number | Buffer | null>>;

function eventOf(row: Row): CommittedEvent {
  if (row["id"] === null)
    throw new Error(
      `event ${row["event_id"]} was stamped and never sent, and is not in throughline.outbox any more: put it back`,
    );
  const commit: Commit = {
    id: BigInt(row["commit_id"] as string),
    timeUs: BigInt(row["time_us"] as string),
  };
  return {
    ...{ commit, index: row["commit_index"] as number, id: BigInt(row["event_id"] as string) },
    ...{ topic: row["topic"] as string, type: row["type"] as Buffer },
    key: row["key"] as Buffer | null,
    payload: row["payload"] as Buffer | null,
    headers: row["headers"] as Buffer | null,
  };
}

function* batches(rows: readonly Row[]): Generator<EarlierBatch> {
  let events: CommittedEvent[] = [];
  let unsent: Stamp[] = [];
  let bytes = 0;
  for (const [i, row] of rows.entries()) {
    const event = eventOf(row);
    const place: Place = { commitId: event.commit.id, index: event.index };
    events.push(event);
    unsent.push({
      ...{ eventId: event.id, place },
      value: { topicId: row["topic_id"] as number, sequence: Number(row["sequence"]) },
    });
    bytes += (event.payload?.length ?? 0) + (event.key?.length ?? 0) + 200;
    if (bytes < MAX_BYTES && i < rows.length - 1) continue;
    yield { batch: { events, place, confirms: undefined }, unsent };
    events = [];
    unsent = [];
    bytes = 0;
  }
}
