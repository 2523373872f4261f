/**
 * The events of one named publisher's stream, in order, one transaction after another:
 *
 *   queue ─► judge against the committed number ─► one transaction: events and the new last number ─► answer
 *
 * While a transaction is under way the next one's events collect, so that each takes what came meanwhile.
 *
 * N1 A number is judged when its turn comes, against what is committed: nothing is assumed of a
 *    transaction that may still fail.
 * N2 Answers are in the order of the events (P1), and a position is told only after its transaction
 *    committed: then the event is on all in-sync replicas (P7).
 * N3 What leaves a transaction in doubt ends the stream. The client opens anew, here or elsewhere, and the
 *    number that is read then says what became of it; nothing is sent again here.
 * N4 One bad event harms no other: what Kafka does not take is halved until it is alone.
 */
import type { TransactionalWriter, TransactionOutcome, TransactionPart } from "../../kafka/log.ts";
import type { CatalogTopic } from "../catalog.ts";
import type { ErrorName } from "../errors.ts";
import { Failure, toErrorInfo } from "../failure.ts";
import type { Metrics } from "../metrics.ts";
import type { DecodedEvent, WireResult } from "../publish-wire.ts";
import { topicInfo } from "../topics.ts";
import type { NumberingRules } from "./numbering.ts";
import type { NumberedMessage, Pipeline, PipelineStream } from "./pipeline.ts";
import { encodeAnswers, type NumberedAnswer } from "./wire.ts";

/** Of the events of one transaction; one event may be larger. */
const TRANSACTION_BYTES = 512 << 10;
const TRANSACTION_EVENTS = 10_000;
/** Answers that need no transaction are not collected without end either. */
const TURN_ANSWERS = 20_000;
/** What a record takes in a batch beside its key, value and headers. */
const RECORD_OVERHEAD_BYTES = 40;

export interface NamedWorld extends PipelineStream {
  readonly writer: TransactionalWriter;
  readonly rules: NumberingRules;
  readonly metrics: Metrics;
  /** The record that says the new last number. */
  lastNumber(number: number): TransactionPart;
  /** The topic of the last numbers was deleted. */
  numbersGone(): void;
}

/** What one pass over the queue makes of it. */
interface Turn {
  readonly answers: NumberedAnswer[];
  readonly records: TransactionPart[];
  /** Where the answers of `records` go. */
  readonly at: number[];
  readonly bytes: number;
  readonly last: number;
}

export class NamedPipeline implements Pipeline {
  readonly #world: NamedWorld;
  readonly #queue: NumberedMessage[] = [];
  /** Events of the first message that are answered. */
  #answered = 0;
  #last: number;
  #maxBytes = TRANSACTION_BYTES;
  #maxEvents = TRANSACTION_EVENTS;
  #running = false;
  #ending: "no" | "when answered" | "after this turn" | "ended" = "no";
  #reason: Failure | undefined;

  constructor(world: NamedWorld, last: number) {
    this.#world = world;
    this.#last = last;
  }

  add(message: NumberedMessage): void {
    this.#queue.push(message);
    if (!this.#running) void this.#run();
  }

  finish(): void {
    if (this.#ending !== "no") return;
    this.#ending = "when answered";
    if (!this.#running) void this.#run();
  }

  failAfterAll(failure: Failure): void {
    if (this.#ending === "ended") return;
    this.#ending = "when answered";
    this.#reason ??= failure;
    if (!this.#running) void this.#run();
  }

  /** Ends with this failure when the transaction that is under way is answered. */
  stop(failure: Failure): void {
    if (this.#ending === "ended") return;
    this.#ending = "after this turn";
    this.#reason = failure;
    if (!this.#running) void this.#run();
  }

  close(): void {
    this.#ending = "ended";
    this.#queue.length = 0;
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (this.#queue.length > 0 && this.#mayGoOn) await this.#turn();
      if (this.#ending !== "no") this.#end(this.#reason);
    } catch (thrown) {
      this.#end(thrown);
    }
    this.#running = false;
  }

  get #mayGoOn(): boolean {
    return this.#ending === "no" || this.#ending === "when answered";
  }

  async #turn(): Promise<void> {
    const topic = this.#world.topic();
    const turn = this.#judged(topic);
    if (turn.records.length > 0) {
      const first = (turn.answers[turn.at[0] as number] as NumberedAnswer).number;
      const outcome = await this.#world.writer.write([
        ...turn.records,
        this.#world.lastNumber(turn.last),
      ]);
      if (this.#ending === "ended") return;
      if (outcome.kind === "refused") {
        if (this.#smaller(turn, outcome.tooLarge)) return;
        // It is alone. What follows it is judged anew.
        const alone = turn.at[0] as number;
        turn.answers[alone] = { number: first, ...refused(outcome, first) };
        turn.answers.length = alone + 1;
      } else if (outcome.kind === "committed") {
        for (const [i, at] of turn.at.entries()) {
          const { partition, offset } = outcome.positions[i] as (typeof outcome.positions)[0];
          const { number } = turn.answers[at] as NumberedAnswer;
          turn.answers[at] = { number, kind: "position", partition, offset };
        }
        this.#last = turn.last;
        this.#maxEvents = TRANSACTION_EVENTS;
        this.#world.metrics.eventsPublished(turn.records.length);
      } else {
        if (outcome.kind === "gone" && outcome.topic !== topic.kafkaTopic)
          this.#world.numbersGone();
        throw ended(outcome, first, turn.last, topic.kafkaTopic);
      }
    }
    const refusals = turn.answers.filter(({ kind }) => kind === "error").length;
    if (refusals > 0) this.#world.metrics.publishesRefused(refusals);
    for (const message of encodeAnswers(turn.answers)) await this.#world.answer(message);
    this.#pass(turn.answers.length);
  }

  /** Of the queue what one transaction holds, and all before and between that needs none. */
  #judged(topic: CatalogTopic): Turn {
    const info = topicInfo(topic);
    const answers: NumberedAnswer[] = [];
    const records: TransactionPart[] = [];
    const at: number[] = [];
    let bytes = 0;
    let last = this.#last;
    let skip = this.#answered;
    for (const { firstNumber, events } of this.#queue) {
      for (let i = skip; i < events.length; i++) {
        const number = firstNumber + i;
        const event = events[i] as DecodedEvent;
        const numbered = this.#world.rules.judge(number, last);
        if (numbered === "already-there") {
          answers.push({ number, kind: "already-there" });
        } else if (numbered === "jump") {
          answers.push({ number, ...jumped(number, last) });
        } else {
          const refusal = judge(event, number, topic);
          if (refusal) {
            answers.push({ number, ...refusal });
          } else {
            const { record, bytes: size } = event as Extract<DecodedEvent, { kind: "record" }>;
            const more = size + RECORD_OVERHEAD_BYTES;
            const full = bytes + more > this.#maxBytes || records.length >= this.#maxEvents;
            if (records.length > 0 && full) return { answers, records, at, bytes, last };
            at.push(answers.length);
            answers.push({ number, kind: "already-there" });
            records.push({ topic: info, partition: null, records: [record] });
            bytes += more;
            last = number;
          }
        }
        if (answers.length >= TURN_ANSWERS) return { answers, records, at, bytes, last };
      }
      skip = 0;
    }
    return { answers, records, at, bytes, last };
  }

  /** @returns false when the transaction has one event already. */
  #smaller(turn: Turn, tooLarge: boolean): boolean {
    if (turn.records.length === 1) return false;
    if (tooLarge) this.#maxBytes = Math.max(1024, turn.bytes >>> 1);
    this.#maxEvents = Math.max(1, turn.records.length >>> 1);
    return true;
  }

  #pass(count: number): void {
    let left = count + this.#answered;
    while (this.#queue[0] && left >= this.#queue[0].events.length) {
      const message = this.#queue.shift() as NumberedMessage;
      left -= message.events.length;
      this.#world.done(message.bytes);
    }
    this.#answered = left;
  }

  #end(thrown: unknown): void {
    if (this.#ending === "ended") return;
    this.#ending = "ended";
    this.#queue.length = 0;
    this.#world.end(thrown);
  }
}

function judge(event: DecodedEvent, number: number, topic: CatalogTopic): WireResult | undefined {
  if (event.kind === "invalid") {
    return error("INVALID_REQUEST", `number ${number}: ${event.message}`);
  }
  if (event.bytes > topic.maxEventBytes) {
    return error(
      "PAYLOAD_TOO_LARGE",
      `number ${number}: has ${event.bytes} bytes; topic "${topic.name}" takes ${topic.maxEventBytes}.`,
    );
  }
  return undefined;
}

function jumped(number: number, last: number): WireResult {
  return error("NUMBER_JUMPED", `number ${number}: the next number is ${last + 1}.`);
}

function refused(outcome: { tooLarge: boolean; reason: string }, number: number): WireResult {
  const name = outcome.tooLarge ? "PAYLOAD_TOO_LARGE" : "KAFKA_REFUSED";
  return error(name, `number ${number}: ${outcome.reason}`);
}

function error(name: ErrorName, message: string): WireResult {
  return { kind: "error", error: toErrorInfo(new Failure(name, message)) };
}

function ended(
  outcome: Exclude<TransactionOutcome, { kind: "committed" | "refused" }>,
  first: number,
  last: number,
  kafkaTopic: string,
): Failure {
  const numbers = first === last ? `Number ${first}` : `Numbers ${first} to ${last}`;
  const read = "open again: last_number says";
  switch (outcome.kind) {
    case "fenced":
      return new Failure(
        "PUBLISHER_SUPERSEDED",
        `A newer stream has this publisher. ${numbers} may be in the topic.`,
      );
    case "unknown":
      return new Failure(
        "KAFKA_UNAVAILABLE",
        `${numbers} may be in the topic: ${read}. ${outcome.reason}.`,
      );
    case "gone":
      return outcome.topic === kafkaTopic
        ? new Failure("TOPIC_NOT_FOUND", `The Kafka topic ${kafkaTopic} was deleted or recreated.`)
        : new Failure("KAFKA_UNAVAILABLE", `The Kafka topic ${outcome.topic} was deleted.`);
    case "unauthorised":
      return new Failure("KAFKA_REFUSED", outcome.reason);
    case "corrupt":
      return new Failure("LOG_CORRUPT", outcome.reason);
    case "unavailable":
      return new Failure(
        "KAFKA_UNAVAILABLE",
        `${numbers} are not in the topic: ${outcome.reason}.`,
      );
  }
}
