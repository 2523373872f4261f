/**
 * The TypeScript client: subscribes with automatic resume on the same or another server, publishes.
 *
 * A stream that breaks goes on with the token of the last batch that the app has taken, so that nothing
 * is missing and nothing repeats (P2, P3, P4). A server that says Moving is left at once, for another if
 * there is one: a drain need not wait for its deadline.
 */
import {
  type ChannelCredentials,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import {
  type Batch,
  type Filter,
  type NewEvent,
  type PublishResult,
  type Recovery,
  type Start,
  type SubscribeRequest,
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../proto/gen/throughline/v1/throughline.ts";
import { ThroughlineError, toPublishError, toThroughlineError } from "./errors.ts";
import { NamedPublisher, type NamedPublisherOptions } from "./named-publisher.ts";

/** The default window of 64 KiB halves the rate. */
const FLOW_CONTROL_WINDOW_BYTES = 1 << 20;
const MAX_MESSAGE_BYTES = 64 << 20;
const DEFAULT_CREDIT_EVENTS = 10_000;
const MAX_BACKOFF_MS = 2000;
/** Without a frame or heartbeat for this long the server is taken for lost. */
const SILENCE_MS = 5000;
const HEARTBEAT_MS = 1000;

/** A server answers for each event within 30 s and one request to Kafka; one that does not is lost. */
const PUBLISH_TIMEOUT_MS = 45_000;

export type Notice = Exclude<
  NonNullable<SubscribeResponse["kind"]>,
  { $case: "batch" } | { $case: "heartbeat" }
>;

export interface ClientOptions {
  /** TLS to every server. `ca` in PEM; without it the authorities that Node trusts. */
  readonly tls?: { readonly ca?: string };
  /** After this long without an answer a publish ends with OUTCOME_UNKNOWN. */
  readonly publishTimeoutMs?: number;
}

export interface SubscribeOptions {
  readonly topic: string;
  /** Default: latest. */
  readonly start?: NonNullable<Start["at"]>;
  readonly filter?: Filter;
  /** Events the server may send ahead of the app. */
  readonly creditEvents?: number;
  readonly recovery?: Recovery;
  readonly signal?: AbortSignal;
  /** Opened, Moving, Restarted, … */
  readonly onNotice?: (notice: Notice, address: string) => void;
  /** The stream broke and is opened again. */
  readonly onBreak?: (error: ThroughlineError, address: string) => void;
}

type Call = ClientDuplexStream<SubscribeRequest, SubscribeResponse>;

export class ThroughlineClient {
  readonly #addresses: readonly string[];
  readonly #credentials: ChannelCredentials;
  readonly #publishTimeoutMs: number;
  readonly #stubs = new Map<string, ThroughlineServiceClient>();
  #turn = 0;

  /**
   * @param addresses host:port, or unix:<path>, of servers of one deployment; any of them continues any
   * stream.
   */
  constructor(addresses: readonly string[], options: ClientOptions = {}) {
    const { tls, publishTimeoutMs = PUBLISH_TIMEOUT_MS } = options;
    this.#addresses = addresses;
    this.#credentials = tls
      ? credentials.createSsl(tls.ca === undefined ? null : Buffer.from(tls.ca))
      : credentials.createInsecure();
    this.#publishTimeoutMs = publishTimeoutMs;
  }

  /** Batches in order; ends with a ThroughlineError that cannot be retried, or by the signal. */
  async *subscribe(options: SubscribeOptions): AsyncGenerator<Batch> {
    let start: Start = { at: options.start ?? { $case: "latest", value: {} } };
    let failures = 0;
    while (!options.signal?.aborted) {
      const address = this.#addresses[this.#turn % this.#addresses.length] as string;
      try {
        for await (const response of this.#open(address, start, options)) {
          const { kind } = response;
          if (kind?.$case === "batch") {
            failures = 0;
            yield kind.value;
          } else if (kind && kind.$case !== "heartbeat") options.onNotice?.(kind, address);
          const token = tokenOf(response);
          if (token) start = { at: { $case: "token", value: { token, after: [] } } };
          if (kind?.$case === "moving") break;
        }
        if (options.signal?.aborted) return;
      } catch (thrown) {
        if (options.signal?.aborted) return;
        const error = thrown as ThroughlineError;
        if (!error.retryable) throw error;
        options.onBreak?.(error, address);
      }
      this.#turn++;
      // The first try elsewhere is at once; a herd that lost one server spreads out after that.
      if (failures++ > 0)
        await pause(Math.min(MAX_BACKOFF_MS, 20 * 2 ** failures) * (0.5 + Math.random()));
    }
  }

  /**
   * One result per event, in order. @throws ThroughlineError when the whole call failed: UNREACHABLE when
   * nothing was sent, OUTCOME_UNKNOWN when it may have been and no answer came (P7).
   */
  publish(topic: string, events: readonly NewEvent[]): Promise<PublishResult[]> {
    const address = this.#addresses[this.#turn % this.#addresses.length] as string;
    const request = { topic, events: [...events] };
    const deadline = Date.now() + this.#publishTimeoutMs;
    return new Promise((resolve, reject) => {
      this.#stub(address).publish(request, new Metadata(), { deadline }, (error, response) => {
        if (error) {
          this.#turn++;
          reject(toPublishError(error));
        } else resolve(response.results);
      });
    });
  }

  /** A publisher whose events are in the topic exactly once, across reconnects and servers. */
  namedPublisher(options: NamedPublisherOptions): NamedPublisher {
    let turn = this.#turn;
    return new NamedPublisher(() => {
      const address = this.#addresses[turn++ % this.#addresses.length] as string;
      return { address, publishStream: () => this.#stub(address).publishStream() };
    }, options);
  }

  close(): void {
    for (const stub of this.#stubs.values()) stub.close();
    this.#stubs.clear();
  }

  async *#open(
    address: string,
    start: Start,
    options: SubscribeOptions,
  ): AsyncGenerator<SubscribeResponse> {
    const call: Call = this.#stub(address).subscribe();
    const abort = (): void => call.cancel();
    options.signal?.addEventListener("abort", abort, { once: true });
    const credit = options.creditEvents ?? DEFAULT_CREDIT_EVENTS;
    let silence = setTimeout(abort, SILENCE_MS);
    let taken = 0;
    call.write({
      kind: {
        $case: "open",
        value: {
          topic: options.topic,
          start,
          filter: options.filter,
          credit: { events: BigInt(credit), bytes: 0n },
          recovery: options.recovery ?? 0,
          session: undefined,
          maxFrameBytes: 0,
          heartbeatMs: HEARTBEAT_MS,
        },
      },
    });
    try {
      for await (const response of call as AsyncIterable<SubscribeResponse>) {
        clearTimeout(silence);
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
      call.cancel();
    }
  }

  #stub(address: string): ThroughlineServiceClient {
    const known = this.#stubs.get(address);
    if (known) return known;
    const made = new ThroughlineServiceClient(address, this.#credentials, {
      "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW_BYTES,
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1000,
    });
    this.#stubs.set(address, made);
    return made;
  }
}

/** The newest position that a response carries. */
function tokenOf({ kind }: SubscribeResponse): Buffer | undefined {
  switch (kind?.$case) {
    case "opened":
    case "batch":
    case "heartbeat":
    case "restarted":
    case "moving":
      return kind.value.token;
    default:
      return undefined;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
