/**
 * The Topics of this Outbox in the database: `throughline.topics` is kept as the catalog has them, so that
 * the outbox refuses what could not be sent, and each has its counter. What a Topic had stays when it goes:
 * its numbers go on if it comes again.
 */
import type { Client } from "pg";
import type { Log } from "../kafka/log.ts";
import type { Catalog, OutboxTopic } from "./catalog.ts";
import { FailClosed } from "./fail-closed.ts";
import type { KafkaSender } from "./kafka-sender.ts";
import type { KnownTopic, TopicVerdict } from "./plan.ts";
import { type TailRecord, tailOf } from "./tail.ts";

interface Stored extends KnownTopic {
  readonly accepts: boolean;
}

export class Topics {
  readonly #catalog: Catalog;
  /** By name, as the database has them. */
  #stored = new Map<string, Stored>();
  #isRead = false;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /**
   * Brings the database up to the catalog.
   * @param check called with those that are new, before the outbox takes events of them.
   */
  async refresh(
    sql: Client,
    check: (topics: readonly OutboxTopic[]) => Promise<void>,
  ): Promise<void> {
    await this.#catalog.refresh();
    if (!this.#isRead) await this.#readStored(sql);
    // One that was made anew says nothing yet; at its word every event would be parked.
    if (this.#catalog.isEmpty && this.#stored.size > 0)
      throw new Error("the catalog is empty: its operator has not written it yet");
    const wanted = this.all;
    const isNew = ({ name }: OutboxTopic): boolean => !this.#stored.get(name)?.accepts;
    const isChanged = (topic: OutboxTopic): boolean =>
      isNew(topic) || this.#stored.get(topic.name)?.maxEventBytes !== topic.maxEventBytes;
    const isGone = ({ name, accepts }: Stored): boolean => accepts && !this.of(name);
    if (!wanted.some(isChanged) && ![...this.#stored.values()].some(isGone)) return;
    await check(wanted.filter(isNew));
    await sql.query(
      `with wanted as (select * from unnest($1::text[], $2::int[]) w(name, most)),
       kept as (
         insert into throughline.topics (name, max_event_bytes) select name, most from wanted
         on conflict (name) do update
           set max_event_bytes = excluded.max_event_bytes, accepts = true
         returning id),
       counted as (
         insert into throughline.last_values (topic_id) select id from kept on conflict do nothing)
       update throughline.topics t set accepts = false
       where accepts and not exists (select from wanted w where w.name = t.name)`,
      [wanted.map(({ name }) => name), wanted.map(({ maxEventBytes }) => maxEventBytes)],
    );
    await this.#readStored(sql);
  }

  async #readStored(sql: Client): Promise<void> {
    const { rows } = await sql.query(
      "select id, name, max_event_bytes, accepts from throughline.topics",
    );
    this.#isRead = true;
    this.#stored = new Map(
      rows.map((row) => [
        row.name,
        {
          ...{ id: row.id, name: row.name },
          ...{ maxEventBytes: row.max_event_bytes, accepts: row.accepts },
        },
      ]),
    );
  }

  /** As the catalog has them now. */
  get all(): readonly OutboxTopic[] {
    return [...this.#catalog.topics.values()];
  }

  /** As the catalog has it now. */
  of(name: string): OutboxTopic | undefined {
    return this.#catalog.topics.get(name);
  }

  /** The database's ids by name. */
  get ids(): ReadonlyMap<string, number> {
    return new Map(Array.from(this.#stored.values(), ({ name, id }) => [name, id]));
  }

  verdict(name: string): TopicVerdict {
    const known = this.#stored.get(name);
    const topic = this.of(name);
    if (topic && !topic.isReady)
      return { kind: "waits", reason: `Topic "${name}" has lost its data (condition DataLost)` };
    if (!topic || !known?.accepts)
      return { kind: "parked", reason: `"${name}" is no Topic of this Outbox` };
    return { kind: "known", topic: known };
  }

  /** Last stored values by name, and by the database's id. */
  async lastValues(
    sql: Client,
  ): Promise<{ byName: Map<string, number>; byId: Map<number, number> }> {
    const { rows } = await sql.query(
      "select t.name, t.id, v.last_value from throughline.topics t join throughline.last_values v on v.topic_id = t.id",
    );
    return {
      byName: new Map(rows.map((row) => [row.name, Number(row.last_value)])),
      byId: new Map(rows.map((row) => [row.id, Number(row.last_value)])),
    };
  }
}

/**
 * The end of each topic in Kafka must be what this Outbox sent last; one that retention or its owner has
 * emptied has none.
 * @param sender is told where each ends: whatever comes between there and its own first event is somebody else's.
 * @throws FailClosed
 */
export async function checkTails(
  log: Log,
  topics: readonly OutboxTopic[],
  sender: Pick<KafkaSender, "progress" | "begins">,
): Promise<void> {
  const sequences = sender.progress?.sequences;
  await Promise.all(
    topics.map(async ({ name, kafka, isReady }) => {
      if (!isReady) return;
      const { last, end } = await tailOf(log, kafka);
      judgeTail(name, last, sequences?.get(name) ?? 0);
      // An empty one ends like one that ended with our event and its marker.
      sender.begins(kafka.id, last?.offset ?? end - 2);
    }),
  );
}

/** Pure. @throws FailClosed */
export function judgeTail(name: string, tail: TailRecord | undefined, sent: number): void {
  if (!tail || tail.sequence === sent) return;
  const where = `the last event in the Kafka topic of "${name}", at offset ${tail.offset},`;
  if (tail.sequence !== undefined && tail.sequence < sent)
    throw new FailClosed(
      "LogCut",
      `${where} is number ${tail.sequence}, and ${sent} was sent: the log was cut. Events ${tail.sequence + 1} to ${sent} are lost in Kafka; throughline.events still has those that were not cleaned away.`,
    );
  throw new FailClosed(
    "ForeignWriter",
    `${where} ${tail.sequence === undefined ? "has no order value" : `is number ${tail.sequence}, and ${sent} was sent last`}: something else writes to this topic. Stop it, and take away its right to write; then delete the Topic and make it anew, or the foreign events.`,
  );
}
