/**
 * PublishRequest bytes → records for the log, and outcomes → PublishResponse bytes, in one pass each.
 * Hand-written because publishing is a hot path; tests hold both equal to the generated code.
 *
 * An event that breaks a rule is refused alone, naming its field; bytes that are no PublishRequest refuse
 * the request. Keys and payloads are views of the request's bytes.
 */
import type { NewRecord } from "../kafka/log.ts";
import { ErrorInfo } from "../proto/gen/throughline/v1/throughline.ts";

export type DecodedEvent =
  | {
      readonly kind: "record";
      readonly record: NewRecord;
      /** Key, payload and headers. */
      readonly bytes: number;
    }
  | { readonly kind: "invalid"; readonly message: string };

export type DecodedPublish =
  | { readonly kind: "request"; readonly topic: string; readonly events: readonly DecodedEvent[] }
  | { readonly kind: "invalid"; readonly message: string };

export type WireResult =
  | { readonly kind: "position"; readonly partition: number; readonly offset: number }
  | { readonly kind: "error"; readonly error: ErrorInfo };

/** Kafka refuses a whole batch for one record that is later (message.timestamp.after.max.ms). */
const MAX_FUTURE_MS = 3_600_000;
const NO_BYTES = Buffer.alloc(0);
const TWO_32 = 4294967296;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const MALFORMED = "The message is not a throughline.v1.PublishRequest: its bytes do not parse.";

export function decodePublish(bytes: Buffer, nowMs: number, maxEvents: number): DecodedPublish {
  const wire = new Wire(bytes);
  const events: DecodedEvent[] = [];
  let topic: string | undefined = "";
  while (wire.at < bytes.length && !wire.broken) {
    const tag = wire.varint();
    if (tag === 10) {
      topic = wire.text(wire.length());
    } else if (tag === 18) {
      const length = wire.length();
      if (events.length >= maxEvents) {
        return {
          kind: "invalid",
          message: `events: more than ${maxEvents} in one request (--request-events).`,
        };
      }
      if (!wire.broken) events.push(decodeEvent(wire, wire.at + length, events.length, nowMs));
    } else {
      wire.skip(tag);
    }
  }
  if (wire.broken) return { kind: "invalid", message: MALFORMED };
  if (topic === undefined) return { kind: "invalid", message: "topic: is not valid UTF-8." };
  return { kind: "request", topic, events };
}

/** One NewEvent that ends at `end`. */
export function decodeEvent(wire: Wire, end: number, index: number, nowMs: number): DecodedEvent {
  let key: Buffer | null = null;
  let value: Buffer | null = null;
  let type: string | undefined = "";
  let timeMs = nowMs;
  let headers: [string, Buffer][] | undefined;
  let wrong: string | undefined;
  let bytes = 0;
  while (wire.at < end && !wire.broken) {
    const tag = wire.varint();
    switch (tag) {
      case 10:
        key = wire.view(wire.length());
        break;
      case 18:
        value = wire.view(wire.length());
        break;
      case 26: {
        headers ??= [];
        const length = wire.length();
        const header = decodeHeader(wire, wire.at + length);
        const name = header[0];
        if (name === undefined) wrong ??= `headers[${headers.length}].key: is not valid UTF-8.`;
        else wrong ??= refuseHeader(name, headers.length);
        headers.push([name ?? "", header[1]]);
        bytes += Buffer.byteLength(name ?? "") + header[1].length;
        break;
      }
      case 34:
        type = wire.text(wire.length());
        if (type === undefined) wrong ??= "type: is not valid UTF-8.";
        break;
      case 41:
        timeMs = wire.fixed64();
        if (!Number.isSafeInteger(timeMs) || timeMs < 0) {
          wrong ??= "time_ms: must be 0 or more, in milliseconds since 1970.";
        } else if (timeMs > nowMs + MAX_FUTURE_MS) {
          wrong ??= "time_ms: lies more than an hour ahead of the server's clock.";
        }
        break;
      default:
        wire.skip(tag);
    }
  }
  // A field that reaches past its message makes the request malformed.
  if (wire.at !== end) wire.broken = true;
  if (type) {
    const given = headers?.findIndex(([name]) => name === "ce_type") ?? -1;
    if (given >= 0) wrong ??= `headers[${given}].key: ce_type is given by the field type already.`;
    headers ??= [];
    const text = Buffer.from(type);
    headers.push(["ce_type", text]);
    bytes += 7 + text.length;
  }
  if (wrong !== undefined) return { kind: "invalid", message: `events[${index}].${wrong}` };
  bytes += (key?.length ?? 0) + (value?.length ?? 0);
  return { kind: "record", record: { key, value, headers: headers ?? [], timeMs }, bytes };
}

function decodeHeader(wire: Wire, end: number): [string | undefined, Buffer] {
  let name: string | undefined = "";
  let value: Buffer = NO_BYTES;
  while (wire.at < end && !wire.broken) {
    const tag = wire.varint();
    if (tag === 10) name = wire.text(wire.length());
    else if (tag === 18) value = wire.view(wire.length());
    else wire.skip(tag);
  }
  if (wire.at !== end) wire.broken = true;
  return [name, value];
}

function refuseHeader(name: string, index: number): string | undefined {
  if (name === "") return `headers[${index}].key: is empty.`;
  // Compared by hand: this runs for every header of every event.
  const t = name.charCodeAt(0) | 32;
  const l = name.charCodeAt(1) | 32;
  if (t === 116 && l === 108 && name.charCodeAt(2) === 45) {
    return `headers[${index}].key: names starting with "tl-" are Throughline's own.`;
  }
  return undefined;
}

/** Reads protobuf's wire format; what does not parse sets `broken` and ends every loop. */
export class Wire {
  readonly #bytes: Buffer;
  at = 0;
  broken = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Tags and lengths: at most 32 bits count, longer ones break. */
  varint(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.at++] as number;
    if (byte < 128) return byte;
    let result = byte & 127;
    for (let scale = 128; scale <= 2 ** 28; scale *= 128) {
      byte = bytes[this.at++] as number;
      result += (byte & 127) * scale;
      if (byte < 128) return result;
    }
    this.broken = true;
    return 0;
  }

  /** A number of up to 64 bits, not exact above 2^53. */
  uint64(): number {
    let result = 0;
    for (let scale = 1; scale < 2 ** 64; scale *= 128) {
      const byte = this.#bytes[this.at++] as number;
      result += (byte & 127) * scale;
      if (byte < 128) return result;
    }
    this.broken = true;
    return 0;
  }

  length(): number {
    const length = this.varint();
    // Written so that an undefined byte (NaN, past the end) breaks too.
    if (!(this.at + length <= this.#bytes.length)) {
      this.broken = true;
      return 0;
    }
    return length;
  }

  view(length: number): Buffer {
    const start = this.at;
    this.at = start + length;
    return this.#bytes.subarray(start, this.at);
  }

  /** Undefined when it is not UTF-8. */
  text(length: number): string | undefined {
    const start = this.at;
    const end = start + length;
    this.at = end;
    const bytes = this.#bytes;
    for (let i = start; i < end; i++) {
      if ((bytes[i] as number) >= 128) {
        try {
          return strictUtf8.decode(bytes.subarray(start, end));
        } catch {
          return undefined;
        }
      }
    }
    return bytes.toString("latin1", start, end);
  }

  fixed64(): number {
    if (this.at + 8 > this.#bytes.length) {
      this.broken = true;
      return 0;
    }
    const low = this.#bytes.readUInt32LE(this.at);
    const high = this.#bytes.readInt32LE(this.at + 4);
    this.at += 8;
    return high * TWO_32 + low;
  }

  skip(tag: number): void {
    // Field number 0 is no field.
    if (tag < 8) {
      this.broken = true;
      return;
    }
    switch (tag & 7) {
      case 0: {
        let bytes = 1;
        while ((this.#bytes[this.at++] as number) >= 128) bytes++;
        if (bytes > 10) this.broken = true;
        break;
      }
      case 1:
        this.at += 8;
        break;
      case 2: {
        const length = this.length();
        this.at += length;
        break;
      }
      case 5:
        this.at += 4;
        break;
      default:
        this.broken = true;
    }
    if (this.at > this.#bytes.length) this.broken = true;
  }
}

/** One PublishResponse; or the results of another message, under its own tag for them. */
export function encodeResults(results: readonly WireResult[], tag = 10): Buffer {
  const errors = new Map<number, Uint8Array>();
  let size = 0;
  for (const [i, result] of results.entries()) {
    if (result.kind === "position") {
      // Tag and length twice, then partition and offset at their longest (2^31, 2^53).
      size += 4 + 6 + 9;
    } else {
      const error = ErrorInfo.encode(result.error).finish();
      errors.set(i, error);
      size += 12 + error.length;
    }
  }
  const out = Buffer.allocUnsafe(size);
  let at = 0;
  for (const [i, result] of results.entries()) {
    out[at++] = tag;
    if (result.kind === "position") {
      const { partition, offset } = result;
      const inner =
        (partition === 0 ? 0 : 1 + varintSize(partition)) +
        (offset === 0 ? 0 : 1 + varintSize(offset));
      out[at++] = inner + 2;
      out[at++] = 10;
      out[at++] = inner;
      if (partition !== 0) {
        out[at++] = 8;
        at = putVarint(out, at, partition);
      }
      if (offset !== 0) {
        out[at++] = 16;
        at = putVarint(out, at, offset);
      }
    } else {
      const error = errors.get(i) as Uint8Array;
      at = putVarint(out, at, 1 + varintSize(error.length) + error.length);
      out[at++] = 18;
      at = putVarint(out, at, error.length);
      out.set(error, at);
      at += error.length;
    }
  }
  return out.subarray(0, at);
}

export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

export function putVarint(out: Buffer, start: number, value: number): number {
  let at = start;
  let rest = value;
  while (rest >= 128) {
    out[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  out[at++] = rest;
  return at;
}
