/**
 * A named publisher: events are numbered, sent ahead of their answers, and are in the topic exactly once,
 * also when the stream breaks and goes on at another server.
 *
 *   waiting ──send──► sent ──answer──► settled
 *      ▲                │
 *      └── not in the topic: the stream broke, or an event before it was refused ──┘
 *
 * C1 Numbers are given when events are sent, from the last number that is in the topic. An event that was
 *    sent keeps its place in the order; what is sent again has the number that it had.
 * C2 After a break, what the server's last number counts is there: it is settled, not sent again. That
 *    holds only while nobody else wrote under the name, which `instance` tells; otherwise the publisher
 *    ends, since it cannot know which of its events are there.
 * C3 An event that is refused for itself takes no number: those sent after it come back as NUMBER_JUMPED
 *    and are sent again, one number lower.
 * C4 A newer publisher of the name ends this one, unless the newer one may be a late open of our own on a
 *    server that we had given up.
 */
import { randomUUID } from "node:crypto";
import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import type {
  EventPosition,
  NewEvent,
  PublishResult,
  PublishStreamOpened,
  PublishStreamRequest,
  PublishStreamResponse,
} from "../proto/gen/throughline/v1/throughline.ts";
import { ThroughlineError, toPublishStreamError } from "./errors.ts";
import { HEARTBEAT_MS, SILENCE_MS } from "./heartbeat.ts";

export interface NamedPublisherOptions {
  readonly topic: string;
  /** One publisher at a time has it: give each process its own, and keep it over restarts. */
  readonly name: string;
  readonly signal?: AbortSignal;
  /** The stream broke and is opened again. */
  readonly onBreak?: (error: ThroughlineError, address: string) => void;
}

export type NumberedResult =
  /** Without a position where the answer was lost: it is in the topic, once. */
  | { readonly number: bigint; readonly position: EventPosition | undefined }
  /** It is not in the topic and took no number. */
  | { readonly error: ThroughlineError };

/** The server to try next, and how to call it. */
export interface Dialled {
  readonly address: string;
  publishStream(): ClientDuplexStream<PublishStreamRequest, PublishStreamResponse>;
}

/** Of one message; an event that is larger goes alone. */
const MESSAGE_BYTES = 256 << 10;
const MESSAGE_EVENTS = 1000;
/** Sent and not answered. */
const WINDOW_BYTES = 2 << 20;
const EVENT_OVERHEAD_BYTES = 32;
const MAX_BACKOFF_MS = 2000;
/** How long a server that we gave up may still open for us. */
const LATE_OPEN_MS = 60_000;

interface Pending {
  readonly event: NewEvent;
  readonly bytes: number;
  readonly settle: (result: NumberedResult) => void;
  readonly reject: (error: ThroughlineError) => void;
}

type Call = ReturnType<Dialled["publishStream"]>;

type State =
  | { readonly kind: "opening"; readonly call: Call }
  | { readonly kind: "open"; readonly call: Call }
  | { readonly kind: "broken" }
  | { readonly kind: "ended"; readonly why: ThroughlineError };

export class NamedPublisher {
  readonly #options: NamedPublisherOptions;
  readonly #dial: () => Dialled;
  readonly #instance = randomUUID();
  #state: State = { kind: "broken" };
  /** Events in order; the first `#sent` of them are on their way, with numbers from `#last` + 1. */
  readonly #pending: Pending[] = [];
  #sent = 0;
  #sentBytes = 0;
  /** The last number known to be in the topic. */
  #last = 0n;
  #everOpened = false;
  /** An event was refused: the ones sent after it come back first. */
  #comingBack = false;
  #failures = 0;
  #gaveUpMs = Number.NEGATIVE_INFINITY;
  #silence: NodeJS.Timeout | undefined;
  #opened: ((last: bigint) => void)[] = [];
  #unopened: ((error: ThroughlineError) => void)[] = [];
  #flushing = false;
  readonly #abort = (): void => this.close();

  constructor(dial: () => Dialled, options: NamedPublisherOptions) {
    this.#dial = dial;
    this.#options = options;
    options.signal?.addEventListener("abort", this.#abort, { once: true });
    if (options.signal?.aborted) this.close();
    else this.#open();
  }

  /**
   * The last number that is in the topic: an app that knows its events by number, in a file or a table,
   * goes on after it. Waits for the first opening.
   */
  lastNumber(): Promise<bigint> {
    if (this.#state.kind === "ended") return Promise.reject(this.#state.why);
    if (this.#everOpened) return Promise.resolve(this.#last);
    return new Promise((resolve, reject) => {
      this.#opened.push(resolve);
      this.#unopened.push(reject);
    });
  }

  /**
   * One result per event, in order, however often the stream breaks meanwhile. @throws ThroughlineError
   * when the publisher ended: what became of the events is not known here.
   */
  publish(events: readonly NewEvent[]): Promise<NumberedResult[]> {
    if (this.#state.kind === "ended") return Promise.reject(this.#state.why);
    const results = events.map(
      (event) =>
        new Promise<NumberedResult>((settle, reject) => {
          this.#pending.push({ event, bytes: bytesOf(event), settle, reject });
        }),
    );
    this.#flushSoon();
    return Promise.all(results);
  }

  /** Ends the stream; events without an answer end with CLOSED. */
  close(): void {
    this.#end(ended("CLOSED", "The publisher was closed.", "Open a new one to publish more."));
  }

  #open(): void {
    const { topic, name } = this.#options;
    const { address, publishStream } = this.#dial();
    const call = publishStream();
    this.#state = { kind: "opening", call };
    this.#silence = setTimeout(() => {
      this.#broke(ended("UNREACHABLE", "The server is silent.", "", true), address);
    }, SILENCE_MS);
    const ours = (): boolean =>
      (this.#state.kind === "opening" || this.#state.kind === "open") && this.#state.call === call;
    call.on("data", ({ kind }: PublishStreamResponse) => {
      if (!ours()) return;
      this.#silence?.refresh();
      switch (kind?.$case) {
        case "opened":
          return this.#resume(call, kind.value);
        case "results":
          return this.#answered(kind.value.results);
        case "alreadyThere":
          return this.#alreadyThere(Number(kind.value.count));
      }
    });
    call.on("error", (error: ServiceError) => {
      if (ours()) this.#broke(toPublishStreamError(error), address);
    });
    call.on("end", () => {
      if (ours()) this.#broke(ended("UNREACHABLE", "The stream ended.", "", true), address);
    });
    const open = { topic, publisher: name, instance: this.#instance, heartbeatMs: HEARTBEAT_MS };
    call.write({ kind: { $case: "open", value: open } });
    call.on("drain", () => this.#flush());
  }

  /** C2: what is there is settled; the rest is sent, again or for the first time. */
  #resume(call: Call, { lastNumber, lastInstance }: PublishStreamOpened): void {
    const sentTo = this.#last + BigInt(this.#sent);
    const known = lastNumber === this.#last || lastInstance === this.#instance;
    if (this.#everOpened && (!known || lastNumber < this.#last || lastNumber > sentTo)) {
      this.#end(
        lastNumber < this.#last
          ? ended(
              "TOPIC_NOT_FOUND",
              `The topic's last number is ${lastNumber} and was ${this.#last}: it was made anew.`,
              "What was published before is gone; open a new publisher to begin again.",
            )
          : ended(
              "PUBLISHER_SUPERSEDED",
              `Another publisher wrote number ${lastNumber} under this name.`,
              "Give each publisher a name of its own; look in the topic for what is there.",
            ),
      );
      return;
    }
    if (this.#everOpened) this.#alreadyThere(Number(lastNumber - this.#last));
    this.#last = lastNumber;
    this.#everOpened = true;
    this.#failures = 0;
    this.#sent = 0;
    this.#sentBytes = 0;
    this.#comingBack = false;
    this.#state = { kind: "open", call };
    for (const resolve of this.#opened.splice(0)) resolve(lastNumber);
    this.#unopened = [];
    this.#flush();
  }

  #answered(results: readonly PublishResult[]): void {
    for (const { result } of results) {
      if (result?.$case === "position") this.#settleFirst(result.value);
      else if (result?.$case === "error" && result.value.name !== "NUMBER_JUMPED") {
        // C3
        this.#comingBack = true;
        this.#take().settle({ error: new ThroughlineError(result.value) });
      } else {
        // It stays where it is, the first that waits: nothing is sent until all of them are back.
        this.#comingBack = true;
        this.#sent--;
      }
    }
    if (this.#sent === 0) {
      this.#comingBack = false;
      this.#sentBytes = 0;
    }
    this.#flush();
  }

  #alreadyThere(count: number): void {
    for (let i = 0; i < count && this.#sent > 0; i++) this.#settleFirst(undefined);
    this.#flush();
  }

  #settleFirst(position: EventPosition | undefined): void {
    this.#last++;
    this.#take().settle({ number: this.#last, position });
  }

  #take(): Pending {
    const first = this.#pending.shift() as Pending;
    this.#sent--;
    this.#sentBytes -= first.bytes;
    return first;
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
    if (this.#state.kind !== "open" || this.#comingBack) return;
    const { call } = this.#state;
    while (this.#sent < this.#pending.length && this.#sentBytes < WINDOW_BYTES) {
      if (call.writableNeedDrain) return;
      const events: NewEvent[] = [];
      const firstNumber = this.#last + BigInt(this.#sent) + 1n;
      let bytes = 0;
      for (let i = this.#sent; i < this.#pending.length && events.length < MESSAGE_EVENTS; i++) {
        const next = this.#pending[i] as Pending;
        if (events.length > 0 && bytes + next.bytes > MESSAGE_BYTES) break;
        events.push(next.event);
        bytes += next.bytes;
      }
      this.#sent += events.length;
      this.#sentBytes += bytes;
      call.write({ kind: { $case: "events", value: { firstNumber, events } } });
    }
  }

  #broke(error: ThroughlineError, address: string): void {
    clearTimeout(this.#silence);
    if (this.#state.kind === "ended" || this.#state.kind === "broken") return;
    this.#state.call.cancel();
    const late = performance.now() - this.#gaveUpMs < LATE_OPEN_MS;
    const byUs = error.error === "PUBLISHER_SUPERSEDED" && late;
    if (!error.retryable && !byUs) {
      this.#end(error);
      return;
    }
    // C4: once for each server that was given up.
    this.#gaveUpMs = error.error === "UNREACHABLE" ? performance.now() : Number.NEGATIVE_INFINITY;
    this.#state = { kind: "broken" };
    this.#options.onBreak?.(error, address);
    const pauseMs =
      this.#failures++ === 0 ? 0 : Math.min(MAX_BACKOFF_MS, 20 * 2 ** Math.min(this.#failures, 8));
    setTimeout(
      () => {
        if (this.#state.kind === "broken") this.#open();
      },
      pauseMs * (0.5 + Math.random()),
    );
  }

  #end(why: ThroughlineError): void {
    if (this.#state.kind === "ended") return;
    clearTimeout(this.#silence);
    this.#options.signal?.removeEventListener("abort", this.#abort);
    if (this.#state.kind !== "broken") this.#state.call.cancel();
    this.#state = { kind: "ended", why };
    for (const { reject } of this.#pending.splice(0)) reject(why);
    for (const reject of this.#unopened.splice(0)) reject(why);
    this.#opened = [];
    this.#sent = 0;
  }
}

export function bytesOf({ key, payload, headers, type }: NewEvent): number {
  let bytes = EVENT_OVERHEAD_BYTES + (key?.length ?? 0) + (payload?.length ?? 0) + type.length;
  for (const header of headers) bytes += header.key.length + header.value.length;
  return bytes;
}

function ended(name: string, message: string, advice: string, retryable = false): ThroughlineError {
  return new ThroughlineError({
    ...{ name, message, retryable, advice, token: Buffer.alloc(0), loss: 0, earliest: [] },
  });
}
