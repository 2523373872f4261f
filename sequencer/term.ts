/**
 * A term: from the first connection until something breaks. It begins by becoming the only one, in this order:
 * lock in the database, slot, transactional id, progress; then it decides from what it finds where to begin
 * (`decide.ts`), sends what was stamped before, and pumps. Every term begins anew: it keeps nothing of the
 * one before.
 */
import { createHash } from "node:crypto";
import type { Client } from "pg";
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { Catalog, type OutboxTopic } from "./catalog.ts";
import { cleanUp } from "./clean-up.ts";
import { decide, type SlotRecord } from "./decide.ts";
import { earlierEvents } from "./earlier-events.ts";
import { commitTimeMs } from "./kafka-records.ts";
import { KafkaSender } from "./kafka-sender.ts";
import { lsnText } from "./lsn.ts";
import { beat, freeSlot, takeLock } from "./ownership.ts";
import { type Plan, Planner, type TopicVerdict, withinLimit } from "./plan.ts";
import { type DatabaseAddress, openReplication, openSql } from "./postgres.ts";
import { ProgressTopic } from "./progress.ts";
import { Pump } from "./pump.ts";
import { relayBatch, type Steps } from "./relay.ts";
import { checkServer, followTimeline, gather, makeSlot, refusalOf } from "./slot.ts";
import { stamp, unsentStamps } from "./stamps.ts";
import type { Figures, State } from "./state.ts";
import { checkTails, Topics } from "./topics.ts";

const BEAT_MS = 1000;
const SILENT_MS = 15_000;
const HANG_UP_MS = 1000;
const MAX_BATCH_EVENTS = 3500;
const MAX_BATCH_BYTES = 900 << 10;
const MAX_WAITING_BATCHES = 3;

export interface Identity {
  readonly deploymentId: string;
  readonly namespace: string;
  readonly outbox: string;
  /** Of this process, for people. */
  readonly instance: string;
}

export interface World {
  readonly identity: Identity;
  readonly database: DatabaseAddress;
  /** Undefined: sent events are kept. */
  readonly keepSentHours?: number | undefined;
  /** Undefined: what waits for a Topic waits however long. */
  readonly retainedWalLimitBytes?: number | undefined;
  readonly log: Log;
  readonly logger: Logger;
  readonly figures: Figures;
  readonly tell: (state: State) => void;
  /** Steps as the product has them; tests replace one. */
  readonly around: (steps: Steps) => Steps;
  /** Ends the term. */
  readonly signal: AbortSignal;
}

/** PostgreSQL's names end at 63 letters. */
export function slotNameOf(identity: Identity): string {
  const { deploymentId, namespace, outbox } = identity;
  const name = `throughline_${deploymentId}_${namespace}_${outbox}`.replaceAll(/[^a-z0-9_]/g, "_");
  if (name.length <= 63) return name;
  const digest = createHash("sha256").update(ownerOf(identity)).digest("hex");
  return `${name.slice(0, 46)}_${digest.slice(0, 16)}`;
}

function ownerOf({ deploymentId, namespace, outbox }: Identity): string {
  return `${deploymentId}/${namespace}/${outbox}`;
}

/** Rejects with what has broken, or FailClosed; resolves when the signal has ended it. */
export async function runTerm(world: World): Promise<void> {
  const term = new Term(world);
  try {
    await term.run();
  } catch (error) {
    if (!world.signal.aborted) throw refusalOf(error);
  } finally {
    await term.close();
  }
}

class Term {
  readonly #world: World;
  readonly #slot: string;
  readonly #connections: Client[] = [];
  readonly #broken = Promise.withResolvers<never>();
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;
  #topics: Topics | undefined;
  #sender: KafkaSender | undefined;
  #pump: Pump | undefined;

  constructor(world: World) {
    this.#world = world;
    this.#slot = slotNameOf(world.identity);
    this.#broken.promise.catch(() => {});
    world.signal.addEventListener("abort", this.#abort);
  }

  async run(): Promise<void> {
    // Once: a race against what may never end keeps something each time.
    await Promise.race([this.#work(), this.#broken.promise]);
  }

  async close(): Promise<void> {
    this.#isOver = true;
    this.#world.signal.removeEventListener("abort", this.#abort);
    clearTimeout(this.#timer);
    this.#pump?.close(new Error("closed"));
    await Promise.all(this.#connections.map(hangUp));
  }

  async #work(): Promise<void> {
    const { identity, logger, tell } = this.#world;
    const sql = await this.#open(openSql);
    await checkServer(sql);
    await takeLock(sql, { onStandby: () => tell({ kind: "standby" }), pause: this.#pause });
    // Of its own: what is stamped and what is told do not wait for each other.
    const beating = await this.#open(openSql);
    await beat(beating, identity.instance, 0n);
    this.#beats(beating);
    await freeSlot(sql, this.#slot, this.#pause);
    const sender = await this.#openKafka();
    const topics = new Topics(new Catalog({ log: this.#world.log, ...identity }));
    await topics.refresh(sql, (some) => this.#checkTails(some, sender));
    this.#topics = topics;
    const replication = await this.#open(openReplication);
    const slot = await this.#begin(sql, replication, topics, sender);
    tell({ kind: "running" });
    logger.info({ slot: this.#slot, after: lsnText(sender.sent.commitId) }, "relaying");
    await this.#sendEarlier(sql, topics, sender, slot);
    await this.#follow(sql, replication, topics, sender, slot);
  }

  async #open(open: (database: DatabaseAddress) => Promise<Client>): Promise<Client> {
    const client = await open(this.#world.database);
    this.#connections.push(client);
    client.once("end", () =>
      this.#broken.reject(
        new Error("PostgreSQL closed the connection: it ended, or another sequencer took over"),
      ),
    );
    return client;
  }

  /** Whoever had the transactional id before can commit nothing any more. */
  async #openKafka(): Promise<KafkaSender> {
    const { identity, log } = this.#world;
    const { deploymentId, namespace, outbox } = identity;
    const id = `_throughline.${deploymentId}.sequencer.${namespace}.${outbox}`;
    const opened = await log.openTransactionalWriter(id);
    if (opened.kind !== "done") throw new Error(opened.reason);
    const writer = opened.value;
    const progressTopic = await ProgressTopic.open(log, deploymentId, `${namespace}/${outbox}`);
    const progress = await progressTopic.read(writer, Date.now());
    this.#sender = new KafkaSender({
      ...{ log, writer, progressTopic, progress, now: () => Date.now() },
      topicOf: (name) => this.#topics?.of(name),
    });
    return this.#sender;
  }

  /** Decides where to begin, and makes the slot where that is to be done. */
  async #begin(
    sql: Client,
    replication: Client,
    topics: Topics,
    sender: KafkaSender,
  ): Promise<SlotRecord> {
    const { identity, logger } = this.#world;
    const facts = {
      ...(await gather(sql, replication, this.#slot)),
      ...{ owner: ownerOf(identity), slotName: this.#slot, progress: sender.progress },
      lastValues: (await topics.lastValues(sql)).byName,
    };
    const decision = decide(facts);
    let record: SlotRecord;
    if (decision.kind === "resume") {
      record = decision.record;
      if (record.timeline !== facts.timeline) {
        await followTimeline(sql, facts.timeline);
        logger.warn(
          { from: record.timeline, to: facts.timeline, at: lsnText(facts.switchPoint ?? 0n) },
          "the database was promoted, and the slot came along: the new timeline is followed",
        );
      }
      sender.follow(facts.timeline);
    } else {
      const made = await makeSlot(sql, replication, facts, {
        dropFirst: decision.dropFirst,
        begun: () => sender.begin(facts),
      });
      record = made.record;
      this.#world.figures.parked += made.parked;
      logger.info(
        {
          slot: this.#slot,
          from: lsnText(record.consistentPoint),
          earlierEvents: made.stamped,
          parked: made.parked,
        },
        made.stamped > 0
          ? "the slot is made; events that were there before are numbered in the order of their ids, and the order of commits holds after them"
          : "the slot is made",
      );
    }
    return record;
  }

  async #sendEarlier(
    sql: Client,
    topics: Topics,
    sender: KafkaSender,
    { consistentPoint }: SlotRecord,
  ): Promise<void> {
    const own = await this.#open(openSql);
    for await (const { batch, unsent } of earlierEvents(
      own,
      lastSent(topics, sender),
      consistentPoint,
    )) {
      const planner = new Planner({ lastValues: new Map(), unsent });
      const planned = planner.plan(batch, (name) => topics.verdict(name));
      if (planned.kind === "waits") throw new Error(planned.reason);
      const steps = this.#world.around({ ...this.#steps(sql, sender), confirm: () => {} });
      await relayBatch(planned.plan, steps);
      if (this.#isOver) return;
      this.#count(planned.plan, sender);
    }
  }

  async #follow(
    sql: Client,
    replication: Client,
    topics: Topics,
    sender: KafkaSender,
    { consistentPoint }: SlotRecord,
  ): Promise<void> {
    const { tell, figures, retainedWalLimitBytes } = this.#world;
    const verdict = (name: string): TopicVerdict =>
      withinLimit(topics.verdict(name), figures.retainedWalBytes, retainedWalLimitBytes);
    const planner = new Planner({
      lastValues: (await topics.lastValues(sql)).byId,
      unsent: await unsentStamps(sql, sender.sent, lastSent(topics, sender), consistentPoint),
    });
    this.#pump = new Pump({
      ...{ client: replication, slot: this.#slot, sent: sender.sent },
      limits: {
        ...{ maxEvents: MAX_BATCH_EVENTS, maxWaiting: MAX_WAITING_BATCHES },
        maxBytes: (name) =>
          Math.min(MAX_BATCH_BYTES, topics.of(name)?.maxEventBytes ?? MAX_BATCH_BYTES),
      },
      ...{ steps: this.#steps(sql, sender), around: this.#world.around },
      plan: (batch) => planner.plan(batch, verdict),
      onSent: (plan) => this.#count(plan, sender),
      onWait: (why) => tell(why === undefined ? { kind: "running" } : { kind: "waiting", why }),
    });
    await this.#pump.run();
  }

  #steps(sql: Client, sender: KafkaSender): Omit<Steps, "confirm"> {
    return {
      stamp: (plan) => stamp(sql, plan),
      send: (plan, stamped) => sender.send(plan, stamped),
    };
  }

  #count({ events, toPark, batch }: Plan, sender: KafkaSender): void {
    const { figures, logger } = this.#world;
    const last = batch.events.at(-1);
    figures.events += events.length;
    figures.parked += toPark.length;
    figures.batches++;
    if (last) figures.lagMs = Math.max(0, Date.now() - commitTimeMs(last.commit));
    figures.sequences = sender.progress?.sequences ?? new Map();
    for (const { event, reason } of toPark)
      logger.warn({ event: String(event.id), topic: event.topic, reason }, "an event is parked");
  }

  #checkTails(topics: readonly OutboxTopic[], sender: KafkaSender): Promise<void> {
    return checkTails(this.#world.log, topics, sender.progress?.sequences ?? new Map());
  }

  /** Each second: that we are here, how far the slot may go while nothing comes, the catalog, what may go. */
  #beats(sql: Client): void {
    const { identity, figures } = this.#world;
    const once = async (): Promise<void> => {
      const idle = this.#pump?.idleLsn;
      await beat(sql, identity.instance, idle ?? 0n);
      if (idle !== undefined) this.#pump?.confirmIdle(idle);
      figures.retainedWalBytes = await retainedWal(sql, this.#slot);
      const sender = this.#sender;
      if (!sender) return;
      await this.#topics?.refresh(sql, (some) => this.#checkTails(some, sender));
      const { keepSentHours } = this.#world;
      if (keepSentHours !== undefined && this.#pump)
        await cleanUp(sql, keepSentHours, sender.sent.commitId);
    };
    const next = (): void => {
      if (this.#isOver) return;
      this.#timer = setTimeout(() => {
        // Of a peer that is gone without a word nothing else would tell.
        const silent = new Error(`PostgreSQL or Kafka has not answered for ${SILENT_MS} ms`);
        const late = setTimeout(() => this.#broken.reject(silent), SILENT_MS);
        once()
          .finally(() => clearTimeout(late))
          .then(next, this.#broken.reject);
      }, BEAT_MS);
    };
    next();
  }

  readonly #abort = (): void => this.#broken.reject(new Error("stopped"));

  readonly #pause = async (ms: number): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (this.#isOver) throw new Error("stopped");
  };
}

/** In order, or at once when there is no answer. */
async function hangUp(client: Client): Promise<void> {
  const late = setTimeout(() => client.connection.stream.destroy(), HANG_UP_MS);
  await client.end().catch(() => {});
  clearTimeout(late);
}

/** By the database's ids. */
function lastSent(topics: Topics, sender: KafkaSender): Map<number, number> {
  const sequences = sender.progress?.sequences;
  return new Map(Array.from(topics.ids, ([name, id]) => [id, sequences?.get(name) ?? 0]));
}

async function retainedWal(sql: Client, slot: string): Promise<number> {
  const { rows } = await sql.query(
    "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::text as bytes from pg_replication_slots where slot_name = $1",
    [slot],
  );
  return Number(rows[0]?.bytes ?? 0);
}
