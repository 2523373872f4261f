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
  TransactionPart,
} from "../kafka/log.ts";
import type { OutboxTopic } from "./catalog.ts";
import { NOTHING_SENT } from "./decide.ts";
import { FailClosed } from "./fail-closed.ts";
import type { Batch } from "./intake.ts";
import { recordsOf } from "./kafka-records.ts";
import type { Place } from "./lsn.ts";
import type { Plan, Sequenced } from "./plan.ts";
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
    if (!this.#progress) throw new Error("there is no progress to go on from");
    const topics = this.#divide(plan);
    const progress = after(this.#progress, plan.batch, topics);
    const parts: TransactionPart[] = topics.map(({ kafka, events }) => ({
      ...{ topic: kafka, partition: 0, records: recordsOf(events, nowMs) },
    }));
    parts.push(progressTopic.record(progress, nowMs));
    let foreign: FailClosed | undefined;
    const outcome = await writer.write(parts, async (positions) => {
      foreign = await this.#foreignEvent(topics, positions);
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
        for (const [i, { kafka, events }] of topics.entries())
          this.#lastOffsets.set(kafka.id, offsetOf(outcome.positions, i) + events.length - 1);
        this.#beginNext(topics);
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
  #beginNext(topics: readonly TopicEvents[]): void {
    const { writer, progressTopic } = this.#options;
    const beforeMs = this.#committedMs;
    this.#committedMs = performance.now();
    if (this.#committedMs - beforeMs > SOON_MS) return;
    const likely = topics.length === 1 ? topics.map(({ kafka }) => kafka) : [];
    this.ready = writer.begin([...likely, progressTopic.info]);
  }

  #divide({ events }: Plan): TopicEvents[] {
    return Array.from(
      Map.groupBy(events, ({ topic }) => topic.name),
      ([name, of]) => {
        const kafka = this.#options.topicOf(name)?.kafka;
        if (!kafka) throw new Error(`Topic "${name}" is gone from the catalog`);
        return { name, kafka, events: of };
      },
    );
  }

  async #foreignEvent(
    topics: readonly TopicEvents[],
    positions: readonly RecordPosition[],
  ): Promise<FailClosed | undefined> {
    for (const [i, { name, kafka }] of topics.entries()) {
      const first = offsetOf(positions, i);
      const before = this.#lastOffsets.get(kafka.id);
      if (before === undefined || first === before + 2) continue;
      const [found] = await committed(this.#options.log, kafka, Math.max(0, before + 1), first);
      if (found)
        return new FailClosed(
          "ForeignWriter",
          `Something else wrote to Kafka topic ${kafka.name} of Topic "${name}": an event at offset ${found.offset}. Stop it, and take away its right to write.`,
        );
    }
    return undefined;
  }
}

/** What of a plan goes to one Topic, in order. */
interface TopicEvents {
  readonly name: string;
  readonly kafka: TopicInfo;
  readonly events: readonly Sequenced[];
}

function offsetOf(positions: readonly RecordPosition[], at: number): number {
  return (positions[at] as RecordPosition).offset;
}

/** Pure: progress when these events of the batch are committed. */
function after(
  before: Progress,
  { place, confirms }: Batch,
  topics: readonly TopicEvents[],
): Progress {
  const sequences = new Map(before.sequences);
  for (const { name, events } of topics) sequences.set(name, (events.at(-1) as Sequenced).sequence);
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
