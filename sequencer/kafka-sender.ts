/**
 * Sends a planned batch to Kafka: its events and the progress that they make, in one transaction, committed
 * once the stamps are.
 *
 * While one batch follows the other, the next transaction is begun ahead (`ready`).
 *
 * K1 A topic's next event lies right behind the marker of our last transaction. Where it does not, what
 *    lies between is read before anything is committed: an event there is somebody else's. Before our first one
 *    that holds from where the topic ended when it was looked at (`topics.ts`).
 */
import type {
  Log,
  RecordPosition,
  TopicInfo,
  TransactionalWriter,
  TransactionRecord,
} from "../kafka/log.ts";
import type { OutboxTopic } from "./catalog.ts";
import { NOTHING_SENT } from "./decide.ts";
import { FailClosed } from "./fail-closed.ts";
import { KafkaRecords } from "./kafka-records.ts";
import type { Place } from "./lsn.ts";
import type { Plan } from "./plan.ts";
import type { Progress, ProgressTopic } from "./progress.ts";
import type { Step } from "./state.ts";
import { committed } from "./tail.ts";

/** Batches that follow each other so soon are likely to be followed by another. */
const SOON_MS = 50;

export interface SenderOptions {
  readonly log: Log;
  readonly writer: TransactionalWriter;
  readonly progressTopic: ProgressTopic;
  /** What Kafka has now; undefined: nothing of this Outbox. */
  readonly progress: Progress | undefined;
  readonly topicOf: (name: string) => OutboxTopic | undefined;
  readonly now: () => number;
  /** What a batch has taken in a step. */
  readonly took: (step: Step, ms: number) => void;
}

export class KafkaSender {
  readonly #options: SenderOptions;
  readonly #records = new KafkaRecords();
  /** Of our last event in each Kafka topic, or of its end when we came, by its id. */
  readonly #lastOffsets = new Map<string, number>();
  #progress: Progress | undefined;
  #committedMs = Number.NEGATIVE_INFINITY;
  /** A batch that is sent now need not wait. */
  ready: Promise<void> = Promise.resolve();

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#progress = options.progress;
  }

  /** As Kafka has it. */
  get progress(): Progress | undefined {
    return this.#progress;
  }

  /** The last event that Kafka has. */
  get sent(): Place {
    return this.#progress?.sent ?? NOTHING_SENT;
  }

  /** The first progress of an Outbox: nothing is sent. @throws why it is not, or may not be, committed. */
  async begin(of: Pick<Progress, "systemId" | "timeline">): Promise<void> {
    if (this.#progress) return;
    const { writer, progressTopic, now } = this.#options;
    const { systemId, timeline } = of;
    const first = { systemId, timeline, sent: NOTHING_SENT, confirmed: 0n, sequences: new Map() };
    const outcome = await writer.write([progressTopic.record(first, now())]);
    if (outcome.kind !== "committed")
      throw new Error("reason" in outcome ? outcome.reason : `Kafka: ${outcome.kind}`);
    this.#progress = first;
  }

  /** There is nothing of somebody else in this Kafka topic up to this offset. */
  begins(topicId: string, offset: number): void {
    this.#lastOffsets.set(topicId, offset);
  }

  /** What is sent from now on was committed on this timeline. */
  follow(timeline: number): void {
    if (this.#progress) this.#progress = { ...this.#progress, timeline };
  }

  /** Resolves when it is committed. @throws FailClosed, or why it is not, or may not be, committed. */
  async send(plan: Plan, stamped?: Promise<void>): Promise<void> {
    const { writer, progressTopic, now, took } = this.#options;
    const nowMs = now();
    let sinceMs = performance.now();
    const infos = this.#infosOf(plan);
    const records: TransactionRecord[] = plan.events.map((one) => ({
      topic: infos.get(one.topic.name) as TopicInfo,
      partition: 0,
      record: this.#records.of(one, nowMs),
    }));
    if (!this.#progress) throw new Error("there is no progress to go on from");
    const progress = after(this.#progress, plan);
    records.push(progressTopic.record(progress, nowMs));
    let foreign: FailClosed | undefined;
    const outcome = await writer.write(records, async (positions) => {
      foreign = await this.#foreignEvent(plan, infos, positions);
      if (foreign) throw foreign;
      took("produce", performance.now() - sinceMs);
      await stamped;
      sinceMs = performance.now();
    });
    if (foreign) throw foreign;
    switch (outcome.kind) {
      case "committed":
        took("commit", performance.now() - sinceMs);
        this.#progress = progress;
        this.#remember(plan, infos, outcome.positions);
        this.#beginNext(infos);
        return;
      case "refused":
      case "unauthorised":
        throw new FailClosed(
          "KafkaRefused",
          `Kafka does not take the events from ${describe(plan)}: ${outcome.reason}`,
        );
      case "gone":
        throw new Error(`Kafka topic ${outcome.topic} was deleted or made anew`);
      case "fenced":
        throw new Error("another sequencer of this Outbox has taken over in Kafka");
      default:
        throw new Error(outcome.reason);
    }
  }

  /** Of several topics it is not known which come next; one that was begun for nothing would get a marker. */
  #beginNext(infos: ReadonlyMap<string, TopicInfo>): void {
    const { writer, progressTopic } = this.#options;
    const beforeMs = this.#committedMs;
    this.#committedMs = performance.now();
    if (this.#committedMs - beforeMs > SOON_MS) return;
    const topics = infos.size === 1 ? [...infos.values()] : [];
    this.ready = writer.begin([...topics, progressTopic.info]);
  }

  #infosOf({ events }: Plan): Map<string, TopicInfo> {
    const infos = new Map<string, TopicInfo>();
    for (const { topic } of events) {
      if (infos.has(topic.name)) continue;
      const info = this.#options.topicOf(topic.name)?.kafka;
      if (!info) throw new Error(`Topic "${topic.name}" is gone from the catalog`);
      infos.set(topic.name, info);
    }
    return infos;
  }

  async #foreignEvent(
    plan: Plan,
    infos: ReadonlyMap<string, TopicInfo>,
    positions: readonly RecordPosition[],
  ): Promise<FailClosed | undefined> {
    for (const [name, { first }] of spansOf(plan, positions)) {
      const info = infos.get(name) as TopicInfo;
      const before = this.#lastOffsets.get(info.id);
      if (before === undefined || first === before + 2) continue;
      const [found] = await committed(this.#options.log, info, Math.max(0, before + 1), first);
      if (found)
        return new FailClosed(
          "ForeignWriter",
          `Something else wrote to Kafka topic ${info.name} of Topic "${name}": an event at offset ${found.offset}. Stop it, and take away its right to write.`,
        );
    }
    return undefined;
  }

  #remember(
    plan: Plan,
    infos: ReadonlyMap<string, TopicInfo>,
    positions: readonly RecordPosition[],
  ): void {
    for (const [name, { last }] of spansOf(plan, positions))
      this.#lastOffsets.set((infos.get(name) as TopicInfo).id, last);
  }
}

/** Where each topic's events lie. */
function spansOf({ events }: Plan, positions: readonly RecordPosition[]) {
  const spans = new Map<string, { first: number; last: number }>();
  for (const [i, { topic }] of events.entries()) {
    const { offset } = positions[i] as RecordPosition;
    const span = spans.get(topic.name);
    if (span) span.last = offset;
    else spans.set(topic.name, { first: offset, last: offset });
  }
  return spans;
}

/** Pure: progress when this plan is committed. */
function after(before: Progress, { batch, events }: Plan): Progress {
  const sequences = new Map(before.sequences);
  for (const { topic, sequence } of events) sequences.set(topic.name, sequence);
  const { place, confirms } = batch;
  return {
    ...{ ...before, sent: place, sequences },
    confirmed: confirms !== undefined && confirms > before.confirmed ? confirms : before.confirmed,
  };
}

function describe({ events }: Plan): string {
  const [first, last] = [events[0], events.at(-1)];
  return first && last
    ? `number ${first.sequence} of "${first.topic.name}" to number ${last.sequence} of "${last.topic.name}"`
    : "none";
}
