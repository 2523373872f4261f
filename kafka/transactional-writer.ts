/**
 * Transactions over any partitions under one transactional id, one at a time:
 *
 *   add partitions (transaction-begin.ts) ─► produce, one request to each leader ─► commit | abort
 *
 * W1 Nothing is committed unless every batch of it was answered as appended, to the topics that are meant (Produce
 *    within this transaction protocol knows names only): each lies right behind our last transaction there, or
 *    metadata named its topic by its id meanwhile.
 * W2 A batch is sent as the same bytes until it is answered: the broker drops what it has already.
 * W3 A commit that was not answered is `unknown`, never sent again as new events: whoever opens the id
 *    anew waits until it is settled, and reads what was committed.
 * W4 A fence is held against a newer writer only while Kafka cannot have timed the transaction out itself:
 *    both bump the epoch, and only one of them means that somebody else is there.
 * W5 Nothing is committed that the caller does not let pass, once it knows the positions (`mayCommit`).
 * W6 After a failure the writer writes no more; what it left open it tries to abort, and else Kafka does
 *    after `TRANSACTION_TIMEOUT_MS`.
 * W7 A transaction begins when the markers of the one before were written, also where its coordinator came back
 *    meanwhile (missing-markers.ts).
 */
import type { Connection } from "@platformatic/kafka";
import { verdictOf } from "./append-verdict.ts";
import type { Broker, Cluster } from "./cluster.ts";
import type { Lane } from "./coordinator.ts";
import type { CoordinatorLinks } from "./coordinator-links.ts";
import { FENCES, failureOfError, hasError } from "./failures.ts";
import { firstGone } from "./gone.ts";
import type {
  RecordPosition,
  TopicInfo,
  TransactionalWriter,
  TransactionOutcome,
  TransactionPart,
  TransactionTargets,
} from "./log.ts";
import { takeId } from "./missing-markers.ts";
import type { OpenTransactions, Place } from "./open-transactions.ts";
import type { Partitioner } from "./partitioner.ts";
import { pause } from "./pause.ts";
import { produceInTransaction } from "./produce.ts";
import { BatchEncoder } from "./record-batch.ts";
import { TransactionBegin } from "./transaction-begin.ts";
import {
  TRANSACTION_TIMEOUT_MS,
  type TransactionalIdentity,
  TransactionCoordinator,
} from "./transaction-coordinator.ts";

/** Enough before the transaction's own time is over to abort it. */
const PRODUCE_WITHIN_MS = 7000;
const PRODUCE_TIMEOUT_MS = 3000;
/** Kafka's clock and ours need not agree on when it began. */
const CLOCK_SLACK_MS = 500;
/** An answer that takes longer than usual: metadata is asked why. */
const LATE_MS = 50;
const SEQUENCES = 2 ** 31;
const SMALL_BYTES = 1 << 10;

type Failed = Exclude<TransactionOutcome, { kind: "committed" }>;

/** What goes to one partition: one batch. */
interface Part {
  readonly topic: TopicInfo;
  readonly partition: number;
  /** Which parts of the call are in it, and which of its records is the first of each. */
  readonly from: readonly { readonly index: number; readonly first: number }[];
  readonly count: number;
  readonly batch: Buffer;
  offset: number;
  /** It was sent and not answered. */
  doubtful: boolean;
}

/** A part whose records are still to come. */
interface Begun extends Pick<Part, "topic" | "partition"> {
  readonly from: { readonly index: number; readonly first: number }[];
  readonly encoder: BatchEncoder;
}

/** Rejects when Kafka cannot be asked, or refuses. */
export async function openTransactionalWriter(
  from: Pick<World, "cluster" | "open" | "partitioner"> & { readonly links: CoordinatorLinks },
  transactionalId: string,
  targets: TransactionTargets | undefined,
): Promise<TransactionalWriter> {
  const { links, ...world } = from;
  const lane = links.lane();
  const coordinator = new TransactionCoordinator(world.cluster, transactionalId, lane);
  const identity = await takeId(coordinator, world.open, targets);
  return new KafkaTransactionalWriter({ ...world, lane, transactionalId }, coordinator, identity);
}

interface World {
  readonly cluster: Cluster;
  readonly open: OpenTransactions;
  readonly lane: Lane;
  readonly partitioner: Partitioner;
  readonly transactionalId: string;
}

class KafkaTransactionalWriter implements TransactionalWriter {
  readonly #world: World;
  readonly #coordinator: TransactionCoordinator;
  readonly #identity: TransactionalIdentity;
  readonly #begin: TransactionBegin;
  /** Next sequence by topic and partition. */
  readonly #sequences = new Map<string, number>();
  /** Last offset of our last transaction, by topic and partition. */
  readonly #lastOffsets = new Map<string, number>();
  /** Nobody else wrote there between the last two; where others do, metadata is asked beside producing, not after. */
  #wentOn = false;
  /** What a batch is likely to take, as the one before did, by topic and partition. */
  readonly #bytes = new Map<string, number>();
  /** Of the last transaction. */
  #written: readonly Place[] = [];
  #over: string | undefined;

  constructor(world: World, coordinator: TransactionCoordinator, identity: TransactionalIdentity) {
    this.#world = world;
    this.#coordinator = coordinator;
    this.#identity = identity;
    this.#begin = new TransactionBegin(coordinator, identity, () => this.#mayBegin());
  }

  begin(to: readonly TopicInfo[]): Promise<void> {
    if (this.#over !== undefined) return Promise.resolve();
    return this.#begin.ahead(to.map((topic) => ({ topic, partition: 0 })));
  }

  async write(
    of: readonly TransactionPart[],
    mayCommit?: (positions: readonly RecordPosition[]) => Promise<unknown>,
  ): Promise<TransactionOutcome> {
    if (this.#over !== undefined) return { kind: "unavailable", reason: this.#over };
    const begunMs = this.#begin.sinceMs;
    const parts = this.#divide(of);
    const producing = this.#begin.begin(parts).then(() => this.#produce(parts, begunMs));
    // A topic that is gone is told soon: to its coordinator it may only be late.
    let gone: string | undefined;
    const looking = this.#goesOn(parts, producing)
      .then((goesOn) => (goesOn ? undefined : firstGone(this.#world.cluster, topicsOf(parts))))
      .then((name) => {
        gone = name;
        if (name !== undefined) throw new Error(`${name} is gone`);
      });
    try {
      const [failed] = await Promise.all([producing, looking]);
      if (failed?.kind === "refused") {
        await this.#coordinator.end(this.#identity, "abort");
        this.#wrote(parts);
        return failed;
      }
      if (failed) return this.#fail(failed);
    } catch (error) {
      // What metadata says of the topic is the better reason.
      await looking.catch(() => {});
      if (gone !== undefined) return this.#fail({ kind: "gone", topic: gone });
      return this.#fail(this.#fenceOf(error, begunMs) ?? failureOfError(error));
    }
    const positions: RecordPosition[] = new Array(of.length);
    for (const { partition, offset, from } of parts)
      for (const { index, first } of from) positions[index] = { partition, offset: offset + first };
    try {
      await mayCommit?.(positions);
    } catch (error) {
      return this.#fail(unavailable(`not committed: ${(error as Error).message}`));
    }
    try {
      await this.#coordinator.end(this.#identity, "commit");
    } catch (error) {
      const { reason } = failureOfError(error);
      return this.#fail(this.#fenceOf(error, begunMs) ?? { kind: "unknown", reason });
    }
    this.#wentOn = this.#areNext(parts);
    this.#wrote(parts);
    for (const part of parts) this.#lastOffsets.set(keyOf(part), part.offset + part.count - 1);
    return { kind: "committed", positions };
  }

  #wrote(parts: readonly Part[]): void {
    this.#written = parts.map(({ topic, partition }) => ({ topic, partition }));
  }

  /** W7. Rejects when not. */
  async #mayBegin(): Promise<void> {
    // Markers that are still on their way are not missing.
    await this.#coordinator.state();
    const open = await this.#world.open.of(this.#identity.producerId, this.#written);
    if (open.length > 0) throw new Error("markers of the transaction before are missing");
    if (this.#over !== undefined) throw new Error(this.#over);
  }

  #divide(of: readonly TransactionPart[]): Part[] {
    const { partitioner } = this.#world;
    const divided = new Map<string, Begun>();
    for (const [index, { topic, partition, records }] of of.entries()) {
      let part: Begun | undefined;
      for (const record of records) {
        if (!part) {
          const chosen = partition ?? partitioner.choose(record.key, topic.partitions);
          const key = keyOf({ topic, partition: chosen });
          part = divided.get(key) ?? {
            ...{ topic, partition: chosen, from: [] },
            encoder: new BatchEncoder(this.#bytes.get(key) ?? SMALL_BYTES),
          };
          divided.set(key, part);
          part.from.push({ index, first: part.encoder.count });
        }
        part.encoder.add(record);
      }
    }
    return Array.from(divided, ([key, { encoder, ...part }]) => {
      const baseSequence = this.#sequences.get(key) ?? 0;
      const batch = encoder.finish({ ...this.#identity, baseSequence, transactional: true });
      this.#bytes.set(key, batch.length + (batch.length >>> 3));
      return { ...part, count: encoder.count, batch, offset: -1, doubtful: false };
    });
  }

  /** @returns whether all of it lies right behind our last transaction; that it is late, or unlikely, is no. */
  async #goesOn(parts: readonly Part[], producing: Promise<unknown>): Promise<boolean> {
    if (!this.#wentOn) return false;
    let late: NodeJS.Timeout | undefined;
    const tooLate = new Promise((resolve) => {
      late = setTimeout(resolve, LATE_MS);
    });
    await Promise.race([producing.catch(() => {}), tooLate]);
    clearTimeout(late);
    return this.#areNext(parts);
  }

  /** Each lies right behind the marker of our last transaction. */
  #areNext(parts: readonly Part[]): boolean {
    return parts.every((part) => {
      const last = this.#lastOffsets.get(keyOf(part));
      return last !== undefined && part.offset === last + 2;
    });
  }

  /** @returns undefined when every part is in the log. */
  async #produce(parts: readonly Part[], begunMs: number): Promise<Failed | undefined> {
    let left: readonly Part[] = parts;
    for (let attempt = 0; ; attempt++) {
      if (this.#over !== undefined) return unavailable(this.#over);
      const again: Part[] = [];
      const failed: Failed[] = [];
      let reason = "";
      const tried = await Promise.all(left.map((part) => this.#leader(part, attempt > 0)));
      const byBroker = Map.groupBy(
        tried.filter(({ broker }) => broker !== undefined),
        ({ broker }) => `${broker?.host}:${broker?.port}`,
      );
      for (const { part, broker, words } of tried) {
        if (broker) continue;
        again.push(part);
        reason = words;
      }
      await Promise.all(
        Array.from(byBroker.values(), async (group) => {
          const of = group.map(({ part }) => part);
          const sent = await this.#send(group[0]?.broker as Broker, of, begunMs);
          for (const [i, judged] of sent.entries()) {
            if (judged.kind === "again") {
              again.push(of[i] as Part);
              reason = judged.reason;
            } else if (judged.kind !== "appended") failed.push(judged);
          }
        }),
      );
      const worst = failed.find(({ kind }) => kind !== "refused") ?? failed[0];
      // Of a part that may be there the next sequence is not known: this writer cannot go on.
      const isDoubtful = again.some(({ doubtful }) => doubtful);
      if (worst) return worst.kind === "refused" && isDoubtful ? unavailable(reason) : worst;
      if (again.length === 0) return undefined;
      if (performance.now() - begunMs > PRODUCE_WITHIN_MS) return unavailable(reason);
      left = again;
      await pause(Math.min(500, 20 * 2 ** attempt));
    }
  }

  async #leader(part: Part, fresh: boolean) {
    const { cluster } = this.#world;
    const { topic, partition } = part;
    let words = `Kafka: nobody leads ${topic.name}[${partition}]`;
    let broker: Broker | undefined;
    try {
      broker = (await cluster.leader(topic.name, partition, fresh))?.broker;
    } catch (error) {
      words = failureOfError(error).reason;
    }
    return { part, broker, words };
  }

  async #send(
    broker: Broker,
    parts: readonly Part[],
    begunMs: number,
  ): Promise<(Failed | { kind: "appended" } | { kind: "again"; reason: string })[]> {
    const { lane } = this.#world;
    let connection: Connection | undefined;
    try {
      connection = await lane.to(broker);
      const produce = produceInTransaction(connection);
      const answers = await produce(parts, PRODUCE_TIMEOUT_MS, this.#world.transactionalId);
      return parts.map((part) => {
        const { name } = part.topic;
        const answer = answers.find((a) => a.topic === name && a.partition === part.partition);
        return answer ? this.#judge(part, answer, begunMs) : this.#doubt(part, "no answer for it");
      });
    } catch (error) {
      if (connection) lane.failed(connection);
      const failure = failureOfError(error);
      return parts.map((part) => {
        if (failure.kind === "unauthorised") return failure;
        const { reason } = failure;
        return connection ? this.#doubt(part, reason) : { kind: "again", reason };
      });
    }
  }

  #doubt(part: Part, reason: string): { kind: "again"; reason: string } {
    part.doubtful = true;
    return { kind: "again", reason };
  }

  #judge(
    part: Part,
    { error, said, offset }: { error: number; said: string | null; offset: number },
    begunMs: number,
  ): Failed | { kind: "appended" } | { kind: "again"; reason: string } {
    if (FENCES.includes(error)) return this.#fence(begunMs);
    const verdict = verdictOf(error, said);
    switch (verdict.kind) {
      case "appended": {
        part.offset = offset;
        const key = keyOf(part);
        const next = (this.#sequences.get(key) ?? 0) + part.count;
        this.#sequences.set(key, next % SEQUENCES);
        return verdict;
      }
      case "again":
        return verdict.written ? this.#doubt(part, verdict.reason) : verdict;
      case "missing":
        return { kind: "again", reason: verdict.reason };
      case "split":
        // Who was silent about it first may have it: its sequence is not known any more.
        return part.doubtful
          ? unavailable(verdict.reason)
          : { kind: "refused", tooLarge: verdict.tooLarge, reason: verdict.reason };
      case "failed":
        return verdict.failure;
      default:
        return unavailable(verdict.reason);
    }
  }

  #fenceOf(error: unknown, begunMs: number): Failed | undefined {
    return hasError(error, ...FENCES) ? this.#fence(begunMs) : undefined;
  }

  #fence(begunMs: number): Failed {
    const tookMs = performance.now() - begunMs;
    if (tookMs < TRANSACTION_TIMEOUT_MS - CLOCK_SLACK_MS) return { kind: "fenced" };
    return {
      kind: "unknown",
      reason: `the transaction took ${Math.round(tookMs)} ms, and Kafka ended it`,
    };
  }

  #fail(failed: Failed): Failed {
    this.#over = `this writer ended: ${"reason" in failed ? failed.reason : failed.kind}`;
    const open = failed.kind !== "fenced" && failed.kind !== "unknown";
    if (open) this.#coordinator.end(this.#identity, "abort").catch(() => {});
    return failed;
  }
}

function keyOf({ topic, partition }: Pick<Part, "topic" | "partition">): string {
  return `${topic.id}/${partition}`;
}

function topicsOf(parts: readonly Part[]): TopicInfo[] {
  return [...new Map(parts.map(({ topic }) => [topic.name, topic])).values()];
}

function unavailable(reason: string): Failed {
  return { kind: "unavailable", reason };
}
