/**
 * Publishing to one topic without a name, over one long stream: a call of its own per event costs the
 * server more than the event, and Node keeps every finished HTTP/2 stream until the next garbage
 * collection, which then halts the process for tens of milliseconds.
 *
 *   waiting ──opened, send──► sent ──answer──► settled
 *      ▲                        │
 *      └── DRAINING: the server answered all that it read, so the rest is not in the topic
 *
 * A1 Nothing is sent before `opened`: what still waits when a stream breaks is UNREACHABLE. What was sent
 *    and has no answer is OUTCOME_UNKNOWN (P7).
 * A2 A server that ends an opened stream by name has answered all before it: that error is the first
 *    call's that has no answer, and those behind it are sent again, in order.
 * A3 Calls that are made together travel together, each whole; a large one travels alone, so that a server
 *    that refuses it unread harms no other.
 * A4 An open stream keeps the process alive: one that is not used is closed within a second.
 */
import type { ServiceError } from "@grpc/grpc-js";
import type {
  NewEvent,
  PublishResult,
  PublishStreamResponse,
} from "../proto/gen/throughline/v1/throughline.ts";
import { lost, type ThroughlineError, toPublishError, toPublishStreamError } from "./errors.ts";
import { HEARTBEAT_MS, SILENCE_MS } from "./heartbeat.ts";
import { bytesOf, type Dialled } from "./named-publisher.ts";

export interface UnnamedPublisherOptions {
  readonly topic: string;
  /** After this long without an answer a call ends. */
  readonly timeoutMs: number;
  /** The server that the client is at. */
  readonly dial: () => Dialled;
  /** It was lost, or did not answer. */
  readonly leave: (address: string) => void;
  /** There is no stream and nothing waits: the next call may be another publisher's. */
  readonly onClosed: () => void;
}

/** Of the calls in one message; well below what servers refuse. */
const TOGETHER_BYTES = 32 << 10;
const TOGETHER_EVENTS = 1000;
const ALONE_BYTES = 256 << 10;
/** Not used for this long, or for twice as long. */
const IDLE_MS = 500;
/** Before a server is asked again that drains. */
const PAUSE_MS = 50;

interface Pending {
  readonly events: readonly NewEvent[];
  readonly bytes: number;
  readonly results: PublishResult[];
  readonly resolve: (results: PublishResult[]) => void;
  readonly reject: (error: ThroughlineError) => void;
  timer: NodeJS.Timeout | undefined;
  /** The caller has heard; the answer may still come. */
  timedOut: boolean;
}

type Call = ReturnType<Dialled["publishStream"]>;

interface Stream {
  readonly address: string;
  readonly call: Call;
  readonly silence: NodeJS.Timeout;
  readonly idle: NodeJS.Timeout;
}

type State =
  | { readonly kind: "closed" }
  | { readonly kind: "pausing"; readonly timer: NodeJS.Timeout }
  | { readonly kind: "opening"; readonly stream: Stream }
  | { readonly kind: "open"; readonly stream: Stream };

export class UnnamedPublisher {
  readonly #options: UnnamedPublisherOptions;
  #state: State = { kind: "closed" };
  /** Calls in order; the first `#sent` of them are on their way. */
  readonly #pending: Pending[] = [];
  #sent = 0;
  /** Of the next event of this stream. */
  #number = 1;
  #isUsed = false;
  #flushing = false;

  constructor(options: UnnamedPublisherOptions) {
    this.#options = options;
  }

  /** One result per event, in order. @throws ThroughlineError (A1, A2). */
  publish(events: readonly NewEvent[]): Promise<PublishResult[]> {
    return new Promise((resolve, reject) => {
      const bytes = events.reduce((sum, event) => sum + bytesOf(event), 0);
      const pending: Pending = {
        ...{ events: [...events], bytes, results: [], resolve, reject },
        ...{ timer: undefined, timedOut: false },
      };
      pending.timer = setTimeout(() => this.#timedOut(pending), this.#options.timeoutMs);
      this.#pending.push(pending);
      this.#isUsed = true;
      if (this.#state.kind === "closed") this.#open();
      else this.#flushSoon();
    });
  }

  close(): void {
    this.#release();
    this.#fail(lost("The client was closed."));
    this.#close();
  }

  #open(): void {
    const { dial, topic } = this.#options;
    const { address, publishStream } = dial();
    const call = publishStream();
    const stream: Stream = {
      ...{ address, call },
      silence: setTimeout(() => this.#broke(lost("The server is silent.")), SILENCE_MS),
      idle: setInterval(() => this.#closeIdle(), IDLE_MS),
    };
    this.#number = 1;
    this.#state = { kind: "opening", stream };
    const ours = (): boolean => this.#stream === stream;
    call.on("data", ({ kind }: PublishStreamResponse) => {
      if (!ours()) return;
      stream.silence.refresh();
      if (kind?.$case === "opened") this.#state = { kind: "open", stream };
      if (kind?.$case === "results") this.#answered(kind.value.results);
      this.#flush();
    });
    call.on("error", (error: ServiceError) => {
      if (ours()) this.#broke(error);
    });
    call.on("end", () => {
      if (ours()) this.#broke(lost("The stream ended."));
    });
    call.on("drain", () => this.#flush());
    const open = { topic, publisher: "", instance: "", heartbeatMs: HEARTBEAT_MS };
    call.write({ kind: { $case: "open", value: open } });
  }

  get #stream(): Stream | undefined {
    return this.#state.kind === "opening" || this.#state.kind === "open"
      ? this.#state.stream
      : undefined;
  }

  /** Calls of one turn of the event loop travel together. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#state.kind !== "open") return;
    const { call } = this.#state.stream;
    while (this.#sent < this.#pending.length && !call.writableNeedDrain && this.#mayTravel) {
      const events: NewEvent[] = [];
      const firstNumber = BigInt(this.#number);
      let bytes = 0;
      do {
        const next = this.#pending[this.#sent++] as Pending;
        for (const event of next.events) events.push(event);
        bytes += next.bytes;
      } while (this.#fits(bytes, events.length));
      this.#number += events.length;
      call.write({ kind: { $case: "events", value: { firstNumber, events } } });
    }
  }

  /** A3: whether the next call would be alone if it must be. */
  get #mayTravel(): boolean {
    const isLarge = (index: number): boolean =>
      (this.#pending[index] as Pending).bytes > ALONE_BYTES;
    return this.#sent === 0 || !(isLarge(this.#sent) || isLarge(this.#sent - 1));
  }

  #fits(bytes: number, events: number): boolean {
    const next = this.#pending[this.#sent];
    if (!next) return false;
    return bytes + next.bytes <= TOGETHER_BYTES && events + next.events.length <= TOGETHER_EVENTS;
  }

  #answered(results: readonly PublishResult[]): void {
    for (const result of results) {
      const first = this.#pending[0] as Pending;
      first.results.push(result);
      if (first.results.length < first.events.length) continue;
      clearTimeout(first.timer);
      first.resolve(first.results);
      this.#pending.shift();
      this.#sent--;
    }
  }

  #timedOut(pending: Pending): void {
    const index = this.#pending.indexOf(pending);
    const error = lost("No answer came in time.");
    if (index < this.#sent) {
      pending.timedOut = true;
      pending.reject(toPublishError(error));
    } else {
      this.#pending.splice(index, 1);
      pending.reject(toPublishStreamError(error));
    }
    if (this.#stream) this.#options.leave(this.#stream.address);
  }

  #broke(error: ServiceError): void {
    const wasOpen = this.#state.kind === "open";
    const address = this.#stream?.address as string;
    this.#release();
    this.#options.leave(address);
    const told = toPublishStreamError(error).error;
    if (told === "DRAINING") {
      this.#sendAgain();
    } else if (wasOpen && told !== "UNREACHABLE" && told !== "INTERNAL") {
      // A2
      this.#reject(toPublishStreamError(error));
      this.#sendAgain();
    } else this.#fail(error);
    if (this.#pending.length === 0) this.#close();
    else if (wasOpen) this.#open();
    else this.#pause();
  }

  /** What comes before the first answer is not in the topic; who has heard already is left out. */
  #sendAgain(): void {
    this.#sent = 0;
    const again = this.#pending.filter(({ timedOut }) => !timedOut);
    this.#pending.splice(0, this.#pending.length, ...again);
  }

  #fail(error: ServiceError): void {
    const sent = toPublishError(error);
    const waiting = toPublishStreamError(error);
    for (; this.#sent > 0; this.#sent--) this.#reject(sent);
    while (this.#pending.length > 0) this.#reject(waiting);
  }

  #reject(error: ThroughlineError): void {
    const first = this.#pending.shift();
    clearTimeout(first?.timer);
    first?.reject(error);
  }

  #pause(): void {
    const timer = setTimeout(() => {
      if (this.#pending.length > 0) this.#open();
      else this.#close();
    }, PAUSE_MS);
    this.#state = { kind: "pausing", timer };
  }

  #closeIdle(): void {
    if (this.#pending.length === 0 && !this.#isUsed) {
      this.#release();
      this.#close();
    }
    this.#isUsed = false;
  }

  /** What the state holds; nothing that the call still says is ours. */
  #release(): void {
    const stream = this.#stream;
    if (this.#state.kind === "pausing") clearTimeout(this.#state.timer);
    this.#state = { kind: "closed" };
    if (!stream) return;
    clearTimeout(stream.silence);
    clearInterval(stream.idle);
    stream.call.cancel();
  }

  #close(): void {
    this.#state = { kind: "closed" };
    this.#options.onClosed();
  }
}
