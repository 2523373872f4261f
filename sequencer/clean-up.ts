/**
 * Removes events that were sent long ago, with their stamps: a bounded number at a time, the oldest first, so
 * that nobody waits for it. What was not sent stays, and so do parked events. The slot does not hear of it:
 * of the outbox only inserts are published.
 */
import type { Client } from "pg";

const ROWS = 10_000;

/** @param sent the commit up to which Kafka has all. @returns how many went. */
export async function cleanUp(sql: Client, keepHours: number, sent: bigint): Promise<number> {
  const { rows } = await sql.query({
    name: "clean-up",
    text: `with oldest as materialized (
        select event_id, commit_id, commit_time from throughline.order_values order by event_id limit $1),
      unstamped as (
        delete from throughline.order_values v using oldest o
        where v.event_id = o.event_id and o.commit_id < $2
          and o.commit_time < now() - $3 * interval '1 hour'
        returning v.event_id),
      removed as (
        delete from throughline.outbox e using unstamped u where e.id = u.event_id returning 1)
      select count(*)::int as count from unstamped`,
    values: [ROWS, sent, keepHours],
  });
  return rows[0].count;
}
