/**
 * A term: from the first connection until something breaks. It begins by becoming the only one, in this order:
 * lock in the database, slot, transactional id, progress; then it decides from what it finds where to begin
 * (`decide.ts`), sends what was stamped before, and pumps. Every term begins anew: it keeps nothing of the
 * one before. It begins when Kafka answers, so that while Kafka is away nobody takes over from another in vain.
 */
import { createHash } from "node:crypto";
import type { Client } from "pg";
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { Catalog, type OutboxTopic } from "./catalog.ts";
import { cleanUp } from "./clean-up.ts";
import { decide, type SlotRecord } from "./decide.ts";
import { eachSecond } from "./each-second.ts";
import { earlierEvents } from "./earlier-events.ts";
import { commitTimeMs } from "./kafka-records.ts";
import { KafkaSender } from "./kafka-sender.ts";
import { lsnText } from "./lsn.ts";
import { beat, freeSlot, takeLock } from "./ownership.ts";
import { type Plan, Planner, type TopicVerdict } from "./plan.ts";
import { type DatabaseAddress, openReplication, openSql } from "./postgres.ts";
import { ProgressTopic } from "./progress.ts";
import { Pump } from "./pump.ts";
import { relayBatch, type Steps } from "./relay.ts";
import { checkServer, followTimeline, gather, makeSlot, refusalOf } from "./slot.ts";
import { stamp, unsentStamps } from "./stamps.ts";
import { type Figures, Hindered, type State, type Step } from "./state.ts";
import { checkTails, Topics } from "./topics.ts";
import { WalLimit } from "./wal-limit.ts";

const HANG_UP_MS = 1000;
const MAX_BATCH_EVENTS = 3500;
const MAX_BATCH_BYTES = 900 << 10;
const MAX_WAITING_BATCHES = 3;
/** So many are counted: it is looked at every second. */
const MOST_PARKED = 10_000;

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
  readonly #walLimit: WalLimit;
  readonly #connections: Client[] = [];
  readonly #broken = Promise.withResolvers<never>();
  readonly #beside: (() => void)[] = [];
  #isOver = false;
  #topics: Topics | undefined;
  #pump: Pump | undefined;

  constructor(world: World) {
    this.#world = world;
    this.#slot = slotNameOf(world.identity);
    this.#walLimit = new WalLimit(world);
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
    for (const stop of this.#beside) stop();
    this.#pump?.close(new Error("closed"));
    await Promise.all(this.#connections.map(hangUp));
  }

  async #work(): Promise<void> {
    const { identity, logger, tell, figures, keepSentHours } = this.#world;
    // Who does not reach Kafka leaves the lock to one that may.
    await this.#catalog().refresh();
    const sql = await this.#open(openSql);
    await checkServer(sql);
    figures.hasRun = false;
    await takeLock(sql, { onStandby: () => tell({ kind: "standby" }), pause: this.#pause });
    // Of its own: what is stamped and what is told do not wait for each other.
    const beating = await this.#open(openSql);
    await beat(beating, identity.instance, 0n);
    this.#eachSecond("PostgreSQL", () => this.#beat(beating));
    await freeSlot(sql, this.#slot, this.#pause);
    // Read anew: who stood by for long may have missed that a Topic was deleted.
    const catalog = this.#catalog();
    await catalog.refresh();
    const sender = await this.#openKafka(catalog);
    const topics = new Topics(catalog);
    const check = (some: readonly OutboxTopic[]) => this.#checkTails(some, sender);
    await topics.refresh(sql, check);
    this.#topics = topics;
    this.#eachSecond("Kafka", () => topics.refresh(beating, check));
    const replication = await this.#open(openReplication);
    const slot = await this.#begin(sql, replication, topics, sender);
    await this.#measure(sql);
    Object.assign(figures, {
      ...{ hasRun: true, sequences: sequencesOf(sender), oldestUnsentMs: undefined },
    });
    tell({ kind: "running" });
    logger.info({ slot: this.#slot, after: lsnText(sender.sent.commitId) }, "relaying");
    await this.#sendEarlier(sql, topics, sender, slot);
    if (keepSentHours !== undefined)
      this.#eachSecond("PostgreSQL", () => cleanUp(beating, keepSentHours, sender.sent.commitId));
    await this.#follow(sql, replication, topics, sender, slot);
  }

  #catalog(): Catalog {
    const { identity, log } = this.#world;
    return new Catalog({ log, ...identity });
  }

  async #open(open: (database: DatabaseAddress) => Promise<Client>): Promise<Client> {
    const client = await open(this.#world.database);
    this.#connections.push(client);
    client.once("end", () =>
      this.#broken.reject(
        new Hindered(
          "DatabaseUnavailable",
          "PostgreSQL closed the connection: it ended, or another sequencer took over",
        ),
      ),
    );
    return client;
  }

  /** Whoever had the transactional id before can commit nothing any more. */
  async #openKafka(catalog: Catalog): Promise<KafkaSender> {
    const { identity, log } = this.#world;
    const { deploymentId, namespace, outbox } = identity;
    const id = `_throughline.${deploymentId}.sequencer.${namespace}.${outbox}`;
    const progressTopic = await ProgressTopic.open(log, deploymentId, `${namespace}/${outbox}`);
    const opened = await log.openTransactionalWriter(id, {
      always: { topic: progressTopic.info, partition: 0 },
      others: Array.from(catalog.topics.values(), ({ kafka }) => kafka),
    });
    if (opened.kind !== "done") throw new Error(opened.reason);
    const writer = opened.value;
    const progress = await progressTopic.read(writer, Date.now());
    return new KafkaSender({
      ...{ log, writer, progressTopic, progress, now: () => Date.now() },
      topicOf: (name) => this.#topics?.of(name),
      took: this.#took,
    });
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
    // Nobody has watched them since the term before.
    await this.#checkTails(topics.all, sender);
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
      if (planned.kind === "waits") throw new Hindered("TopicNotReady", planned.reason);
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
    const { tell, figures } = this.#world;
    const verdict = (name: string): TopicVerdict => this.#walLimit.verdict(topics.verdict(name));
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
      ready: () => sender.ready,
      onBegun: ({ events }) => {
        figures.oldestUnsentMs = events[0] && commitTimeMs(events[0].commit);
      },
      onSent: (plan) => this.#count(plan, sender),
      onWait: (why) =>
        tell(
          why === undefined
            ? { kind: "running" }
            : { kind: "waiting", reason: "TopicNotReady", why },
        ),
    });
    await this.#pump.run();
  }

  #steps(sql: Client, sender: KafkaSender): Omit<Steps, "confirm"> {
    return {
      stamp: async (plan) => {
        const sinceMs = performance.now();
        await stamp(sql, plan);
        this.#took("stamp", performance.now() - sinceMs);
      },
      send: (plan, stamped) => sender.send(plan, stamped),
    };
  }

  readonly #took = (step: Step, ms: number): void => {
    this.#world.figures.stepMs[step] += ms;
  };

  #count({ events, toPark, batch }: Plan, sender: KafkaSender): void {
    const { figures, logger } = this.#world;
    const last = batch.events.at(-1);
    figures.events += events.length;
    figures.parked += toPark.length;
    figures.batches++;
    figures.sentAtMs = Date.now();
    if (last) figures.lagMs = Math.max(0, figures.sentAtMs - commitTimeMs(last.commit));
    figures.oldestUnsentMs = undefined;
    figures.sequences = sequencesOf(sender);
    for (const { event, reason } of toPark)
      logger.warn({ event: String(event.id), topic: event.topic, reason }, "an event is parked");
  }

  #checkTails(topics: readonly OutboxTopic[], sender: KafkaSender): Promise<void> {
    return checkTails(this.#world.log, topics, sender);
  }

  #eachSecond(peer: "PostgreSQL" | "Kafka", deed: () => Promise<unknown>): void {
    if (!this.#isOver) this.#beside.push(eachSecond(peer, deed, this.#broken.reject));
  }

  /** That we are here, how far the slot may go while nothing comes, what it keeps. */
  async #beat(sql: Client): Promise<void> {
    const idle = this.#pump?.idleLsn;
    await beat(sql, this.#world.identity.instance, idle ?? 0n);
    // U2 O3
    if (idle !== undefined) this.#pump?.confirmIdle(idle);
    await this.#measure(sql);
    this.#walLimit.look();
  }

  async #measure(sql: Client): Promise<void> {
    const { rows } = await sql.query({
      name: "measure",
      text: `select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::text as bytes,
          (select count(*)::int from (select from throughline.parked limit ${MOST_PARKED}) p) as parked
        from pg_replication_slots where slot_name = $1`,
      values: [this.#slot],
    });
    const { figures } = this.#world;
    figures.retainedWalBytes = Number(rows[0]?.bytes ?? 0);
    figures.parkedInAll = rows[0]?.parked ?? figures.parkedInAll;
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

function sequencesOf({ progress }: KafkaSender): ReadonlyMap<string, number> {
  return progress?.sequences ?? new Map();
}

/** By the database's ids. */
function lastSent(topics: Topics, sender: KafkaSender): Map<number, number> {
  const sequences = sender.progress?.sequences;
  return new Map(Array.from(topics.ids, ([name, id]) => [id, sequences?.get(name) ?? 0]));
}
