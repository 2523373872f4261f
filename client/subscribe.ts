/**
 * Subscribing: one stream after the other, on the same or another server, and what each delivers.
 *
 * A stream that breaks goes on with the token of the last batch that the app has taken, so that nothing
 * is missing and nothing repeats (P2, P3, P4); with a session it goes on by name, and by the position last
 * saved while the session store is down. A server that says Moving is left at once, for another if there
 * is one: a drain need not wait for its deadline.
 */
import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import type {
  Batch,
  Event,
  Filter,
  Recovery,
  Start,
  SubscribeRequest,
  SubscribeResponse,
  ThroughlineServiceClient,
  TokenStart,
} from "../proto/gen/throughline/v1/throughline.ts";
import { DenseSequence } from "./dense-sequence.ts";
import { ThroughlineError, toThroughlineError } from "./errors.ts";
import { HEARTBEAT_MS, SILENCE_MS } from "./heartbeat.ts";
import { ClientSession, type SessionOptions } from "./session.ts";

const DEFAULT_CREDIT_EVENTS = 10_000;
const MAX_BACKOFF_MS = 2000;
/** How long a stream with a session waits until its server has saved it. */
const LEAVE_MS = 1000;

export type Notice = Exclude<
  NonNullable<SubscribeResponse["kind"]>,
  { $case: "batch" } | { $case: "heartbeat" }
>;

export interface SubscribeOptions {
  readonly topic: string;
  /** Default: latest. With a session it is used only while nothing is stored, except a token. */
  readonly start?: NonNullable<Start["at"]>;
  readonly filter?: Filter;
  /** The position is kept by this name in the session store. */
  readonly session?: SessionOptions;
  /**
   * Events the server may send ahead of the app; 10,000 by default. Notices come behind what was sent before them:
   * an app that is slow with its events, and has to hear of Moving within its pod's grace, takes few ahead.
   */
  readonly creditEvents?: number;
  readonly recovery?: Recovery;
  /** Ends with SEQUENCE_GAP where order values of a Commit topic are not dense (P8). Default: true, without a filter. */
  readonly requireDense?: boolean;
  readonly signal?: AbortSignal;
  /** Opened, Moving, Restarted, … */
  readonly onNotice?: (notice: Notice, address: string) => void;
  /** The stream broke and is opened again. */
  readonly onBreak?: (error: ThroughlineError, address: string) => void;
}

/** The servers of a client, one after the other. */
export interface Servers {
  current(): { readonly address: string; readonly stub: ThroughlineServiceClient };
  /** Another than this one from now on, if there is one. */
  leave(address: string): void;
}

/** An event, and where a stream goes on after it. */
export interface DeliveredEvent extends Event {
  readonly partition: number;
  readonly maybeRedelivered: boolean;
  /** A start: exactly what comes after this event follows. */
  readonly token: TokenStart;
  /** Moves the session past it, and past everything before it in its partition. */
  ack(): void;
}

/** Events of one partition in log order, and the token after them. */
export class Delivery implements Batch {
  readonly events: Event[];
  readonly partition: number;
  readonly maybeRedelivered: boolean;
  readonly token: Buffer;
  readonly #before: Buffer;
  readonly #session: ClientSession | undefined;

  constructor(batch: Batch, events: Event[], before: Buffer, session: ClientSession | undefined) {
    this.events = events;
    this.partition = batch.partition;
    this.maybeRedelivered = batch.maybeRedelivered;
    this.token = batch.token;
    this.#before = before;
    this.#session = session;
  }

  /** Moves the session past these events; without a session it does nothing. */
  ack(): void {
    const last = this.events.at(-1);
    if (last) this.#session?.ack(this.partition, Number(last.offset));
  }

  *each(): Generator<DeliveredEvent> {
    const { partition, maybeRedelivered, events } = this;
    for (const [i, event] of events.entries()) {
      const { offset } = event;
      const token =
        i === events.length - 1
          ? { token: this.token, after: [] }
          : { token: this.#before, after: [{ partition, offset }] };
      const ack = (): void => this.#session?.ack(partition, Number(offset));
      yield { ...event, partition, maybeRedelivered, token, ack };
    }
  }
}

/** @param instance of this process, random. */
export async function* subscribe(
  servers: Servers,
  instance: string,
  options: SubscribeOptions,
): AsyncGenerator<Delivery> {
  const session = options.session && new ClientSession(options.session, instance);
  const given: Start = { at: options.start ?? { $case: "latest", value: {} } };
  const dense = (options.requireDense ?? !options.filter) ? new DenseSequence() : undefined;
  let seeks = 0n;
  let token: Buffer | undefined;
  let storeIsDown = false;
  let failures = 0;
  // A member of a shared session cannot go on without the store.
  const mayDetach = (): boolean => session?.isShared === false && session.savedToken.length > 0;
  const start = (): Start => {
    if (!session) return token ? from(token) : given;
    if (storeIsDown && mayDetach()) return from(session.savedToken);
    // The stored position it is, also where the first start was a token: that has moved the session. Where
    // the store has lost it, it is what the session knows of it; where it was forgotten, as it first began.
    const isMoved = token !== undefined && given.at?.$case === "token";
    return isMoved ? { at: { $case: "latest", value: {} } } : given;
  };
  while (!options.signal?.aborted) {
    const { address, stub } = servers.current();
    try {
      for await (const response of open(stub, start(), options, session)) {
        const { kind } = response;
        if (kind?.$case === "opened") storeIsDown = false;
        session?.heard(response);
        // What comes after these need not follow what came before; a session may have been sought meanwhile.
        const sought = kind?.$case === "opened" ? (kind.value.session?.seeks ?? seeks) : seeks;
        if (sought !== seeks || UNRELATED.has(kind?.$case ?? "")) dense?.restart();
        seeks = sought;
        const before = token ?? Buffer.alloc(0);
        if (kind?.$case === "batch") {
          failures = 0;
          const events = session ? session.fresh(kind.value) : kind.value.events;
          dense?.check(events);
          if (events.length > 0) {
            const delivery = new Delivery(kind.value, events, before, session);
            yield delivery;
            if (session && !session.explicit) delivery.ack();
          }
        } else if (kind && kind.$case !== "heartbeat") options.onNotice?.(kind, address);
        token = tokenOf(response) ?? token;
        if (kind?.$case === "moving") {
          // The next one is dialled while this one saves the session.
          servers.leave(address);
          break;
        }
      }
      if (options.signal?.aborted) return;
    } catch (thrown) {
      if (options.signal?.aborted) return;
      const error = thrown as ThroughlineError;
      if (!error.retryable) throw error;
      options.onBreak?.(error, address);
      if (error.error === "SESSION_STORE_UNAVAILABLE" && !storeIsDown) {
        storeIsDown = true;
        if (mayDetach()) continue;
      }
    }
    servers.leave(address);
    // The first try elsewhere is at once; a herd that lost one server spreads out after that.
    if (failures++ > 0)
      await pause(Math.min(MAX_BACKOFF_MS, 20 * 2 ** failures) * (0.5 + Math.random()));
  }
}

async function* open(
  stub: ThroughlineServiceClient,
  start: Start,
  options: SubscribeOptions,
  session: ClientSession | undefined,
): AsyncGenerator<SubscribeResponse> {
  const call: ClientDuplexStream<SubscribeRequest, SubscribeResponse> = stub.subscribe();
  // Read from the iterator; what comes after it is the end of a call that is left.
  call.on("error", () => {});
  const abort = (): void => call.cancel();
  options.signal?.addEventListener("abort", abort, { once: true });
  const credit = options.creditEvents ?? DEFAULT_CREDIT_EVENTS;
  let silence = setTimeout(abort, SILENCE_MS);
  let taken = 0;
  let isMoving = false;
  call.write({
    kind: {
      $case: "open",
      value: {
        topic: options.topic,
        start,
        filter: options.filter,
        credit: { events: BigInt(credit), bytes: 0n },
        recovery: options.recovery ?? 0,
        session: session?.open((value) => call.write({ kind: { $case: "ack", value } })),
        maxFrameBytes: 0,
        heartbeatMs: HEARTBEAT_MS,
      },
    },
  });
  try {
    // Who stops reading has still to leave: that must not destroy the call.
    const responses = call.iterator({ destroyOnReturn: false });
    for await (const response of responses as AsyncIterable<SubscribeResponse>) {
      clearTimeout(silence);
      isMoving = response.kind?.$case === "moving";
      yield response;
      silence = setTimeout(abort, SILENCE_MS);
      if (response.kind?.$case !== "batch") continue;
      taken += response.kind.value.events.length;
      if (taken < credit / 4) continue;
      call.write({ kind: { $case: "credit", value: { events: BigInt(taken), bytes: 0n } } });
      taken = 0;
    }
  } catch (error) {
    throw error instanceof ThroughlineError ? error : toThroughlineError(error as ServiceError);
  } finally {
    clearTimeout(silence);
    options.signal?.removeEventListener("abort", abort);
    // A member that only moves to another server keeps its partitions by not leaving.
    const stays = isMoving && session?.isShared;
    if (session?.isSettled && !stays && !options.signal?.aborted) await left(call);
    session?.close();
    call.cancel();
  }
}

/** Leaves in order: the server saves the session, and ends the call. */
function left(call: ClientDuplexStream<SubscribeRequest, SubscribeResponse>): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(resolve, LEAVE_MS);
    call.once("close", () => {
      clearTimeout(late);
      resolve();
    });
    call.resume();
    call.write({ kind: { $case: "leave", value: {} } });
    call.end();
  });
}

function from(token: Buffer): Start {
  return { at: { $case: "token", value: { token, after: [] } } };
}

const UNRELATED: ReadonlySet<string> = new Set(["restarted", "repositioned", "assigned"]);

/** The newest position that a response carries. */
function tokenOf({ kind }: SubscribeResponse): Buffer | undefined {
  switch (kind?.$case) {
    case "opened":
    case "batch":
    case "heartbeat":
    case "restarted":
    case "repositioned":
    case "moving":
      return kind.value.token;
    default:
      return undefined;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
