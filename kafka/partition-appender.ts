/**
 * The appends to one partition: what waits is made into batches, and one batch is open at a time, so
 * that order holds across broker crashes (P1). A batch is sent with the same sequence until its outcome
 * is known or its time is over:
 *
 *   collect (linger) ─► deliver ─► appended | split and deliver again | settled with a failure
 *
 * - Acknowledged means: on all in-sync replicas, at the offset said (P7).
 * - A failure that proves nothing was written is said as what it is; else the outcome is `unknown`, and
 *   the identity is given up, since the next sequence is unknown too.
 */
import { type Verdict, verdictOf } from "./append-verdict.ts";
import type { Sent } from "./broker-sender.ts";
import { type Broker, type Cluster, inTime } from "./cluster.ts";
import { failureOfError } from "./failures.ts";
import { isGone } from "./gone.ts";
import type { AppendOutcome, LogFailure, NewRecord, TopicInfo } from "./log.ts";
import type { ProducePart } from "./produce.ts";
import { NoIdentity, type ProducerIdentity } from "./producer-identity.ts";
import { encodeBatch } from "./record-batch.ts";

export interface AppendLimits {
  /** How long the first of a batch waits for others. */
  readonly lingerMs: number;
  /** A batch this large does not wait. */
  readonly batchBytes: number;
  /** All that waits or is on its way, over all partitions. */
  readonly bufferBytes: number;
  /** From the call to its outcome. */
  readonly deliveryTimeoutMs: number;
  /** One request to a broker. */
  readonly requestTimeoutMs: number;
}

/** One record that waits for its outcome. */
export interface Waiting {
  readonly record: NewRecord;
  readonly bytes: number;
  readonly sinceMs: number;
  readonly done: (outcome: AppendOutcome) => void;
}

export interface PartitionAppenderWorld {
  readonly cluster: Cluster;
  readonly limits: AppendLimits;
  readonly now: () => number;
  readonly random: () => number;
  readonly identity: () => Promise<ProducerIdentity>;
  send(broker: Broker, part: ProducePart): Promise<Sent>;
}

/** What became of one attempt. */
type Tried =
  | { readonly kind: "appended"; readonly offset: number }
  | Exclude<Verdict, { kind: "appended" }>;

interface Batch {
  readonly waiting: readonly Waiting[];
  bytes: Buffer | undefined;
  /** An attempt may have put it into the log. */
  written: boolean;
}

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;

export class PartitionAppender {
  readonly #world: PartitionAppenderWorld;
  readonly #topic: TopicInfo;
  readonly #partition: number;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #batchBytes: number;
  #running = false;
  #closed = false;
  #identity: ProducerIdentity | undefined;
  /** Ends the linger, or the pause before the next attempt. */
  #wake: (() => void) | undefined;

  constructor(world: PartitionAppenderWorld, topic: TopicInfo, partition: number) {
    this.#world = world;
    this.#topic = topic;
    this.#partition = partition;
    this.#batchBytes = world.limits.batchBytes;
  }

  get idle(): boolean {
    return !this.#running;
  }

  add(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#waitingBytes += waiting.bytes;
    if (!this.#running) {
      this.#running = true;
      void this.#run();
    } else if (this.#lingering && this.#waitingBytes >= this.#batchBytes) {
      this.#wake?.();
    }
  }

  /** What was never sent ends unavailable, what is on its way unknown. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  #lingering = false;

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#linger();
      await this.#deliver(this.#take());
    }
    this.#running = false;
  }

  async #linger(): Promise<void> {
    if (this.#waitingBytes >= this.#batchBytes || this.#closed) return;
    const since = (this.#waiting[0] as Waiting).sinceMs;
    const left = since + this.#world.limits.lingerMs - this.#world.now();
    if (left <= 0) return;
    this.#lingering = true;
    await this.#pause(left);
    this.#lingering = false;
  }

  #take(): Batch {
    let count = 0;
    let bytes = 0;
    for (const waiting of this.#waiting) {
      if (count > 0 && bytes + waiting.bytes > this.#batchBytes) break;
      bytes += waiting.bytes;
      count++;
    }
    this.#waitingBytes -= bytes;
    const taken = count === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, count);
    this.#waiting = count === this.#waiting.length ? [] : this.#waiting.slice(count);
    return { waiting: taken, bytes: undefined, written: false };
  }

  async #deliver(batch: Batch): Promise<void> {
    const { limits, now, random } = this.#world;
    const deadline = (batch.waiting[0] as Waiting).sinceMs + limits.deliveryTimeoutMs;
    // A broker that is silent holds up one batch after another: each would wait for it once more.
    if (this.#world.now() >= deadline && batch.bytes === undefined) {
      return settleAll(batch, unavailable("Kafka did not answer for the batches before it"));
    }
    let missingSinceMs: number | undefined;
    for (let attempt = 0; ; attempt++) {
      const tried = this.#closed
        ? closed()
        : await this.#attempt(batch, deadline, attempt > 0).catch(failedAttempt);
      if (tried.kind === "appended") return settle(batch, this.#partition, tried.offset);
      let reason: string;
      switch (tried.kind) {
        case "failed":
          return this.#fail(batch, tried.failure);
        case "split":
          return this.#split(batch, tried);
        case "lost-offset":
          return this.#fail(batch, { kind: "unavailable", reason: tried.reason }, true);
        case "new-identity":
          if (batch.written) return this.#fail(batch, unavailable(tried.reason));
          this.#identity = undefined;
          batch.bytes = undefined;
          reason = tried.reason;
          break;
        case "missing": {
          missingSinceMs ??= now();
          const judged = isGone(this.#world.cluster, this.#topic, now() - missingSinceMs);
          const gone = await this.#before(deadline, judged).catch(() => false);
          if (gone) return settleAll(batch, { kind: "gone" });
          reason = tried.reason;
          break;
        }
        case "again":
          batch.written ||= tried.written;
          reason = tried.reason;
      }
      if (now() >= deadline || this.#closed) return this.#fail(batch, unavailable(reason));
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt, 10));
      await this.#pause(Math.min(deadline - now(), pauseMs * (0.5 + random() / 2)));
    }
  }

  /** One try to get the batch into the log. Rejects only before anything was sent. */
  async #attempt(batch: Batch, deadline: number, fresh: boolean): Promise<Tried> {
    const { cluster, identity } = this.#world;
    const [topic, partition] = [this.#topic, this.#partition];
    if (batch.bytes === undefined) {
      if (this.#identity?.exhausted) this.#identity = undefined;
      this.#identity ??= await this.#before(deadline, identity());
      const { producerId, producerEpoch } = this.#identity;
      const baseSequence = this.#identity.take(batch.waiting.length);
      batch.bytes = encodeBatch(
        batch.waiting.map(({ record }) => record),
        { producerId, producerEpoch, baseSequence },
      );
    }
    const leader = await this.#before(deadline, cluster.leader(topic.name, partition, fresh));
    if (!leader)
      return {
        kind: "missing",
        reason: `Kafka: nobody leads ${topic.name}[${partition}]`,
      };
    const sent = await this.#world.send(leader.broker, {
      topic,
      partition,
      batch: batch.bytes,
    });
    if (sent.kind === "answered") {
      const verdict = verdictOf(sent.part.error, sent.part.said);
      return verdict.kind === "appended" ? { ...verdict, offset: sent.part.offset } : verdict;
    }
    if (sent.failure.kind === "unauthorised") return { kind: "failed", failure: sent.failure };
    return {
      kind: "again",
      written: sent.kind === "unanswered",
      reason: sent.failure.reason,
    };
  }

  /** Nothing of it was written by this attempt: halves, so that one bad record spoils no other. */
  async #split(batch: Batch, why: { tooLarge: boolean; reason: string }): Promise<void> {
    this.#identity = undefined;
    if (batch.written) return this.#fail(batch, unavailable(why.reason));
    const { waiting } = batch;
    if (waiting.length === 1) {
      const { reason } = why;
      return settleAll(batch, why.tooLarge ? { kind: "too-large", reason } : unavailable(reason));
    }
    const middle = waiting.length >>> 1;
    if (why.tooLarge) {
      const bytes = waiting.reduce((sum, w) => sum + w.bytes, 0);
      this.#batchBytes = Math.max(1024, Math.min(this.#batchBytes, bytes >>> 1));
    }
    await this.#deliver({
      waiting: waiting.slice(0, middle),
      bytes: undefined,
      written: false,
    });
    await this.#deliver({
      waiting: waiting.slice(middle),
      bytes: undefined,
      written: false,
    });
  }

  #fail(batch: Batch, failure: LogFailure, written = batch.written): void {
    // Also without a write the sequence was taken: the broker would see a hole.
    this.#identity = undefined;
    settleAll(batch, written ? { kind: "unknown", reason: failure.reason } : failure);
  }

  /** A look-up that is awaited no longer than the batch has time: silent brokers take 10 s to be given up. */
  #before<T>(deadline: number, lookedUp: Promise<T>): Promise<T> {
    return inTime(lookedUp, Math.max(0, deadline - this.#world.now()));
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), ms);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

function settle(batch: Batch, partition: number, first: number): void {
  let offset = first;
  for (const { done } of batch.waiting) done({ kind: "appended", partition, offset: offset++ });
}

function settleAll(batch: Batch, outcome: AppendOutcome): void {
  for (const { done } of batch.waiting) done(outcome);
}

function unavailable(reason: string): LogFailure {
  return { kind: "unavailable", reason };
}

function closed(): Tried {
  return { kind: "failed", failure: unavailable("the log is closed") };
}

function failedAttempt(error: unknown): Tried {
  const failure = failureOfError(error);
  const isFinal = failure.kind === "unauthorised" || error instanceof NoIdentity;
  return isFinal
    ? { kind: "failed", failure }
    : { kind: "again", written: false, reason: failure.reason };
}
