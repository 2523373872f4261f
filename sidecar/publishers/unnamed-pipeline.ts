/**
 * The events of a stream without a publisher's name: each message is appended as it comes, as Publish
 * does, without waiting for the one before it, and answered in order.
 *
 * U1 A number only says which answer belongs to which event: it must be the next one.
 * U2 What ends the stream, but for a bug or the client's going, ends it after the answers to all that was read.
 *    So what has no answer then was not appended, and may be sent again (P7).
 * U3 What a client does not take is not collected: a message counts as unanswered until its answer has
 *    room, and beyond its bound the stream is not read (P6).
 */
import { Failure } from "../failure.ts";
import { type AppendWorld, appendEvents } from "../publish.ts";
import type { WireResult } from "../publish-wire.ts";
import type { NumberedMessage, Pipeline, PipelineStream } from "./pipeline.ts";
import { encodeRun } from "./wire.ts";

interface Appended {
  readonly bytes: number;
  /** Undefined until the outcome of every event is known. */
  results: readonly WireResult[] | undefined;
}

export class UnnamedPipeline implements Pipeline {
  readonly #world: AppendWorld;
  readonly #stream: PipelineStream;
  /** Messages that are not answered, in order. */
  readonly #appended: Appended[] = [];
  #next = 1;
  /** Of the first event that is not answered. */
  #firstNumber = 1;
  #answering = false;
  #ending: "no" | "when answered" | "ended" = "no";
  #reason: Failure | undefined;

  constructor(world: AppendWorld, stream: PipelineStream) {
    this.#world = world;
    this.#stream = stream;
  }

  add({ firstNumber, events, bytes }: NumberedMessage): void {
    if (firstNumber !== this.#next) {
      const message = `first_number: is ${firstNumber}; the next number is ${this.#next}.`;
      throw new Failure("INVALID_REQUEST", message);
    }
    const topic = this.#stream.topic();
    this.#next += events.length;
    const appended: Appended = { bytes, results: undefined };
    this.#appended.push(appended);
    appendEvents(this.#world, topic, events).then(
      (results) => {
        appended.results = results;
        this.#answerSoon();
      },
      (bug) => this.#end(bug),
    );
  }

  finish(): void {
    if (this.#ending !== "no") return;
    this.#ending = "when answered";
    this.#answerSoon();
  }

  failAfterAll(failure: Failure): void {
    this.#reason ??= failure;
    this.finish();
  }

  stop(failure: Failure): void {
    this.failAfterAll(failure);
  }

  close(): void {
    this.#ending = "ended";
    this.#appended.length = 0;
  }

  /** Outcomes that are known together travel together: Kafka answers for many events at once. */
  #answerSoon(): void {
    if (this.#answering) return;
    this.#answering = true;
    queueMicrotask(() => void this.#answer());
  }

  async #answer(): Promise<void> {
    for (let ready = this.#ready(); ready > 0; ready = this.#ready()) {
      const answered = this.#appended.slice(0, ready);
      const results = answered.flatMap(({ results }) => results ?? []);
      if (results.length > 0) await this.#stream.answer(encodeRun(this.#firstNumber, results));
      if (this.#ending === "ended") return;
      this.#firstNumber += results.length;
      this.#appended.splice(0, ready);
      for (const { bytes } of answered) this.#stream.done(bytes);
    }
    this.#answering = false;
    if (this.#ending === "when answered" && this.#appended.length === 0) this.#end(this.#reason);
  }

  /** How many messages from the first on have their results. */
  #ready(): number {
    const waiting = this.#appended.findIndex(({ results }) => results === undefined);
    return waiting < 0 ? this.#appended.length : waiting;
  }

  #end(thrown: unknown): void {
    if (this.#ending === "ended") return;
    this.#ending = "ended";
    this.#stream.end(thrown);
  }
}
