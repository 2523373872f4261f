/**
 * PublishStream: one gRPC call is one stream of a publisher. It opens the publisher (one with a name:
 * fence, settle, read the last number), then passes messages to its pipeline.
 *
 * S1 Of the streams of one publisher the newest wins: on this server it ends the older one at once and
 *    takes the transactional id after it; on another server Kafka fences the older one, which hears of it
 *    with its next transaction.
 * S2 What a client sends ahead is bounded (P6): by stream, and with Publish by `--publish-bytes`. Beyond it
 *    the stream is not read, and HTTP/2 stops the client.
 * S3 A stream leaves nothing behind: what is open in Kafka ends by itself after 10 s, or with the next
 *    opening.
 * S4 A gateway that drains reads no more, lets what is under way end (the transaction; without a name all
 *    that was read), answers it, and ends the stream with DRAINING. A pod door serves its app's publishers
 *    to the end: they have no other server. Without a name a stream ends so as well before the connection's
 *    grace is over where connections have an age: an event under way then would be of unknown outcome.
 * S5 A stream that asked for heartbeats hears something in time for as long as this server runs, whatever
 *    Kafka does, from its open on.
 */
import type { handleBidiStreamingCall, ServerDuplexStream } from "@grpc/grpc-js";
import type { TransactionalWriter, TransactionPart } from "../../kafka/log.ts";
import type { PublishStreamOpen } from "../../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "../catalog.ts";
import { Failure, toFailure, toStatus } from "../failure.ts";
import type { InFlightBudget } from "../in-flight-budget.ts";
import { topicToPublish } from "../publish.ts";
import type { ServerContext } from "../server-context.ts";
import { topicInfo } from "../topics.ts";
import { failed, LastNumbers } from "./last-numbers.ts";
import { NamedPipeline } from "./named-pipeline.ts";
import { NUMBERING, type NumberingRules } from "./numbering.ts";
import type { Pipeline, PipelineStream } from "./pipeline.ts";
import { UnnamedPipeline } from "./unnamed-pipeline.ts";
import { decodeStreamRequest, encodeOpened, HEARTBEAT } from "./wire.ts";

/** What one stream may have sent ahead of its answers; a message that crosses it is still taken. */
const STREAM_BYTES = 2 << 20;
const PUBLISHER = /^[A-Za-z0-9._-]{1,128}$/;
const MAX_INSTANCE_BYTES = 64;
const MIN_HEARTBEAT_MS = 100;
const MAX_HEARTBEAT_MS = 60_000;
const DRAIN = 1;
const SHUTTING_DOWN = "This server is shutting down.";

type Call = ServerDuplexStream<Buffer, Buffer>;

interface Parts {
  readonly server: ServerContext;
  readonly buffered: InFlightBudget;
  readonly numbers: LastNumbers;
  readonly rules: NumberingRules;
  /** The newest stream of each publisher, by transactional id. */
  readonly held: Map<string, PublisherStream>;
}

export function makePublishStream(
  server: ServerContext,
  buffered: InFlightBudget,
  rules: NumberingRules = NUMBERING,
): handleBidiStreamingCall<Buffer, Buffer> {
  const numbers = new LastNumbers(server);
  const parts: Parts = { server, buffered, numbers, rules, held: new Map() };
  let streams = 0;
  return (call) => {
    const refusal = mustMove(server)
      ? new Failure("DRAINING", SHUTTING_DOWN)
      : streams >= server.limits.streams
        ? new Failure("OVERLOADED", `This server serves ${server.limits.streams} (--streams).`)
        : undefined;
    if (refusal) {
      call.emit("error", toStatus(refusal));
      return;
    }
    streams++;
    server.metrics.streamsOpen(1);
    new PublisherStream(parts, call, () => {
      streams--;
      server.metrics.streamsOpen(-1);
    });
  };
}

function mustMove({ reliability, shape }: ServerContext): boolean {
  return reliability.draining && shape === "gateway";
}

type State =
  | { readonly kind: "waits for open" }
  | { readonly kind: "opening" }
  | { readonly kind: "open"; readonly pipeline: Pipeline }
  /** Reads no more, and is over when its pipeline has answered. */
  | { readonly kind: "ending"; readonly pipeline: Pipeline }
  | { readonly kind: "over" };

class PublisherStream {
  readonly #parts: Parts;
  readonly #call: Call;
  readonly #closed: () => void;
  #state: State = { kind: "waits for open" };
  #id: string | undefined;
  /** Received and not answered. */
  #bytes = 0;
  /** Goes on when the client has taken answers. */
  #taken: () => void = () => {};
  /** Since the last beat. */
  #hasSaid = false;
  #cancelBeat: () => void = () => {};
  #cancelRenewal: () => void = () => {};
  /** Resolves when this stream asks nothing of Kafka any more that could fence a newer one. */
  #opened: Promise<void> = Promise.resolve();
  readonly #forgetMoving: () => void;
  readonly #readAgain = (): void => this.#read();

  constructor(parts: Parts, call: Call, closed: () => void) {
    this.#parts = parts;
    this.#call = call;
    this.#closed = closed;
    this.#forgetMoving = parts.server.reliability.onMoving((reason) => {
      if (reason === DRAIN && mustMove(parts.server)) this.#drain(SHUTTING_DOWN);
    });
    readOneAhead(call);
    call.on("data", (bytes: Buffer) => this.#take(bytes));
    call.on("end", () => this.#ended());
    call.on("drain", () => this.#taken());
    for (const end of ["cancelled", "error", "close"]) call.on(end, () => this.#finish());
  }

  /** A newer stream of the publisher came to this server; resolves when it may take the id. */
  supersede(): Promise<void> {
    this.#fail(
      new Failure("PUBLISHER_SUPERSEDED", "A newer stream of this publisher came to this server."),
    );
    return this.#opened;
  }

  #take(bytes: Buffer): void {
    const { server } = this.#parts;
    if (this.#state.kind === "ending" || this.#over) return;
    try {
      const request = decodeStreamRequest(bytes, server.clock.now(), server.limits.requestEvents);
      if (request.kind === "invalid") throw new Failure("INVALID_REQUEST", request.message);
      switch (this.#state.kind) {
        case "waits for open":
          if (request.kind !== "open") {
            throw new Failure("INVALID_REQUEST", "The first message of a stream must be open.");
          }
          this.#state = { kind: "opening" };
          this.#call.pause();
          this.#opened = this.#open(request.open).catch((error) => this.#fail(error));
          return;
        case "opening":
        case "open":
          if (request.kind === "open") {
            throw new Failure("INVALID_REQUEST", "open: a stream is opened once.");
          }
          if (this.#state.kind === "opening") throw new Error("read while opening");
          this.#bytes += bytes.length;
          this.#parts.buffered.take(bytes.length);
          this.#state.pipeline.add({ ...request, bytes: bytes.length });
          this.#read();
      }
    } catch (error) {
      // What came before it is answered first, in order.
      if (this.#state.kind === "open" && error instanceof Failure) {
        this.#lastRead(this.#state.pipeline).failAfterAll(error);
      } else this.#fail(error);
    }
  }

  async #open(open: PublishStreamOpen): Promise<void> {
    const { topic: requested, publisher, instance, heartbeatMs } = open;
    const { server, numbers, rules, held } = this.#parts;
    const topic = topicToPublish(server, requested);
    if (publisher !== "" && !PUBLISHER.test(publisher)) {
      throw new Failure(
        "INVALID_REQUEST",
        `publisher: must be 1 to 128 of A-Z, a-z, 0-9, ".", "_" and "-", or empty.`,
      );
    }
    if (Buffer.byteLength(instance) > MAX_INSTANCE_BYTES) {
      throw new Failure("INVALID_REQUEST", `instance: has more than ${MAX_INSTANCE_BYTES} bytes.`);
    }
    if (/\p{Cc}/u.test(instance)) {
      throw new Failure("INVALID_REQUEST", "instance: has control characters; leave them out.");
    }
    if (heartbeatMs !== 0 && (heartbeatMs < MIN_HEARTBEAT_MS || heartbeatMs > MAX_HEARTBEAT_MS)) {
      const range = `${MIN_HEARTBEAT_MS} to ${MAX_HEARTBEAT_MS}, or 0`;
      throw new Failure("INVALID_REQUEST", `heartbeat_ms: is ${heartbeatMs}; must be ${range}.`);
    }
    if (heartbeatMs > 0) this.#beat(heartbeatMs);
    if (publisher === "") {
      const topicNow = (): CatalogTopic => topicToPublish(server, requested);
      this.#begin(0, "", new UnnamedPipeline(server, this.#forPipeline(topicNow)));
      if (server.limits.connectionAgeMs > 0) this.#renewIn(server.limits.drainMs / 2);
      return;
    }
    // None of the names holds a slash, and no namespace begins with "_".
    const key = `${server.namespace}/${topic.name}/${publisher}`;
    const id = `_throughline.${server.deploymentId}.publisher/${key}`;
    this.#id = id;
    const older = held.get(id);
    held.set(id, this);
    await older?.supersede();
    if (this.#over) return;
    const numbersTopic = await numbers.topic();
    if (this.#over) return;
    const writer = await server.log.openTransactionalWriter(id, {
      always: numbers.place(numbersTopic, key),
      others: [topicInfo(topic)],
    });
    if (writer.kind !== "done") throw failed(writer);
    if (this.#over) return;
    const opening = numbers.opening(numbersTopic, key);
    const read = await numbers.read(numbersTopic, key, await writtenAt(writer.value, opening));
    if (this.#over) return;
    const { topicId } = topic;
    const last = read?.topicId === topicId ? read : { number: 0, instance: "" };
    const pipeline = new NamedPipeline(
      {
        ...this.#forPipeline(() => this.#sameTopic(requested, topicId)),
        ...{ writer: writer.value, rules, metrics: server.metrics },
        lastNumber: (number) => numbers.record(numbersTopic, key, { topicId, number, instance }),
        numbersGone: () => numbers.forgetTopic(),
      },
      last.number,
    );
    this.#begin(last.number, last.instance, pipeline);
  }

  #begin(lastNumber: number, lastInstance: string, pipeline: Pipeline): void {
    this.#write(encodeOpened(lastNumber, lastInstance));
    this.#state = { kind: "open", pipeline };
    this.#read();
  }

  #forPipeline(topic: () => CatalogTopic): PipelineStream {
    return {
      topic,
      answer: (message) => this.#answer(message),
      done: (bytes) => {
        this.#bytes -= bytes;
        this.#parts.buffered.give(bytes);
        this.#read();
      },
      end: (thrown) => {
        if (thrown !== undefined) return this.#fail(thrown);
        this.#finish();
        this.#call.end();
      },
    };
  }

  /** Numbers count in one topic. @throws Failure when it is another one, or may not be published to. */
  #sameTopic(requested: string, topicId: string): CatalogTopic {
    const topic = topicToPublish(this.#parts.server, requested);
    if (topic.topicId === topicId) return topic;
    const message = `Topic "${topic.name}" was deleted and made anew; its numbers begin again at 1.`;
    throw new Failure("TOPIC_NOT_FOUND", message);
  }

  get #over(): boolean {
    return this.#state.kind === "over";
  }

  /** Reads on, or not (S2). */
  #read(): void {
    const { buffered } = this.#parts;
    if (this.#state.kind !== "open") return;
    if (this.#bytes >= STREAM_BYTES) {
      this.#call.pause();
    } else if (buffered.free === 0 && this.#bytes > 0) {
      this.#call.pause();
      buffered.whenGiven(this.#readAgain);
    } else {
      this.#call.resume();
    }
  }

  /** S5. */
  #beat(everyMs: number): void {
    this.#cancelBeat = this.#parts.server.clock.setTimer(everyMs, () => {
      // A client that takes nothing gets no pile of them (P6).
      if (!this.#hasSaid && !this.#call.writableNeedDrain) this.#write(HEARTBEAT);
      this.#hasSaid = false;
      this.#beat(everyMs);
    });
  }

  #write(message: Buffer): boolean {
    this.#hasSaid = true;
    return this.#call.write(message);
  }

  #answer(message: Buffer): Promise<void> {
    if (this.#over || this.#write(message)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#taken = resolve;
    });
  }

  #ended(): void {
    if (this.#state.kind === "waits for open") {
      this.#fail(new Failure("INVALID_REQUEST", "The stream ended before it was opened."));
    } else if (this.#state.kind === "open") this.#state.pipeline.finish();
  }

  /** What comes after it is not read any more. */
  #lastRead(pipeline: Pipeline): Pipeline {
    this.#call.pause();
    this.#state = { kind: "ending", pipeline };
    return pipeline;
  }

  /** An old connection takes no new streams, and those that it has get `drainMs`. */
  #renewIn(ms: number): void {
    const message = "Open again: this server renews connections (--connection-age-ms).";
    this.#cancelRenewal = this.#parts.server.clock.setTimer(ms, () => this.#drain(message));
  }

  #drain(message: string): void {
    const failure = new Failure("DRAINING", message);
    if (this.#state.kind === "open") this.#lastRead(this.#state.pipeline).stop(failure);
    else if (this.#state.kind === "ending") this.#state.pipeline.stop(failure);
    else this.#fail(failure);
  }

  #fail(thrown: unknown): void {
    if (this.#over) return;
    if (!(thrown instanceof Failure)) {
      this.#parts.server.logger.error({ err: thrown }, "a publisher's stream failed");
    }
    this.#finish();
    this.#call.emit("error", toStatus(toFailure(thrown)));
  }

  #finish(): void {
    if (this.#over) return;
    const { buffered, held } = this.#parts;
    const state = this.#state;
    this.#state = { kind: "over" };
    this.#cancelBeat();
    this.#cancelRenewal();
    if (state.kind === "open" || state.kind === "ending") state.pipeline.close();
    buffered.forget(this.#readAgain);
    if (this.#bytes > 0) buffered.give(this.#bytes);
    this.#bytes = 0;
    this.#taken();
    this.#forgetMoving();
    if (this.#id !== undefined && held.get(this.#id) === this) held.delete(this.#id);
    this.#closed();
  }
}

/** Where the opening's own record is. @throws Failure */
async function writtenAt(writer: TransactionalWriter, record: TransactionPart): Promise<number> {
  const outcome = await writer.write([record]);
  switch (outcome.kind) {
    case "committed":
      return outcome.positions[0]?.offset ?? 0;
    case "fenced":
      throw new Failure("PUBLISHER_SUPERSEDED", "A newer stream of this publisher was opened.");
    case "gone":
      throw new Failure("KAFKA_UNAVAILABLE", `The Kafka topic ${outcome.topic} was deleted.`);
    case "unknown":
      throw new Failure("KAFKA_UNAVAILABLE", outcome.reason);
    default:
      throw failed(outcome);
  }
}

/**
 * A stream that is paused still reads ahead as many messages as its high-water mark says, by default 16
 * of up to `--request-bytes`. Node has no public way to change it afterwards; a test holds it.
 */
function readOneAhead(call: Call): void {
  const state = (call as unknown as { _readableState?: { highWaterMark: number } })._readableState;
  if (state) state.highWaterMark = 1;
}
