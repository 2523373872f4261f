/**
 * The stream of logical decoding: its socket, taken over from the driver once it has connected, since the
 * driver's own parser would make several objects of each row.
 *
 * - R1 What is confirmed is what the caller says is durable, never what was merely received; keepalives are
 *   answered with the same. Confirmations go out by time, not one by one: a walsender that is never held
 *   back sends in small pieces, which costs both sides double.
 * - R2 While paused nothing is read, and status still goes out, so that PostgreSQL does not give us up.
 *
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import type { Client } from "pg";
import { WireFrames } from "./wire-frames.ts";

const CONFIRM_EVERY_MS = 100;
const STATUS_EVERY_MS = 1000;

const COPY_DATA = 0x64;
const ERROR = 0x45;
const WAL = 0x77;
const KEEPALIVE = 0x6b;

export interface ReplicationEvents {
  /** A message of the decoder, in `bytes` from `at` to `end`, valid as long as it is referenced. */
  change(bytes: Buffer, at: number, end: number): void;
  /** All that came together was told. */
  pause(): void;
  /** The stream is over, once. */
  ended(why: Error): void;
}

export class Replication {
  readonly #socket: Client["connection"]["stream"];
  readonly #on: ReplicationEvents;
  readonly #frames = new WireFrames();
  readonly #beat: NodeJS.Timeout;
  #confirmed = 0n;
  #sentAtMs = 0;
  #later: NodeJS.Timeout | undefined;
  #over = false;
  /** Up to where PostgreSQL has read its log for us. */
  serverLsn = 0n;

  constructor(client: Client, slot: string, on: ReplicationEvents) {
    this.#socket = client.connection.stream;
    this.#on = on;
    const socket = this.#socket;
    socket.removeAllListeners("data");
    socket.on("data", (chunk: Buffer) => this.#hear(chunk));
    socket.on("error", (error: Error) => this.#end(error));
    socket.on("close", () => this.#end(new Error("PostgreSQL closed the replication connection")));
    const options = `proto_version '1', publication_names '"throughline"', binary 'true'`;
    const text = `START_REPLICATION SLOT "${slot}" LOGICAL 0/0 (${options})\0`;
    const query = Buffer.alloc(5 + text.length);
    query[0] = 0x51;
    query.writeInt32BE(4 + text.length, 1);
    query.write(text, 5);
    socket.write(query);
    this.#beat = setInterval(() => this.#send(), STATUS_EVERY_MS);
  }

  /** All before it is where it belongs. */
  confirm(lsn: bigint): void {
    if (lsn <= this.#confirmed) return;
    this.#confirmed = lsn;
    const wait = this.#sentAtMs + CONFIRM_EVERY_MS - performance.now();
    if (wait <= 0) this.#send();
    else this.#later ??= setTimeout(() => this.#send(), wait);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#end(new Error("closed"));
  }

  #hear(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#frames.push(chunk, (bytes, at, end) => this.#message(bytes, at, end));
      this.#on.pause();
    } catch (error) {
      this.#end(error as Error);
    }
  }

  #message(bytes: Buffer, at: number, end: number): void {
    if (bytes[at] === ERROR)
      throw new Error(`PostgreSQL: ${errorText(bytes.subarray(at + 5, end))}`);
    if (bytes[at] !== COPY_DATA) return;
    if (bytes[at + 5] === WAL) {
      this.#on.change(bytes, at + 30, end);
    } else if (bytes[at + 5] === KEEPALIVE) {
      this.serverLsn = bytes.readBigUInt64BE(at + 6);
      if (bytes[at + 22] === 1) this.#send();
    }
  }

  #send(): void {
    clearTimeout(this.#later);
    this.#later = undefined;
    if (this.#over) return;
    this.#sentAtMs = performance.now();
    const status = Buffer.alloc(39);
    status[0] = COPY_DATA;
    status.writeInt32BE(38, 1);
    status[5] = 0x72;
    // Written, flushed, applied: for us the same.
    for (const at of [6, 14, 22]) status.writeBigUInt64BE(this.#confirmed, at);
    this.#socket.write(status);
  }

  #end(why: Error): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#beat);
    clearTimeout(this.#later);
    this.#socket.destroy();
    this.#on.ended(why);
  }
}

/** Fields of a letter and a text each. */
function errorText(body: Buffer): string {
  const fields = new Map(
    body
      .toString("utf8")
      .split("\0")
      .map((field) => [field[0], field.slice(1)]),
  );
  return [fields.get("M"), fields.get("D"), fields.get("H")].filter(Boolean).join("; ");
}
