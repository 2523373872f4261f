/**
 * The TypeScript client: subscribes (subscribe.ts) with automatic resume on the same or another server, by
 * token or by a named session (session.ts), and publishes, without a name (unnamed-publisher.ts) or with one
 * (named-publisher.ts).
 */
import { randomUUID } from "node:crypto";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import {
  type NewEvent,
  type PublishResult,
  ThroughlineServiceClient,
} from "../proto/gen/throughline/v1/throughline.ts";
import { type Dialled, NamedPublisher, type NamedPublisherOptions } from "./named-publisher.ts";
import {
  type DeliveredEvent,
  type Delivery,
  type Servers,
  type SubscribeOptions,
  subscribe,
} from "./subscribe.ts";
import { UnnamedPublisher } from "./unnamed-publisher.ts";

export type { SessionOptions } from "./session.ts";
export type { DeliveredEvent, Delivery, Notice, SubscribeOptions } from "./subscribe.ts";

/** The default window of 64 KiB halves the rate. */
const FLOW_CONTROL_WINDOW_BYTES = 1 << 20;
const MAX_MESSAGE_BYTES = 64 << 20;
/**
 * A server that was lost is dialled again this soon, whether it is wanted or not: in a rolling restart it is
 * wanted the moment it is back, and gRPC has no way to be told so.
 */
const REDIAL_MS = { first: 100, most: 250 };
/** A server answers for each event within 30 s and one request to Kafka; one that does not is lost. */
const PUBLISH_TIMEOUT_MS = 45_000;

export interface ClientOptions {
  /** TLS to every server. `ca` in PEM; without it the authorities that Node trusts. */
  readonly tls?: { readonly ca?: string };
  /** After this long without an answer a publish ends with OUTCOME_UNKNOWN. */
  readonly publishTimeoutMs?: number;
}

export class ThroughlineClient {
  readonly #addresses: readonly string[];
  readonly #credentials: ChannelCredentials;
  readonly #publishTimeoutMs: number;
  readonly #stubs = new Map<string, ThroughlineServiceClient>();
  /** By topic, while they are in use. */
  readonly #publishers = new Map<string, UnnamedPublisher>();
  readonly #instance = randomUUID();
  readonly #servers: Servers;
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
    this.#servers = {
      current: () => {
        const address = this.#current();
        return { address, stub: this.#stub(address) };
      },
      leave: (address) => this.#leave(address),
    };
  }

  /**
   * Batches in order; ends with a ThroughlineError that cannot be retried, or by the signal. With a session
   * and `acks: "taken"` a batch is acknowledged when the next one is asked for.
   */
  subscribe(options: SubscribeOptions): AsyncGenerator<Delivery> {
    return subscribe(this.#servers, this.#instance, options);
  }

  /** The same, one event at a time, each with the token after it and its own `ack()`. */
  async *events(options: SubscribeOptions): AsyncGenerator<DeliveredEvent> {
    for await (const delivery of this.subscribe(options)) yield* delivery.each();
  }

  /**
   * One result per event, in order; calls to one topic keep their order without waiting for each other.
   * @throws ThroughlineError when the whole call failed: UNREACHABLE when nothing was sent,
   * OUTCOME_UNKNOWN when it may have been and no answer came (P7).
   */
  publish(topic: string, events: readonly NewEvent[]): Promise<PublishResult[]> {
    if (events.length === 0) return Promise.resolve([]);
    let publisher = this.#publishers.get(topic);
    if (!publisher) {
      publisher = new UnnamedPublisher({
        ...{ topic, timeoutMs: this.#publishTimeoutMs },
        dial: () => this.#dialled(this.#current()),
        leave: (address) => this.#leave(address),
        onClosed: () => this.#publishers.delete(topic),
      });
      this.#publishers.set(topic, publisher);
    }
    return publisher.publish(events);
  }

  /** A publisher whose events are in the topic exactly once, across reconnects and servers. */
  namedPublisher(options: NamedPublisherOptions): NamedPublisher {
    let turn = this.#turn;
    return new NamedPublisher(
      () => this.#dialled(this.#addresses[turn++ % this.#addresses.length] as string),
      options,
    );
  }

  close(): void {
    for (const publisher of this.#publishers.values()) publisher.close();
    for (const stub of this.#stubs.values()) stub.close();
    this.#stubs.clear();
  }

  #current(): string {
    return this.#addresses[this.#turn % this.#addresses.length] as string;
  }

  /** Goes on at the next server, which is dialled at once; a second call for the same loss does nothing. */
  #leave(address: string): void {
    if (this.#current() !== address) return;
    this.#turn++;
    this.#stub(this.#current()).getChannel().getConnectivityState(true);
  }

  #dialled(address: string): Dialled {
    return { address, publishStream: () => this.#stub(address).publishStream() };
  }

  #stub(address: string): ThroughlineServiceClient {
    const known = this.#stubs.get(address);
    if (known) return known;
    const made = new ThroughlineServiceClient(address, this.#credentials, {
      "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW_BYTES,
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.initial_reconnect_backoff_ms": REDIAL_MS.first,
      "grpc.max_reconnect_backoff_ms": REDIAL_MS.most,
    });
    this.#stubs.set(address, made);
    return made;
  }
}
