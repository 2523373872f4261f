/**
 * A connection for fetches alone: one request at a time, its response received where it will be read.
 * (Through the client library's connection each response is joined from pieces of 64 KiB; that cost more
 * than all else together.)
 *
 * Connecting, TLS and signing in are the library's and Node's own: SASL runs over `send`, the one method
 * that the library's requests ask of a connection.
 */
import { connect as connectPlain, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import {
  type Connection,
  Reader,
  type SASLOptions,
  saslAuthenticateV2,
  saslHandshakeV1,
  saslOAuthBearer,
  saslPlain,
  saslScramSha,
  Writer,
} from "@platformatic/kafka";
import { type Broker, CONNECT_TIMEOUT_MS, type KafkaOptions } from "./cluster.ts";
import { decodeFetch, encodeFetch, type FetchRequest, type RawFetched } from "./fetch.ts";
import type { ReceiveBuffers } from "./receive-buffers.ts";

/** A longer answer is not Kafka's: a record batch ends at message.max.bytes. */
const MAX_RESPONSE_BYTES = 256 << 20;

interface Pending {
  readonly resolve: (response: Buffer) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export interface Received extends RawFetched {
  /** The records are read: their memory may be used again. */
  release(): void;
}

export class FetchConnection {
  readonly #clientId: string;
  readonly #buffers: ReceiveBuffers;
  #socket: Socket | undefined;
  #pending: Pending | undefined;
  #correlationId = 0;
  readonly #head = Buffer.alloc(4);
  #headBytes = 0;
  /** Where the response goes once its length is known. */
  #target: Buffer | undefined;
  #have = 0;
  #need = 0;
  #expiresMs = Number.POSITIVE_INFINITY;
  #ended: Error | undefined;

  private constructor(clientId: string, buffers: ReceiveBuffers) {
    this.#clientId = clientId;
    this.#buffers = buffers;
  }

  /** Rejects when the broker cannot be reached, or does not let us in. */
  static async open(
    options: KafkaOptions,
    broker: Broker,
    buffers: ReceiveBuffers,
  ): Promise<FetchConnection> {
    const connection = new FetchConnection(options.clientId, buffers);
    try {
      await connection.#connect(options, broker);
      if (options.sasl) await connection.#signIn(options.sasl);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** False when it is closed, or about to be closed by the broker for the age of its sign-in. */
  get usable(): boolean {
    return this.#ended === undefined && performance.now() < this.#expiresMs;
  }

  /** Rejects when the connection breaks, or no answer comes in time: it is closed then. */
  async fetch(asked: FetchRequest, timeoutMs: number): Promise<Received> {
    const id = this.#nextCorrelationId();
    const response = await this.#exchange(encodeFetch(id, this.#clientId, asked), timeoutMs);
    try {
      return { ...decodeFetch(response), release: () => this.#buffers.give(response) };
    } catch (error) {
      this.#end(error as Error);
      throw error;
    }
  }

  close(): void {
    this.#end(new Error("the connection is closed"));
  }

  async #connect(options: KafkaOptions, { host, port }: Broker): Promise<void> {
    const onread = {
      buffer: () => this.#room(),
      callback: (bytes: number) => {
        this.#received(bytes);
        return true;
      },
    };
    const socket = options.tls
      ? connectTls({ host, port, ...serverName(host), ...options.tls, onread } as object)
      : connectPlain({ host, port, onread });
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.#end(new Error(`${host}:${port} closed the connection`)));
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => {
        this.#end(new Error(`${host}:${port} does not answer`));
      }, CONNECT_TIMEOUT_MS);
      const settle = (): void => {
        clearTimeout(late);
        if (this.#ended) reject(this.#ended);
        else resolve();
      };
      socket.once(options.tls ? "secureConnect" : "connect", settle);
      socket.once("close", settle);
    });
  }

  async #signIn(sasl: SASLOptions): Promise<void> {
    const { mechanism, username = "", password = "", token = "" } = sasl;
    const over = this as unknown as Connection;
    const api = saslAuthenticateV2.api;
    await saslHandshakeV1.api.async(over, mechanism);
    const answer =
      mechanism === "PLAIN"
        ? await saslPlain.authenticate(api, over, username, password)
        : mechanism === "OAUTHBEARER"
          ? await saslOAuthBearer.authenticate(api, over, token, sasl.oauthBearerExtensions ?? {})
          : await saslScramSha.authenticate(
              api,
              over,
              mechanism === "SCRAM-SHA-512" ? "SHA-512" : "SHA-256",
              username,
              password,
            );
    // Signing in again on the same connection is not worth its states: the reader connects anew.
    const lifetimeMs = Number(answer.sessionLifetimeMs);
    if (lifetimeMs > 0) this.#expiresMs = performance.now() + lifetimeMs * 0.8;
  }

  /** What the library's requests ask of a connection. */
  send<T>(
    key: number,
    version: number,
    body: () => Writer,
    parse: (correlationId: number, key: number, version: number, reader: Reader) => T,
    requestTags: boolean,
    responseTags: boolean,
    done: (error: Error | null, answer?: T) => void,
  ): void {
    const id = this.#nextCorrelationId();
    const writer = Writer.create().appendInt16(key).appendInt16(version).appendInt32(id);
    writer.appendString(this.#clientId, false);
    if (requestTags) writer.appendTaggedFields();
    const bytes = writer.appendFrom(body()).prependLength().buffer;
    this.#exchange(bytes, CONNECT_TIMEOUT_MS)
      .then((response) => {
        const reader = Reader.from(response);
        reader.skip(4);
        if (responseTags) reader.readTaggedFields();
        return parse(id, key, version, reader);
      })
      .then(
        (answer) => done(null, answer),
        (error) => done(error),
      );
  }

  #nextCorrelationId(): number {
    this.#correlationId = (this.#correlationId + 1) & 0x7fffffff;
    return this.#correlationId;
  }

  #exchange(request: Buffer, timeoutMs: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#ended || !this.#socket) {
        reject(this.#ended ?? new Error("not connected"));
        return;
      }
      if (this.#pending) throw new Error("one request at a time");
      const late = (): void => this.#end(new Error("the broker does not answer in time"));
      this.#pending = { resolve, reject, timer: setTimeout(late, timeoutMs) };
      this.#socket.write(request);
    });
  }

  /** Where the next bytes go: until the length is known, into the scratch that all share. */
  #room(): Buffer {
    if (this.#target === undefined) return this.#buffers.scratch;
    return this.#target.subarray(this.#have, this.#need);
  }

  #received(bytes: number): void {
    if (this.#target !== undefined) {
      this.#have += bytes;
    } else {
      let at = 0;
      const { scratch } = this.#buffers;
      while (this.#headBytes < 4 && at < bytes) this.#head[this.#headBytes++] = scratch[at++] ?? 0;
      if (this.#headBytes < 4) return;
      this.#need = this.#head.readInt32BE(0);
      if (this.#need < 4 || this.#need > MAX_RESPONSE_BYTES || bytes - at > this.#need) {
        this.#end(new Error(`an answer of ${this.#need} bytes is not Kafka's`));
        return;
      }
      this.#target = this.#buffers.take(this.#need);
      this.#have = scratch.copy(this.#target, 0, at, bytes);
    }
    if (this.#have === this.#need) this.#complete(this.#target);
  }

  #complete(target: Buffer): void {
    const pending = this.#pending;
    const response = target.subarray(0, this.#need);
    this.#pending = undefined;
    this.#target = undefined;
    this.#headBytes = 0;
    if (!pending || response.readInt32BE(0) !== this.#correlationId) {
      pending?.reject(new Error("an answer that nobody asked for"));
      this.#end(new Error("an answer that nobody asked for"));
      return;
    }
    clearTimeout(pending.timer);
    pending.resolve(response);
  }

  #end(why: Error): void {
    if (this.#ended) return;
    this.#ended = why;
    this.#target = undefined;
    this.#socket?.destroy();
    const pending = this.#pending;
    this.#pending = undefined;
    clearTimeout(pending?.timer);
    pending?.reject(why);
  }
}

/** A name to be served by; an address is none (RFC 6066). */
function serverName(host: string): { servername?: string } {
  return isIP(host) ? {} : { servername: host };
}
