/**
 * PublishStreamRequest bytes → an opening, or numbered records; answers → PublishStreamResponse bytes.
 * By hand where events are many (publish-wire.ts); tests hold it equal to the generated code.
 */
import {
  PublishStreamOpen,
  PublishStreamResponse,
} from "../../proto/gen/throughline/v1/throughline.ts";
import {
  type DecodedEvent,
  decodeEvent,
  encodeResults,
  putVarint,
  varintSize,
  Wire,
  type WireResult,
} from "../publish-wire.ts";

export type StreamRequest =
  | { readonly kind: "open"; readonly open: PublishStreamOpen }
  | {
      readonly kind: "events";
      readonly firstNumber: number;
      readonly events: readonly DecodedEvent[];
    }
  | { readonly kind: "invalid"; readonly message: string };

/** The answer to one number. */
export type NumberedAnswer = { readonly number: number } & (
  | WireResult
  | { readonly kind: "already-there" }
);

const OPEN = 10;
const EVENTS = 18;
const FIRST_NUMBER = 8;
const EVENT = 18;

const MALFORMED =
  "The message is not a throughline.v1.PublishStreamRequest: its bytes do not parse.";
const NO_KIND = "A message must be open or events.";

export function decodeStreamRequest(
  bytes: Buffer,
  nowMs: number,
  maxEvents: number,
): StreamRequest {
  const wire = new Wire(bytes);
  let request: StreamRequest = { kind: "invalid", message: NO_KIND };
  while (wire.at < bytes.length && !wire.broken) {
    const tag = wire.varint();
    if (tag !== OPEN && tag !== EVENTS) {
      wire.skip(tag);
      continue;
    }
    const length = wire.length();
    if (wire.broken) break;
    // As with any oneof, the last one counts.
    if (tag === OPEN) request = decodeOpen(wire.view(length));
    else request = decodeEvents(wire, wire.at + length, nowMs, maxEvents);
    if (request.kind === "invalid") return request;
  }
  return wire.broken ? { kind: "invalid", message: MALFORMED } : request;
}

function decodeOpen(bytes: Buffer): StreamRequest {
  try {
    return { kind: "open", open: PublishStreamOpen.decode(bytes) };
  } catch {
    return { kind: "invalid", message: MALFORMED };
  }
}

function decodeEvents(wire: Wire, end: number, nowMs: number, maxEvents: number): StreamRequest {
  const events: DecodedEvent[] = [];
  let firstNumber = 0;
  while (wire.at < end && !wire.broken) {
    const tag = wire.varint();
    if (tag === FIRST_NUMBER) {
      firstNumber = wire.uint64();
    } else if (tag === EVENT) {
      const length = wire.length();
      if (events.length >= maxEvents) {
        const message = `events: more than ${maxEvents} in one message (--request-events).`;
        return { kind: "invalid", message };
      }
      if (!wire.broken) events.push(decodeEvent(wire, wire.at + length, events.length, nowMs));
    } else {
      wire.skip(tag);
    }
  }
  if (wire.broken || wire.at !== end) return { kind: "invalid", message: MALFORMED };
  if (firstNumber < 1 || firstNumber + events.length > Number.MAX_SAFE_INTEGER) {
    const message =
      "first_number: must be 1 to 2^53 - 1; the first event of a publisher is number 1.";
    return { kind: "invalid", message };
  }
  return { kind: "events", firstNumber, events };
}

export const HEARTBEAT = Buffer.from(
  PublishStreamResponse.encode({ kind: { $case: "heartbeat", value: {} } }).finish(),
);

export function encodeOpened(lastNumber: number, lastInstance: string): Buffer {
  return Buffer.from(
    PublishStreamResponse.encode({
      kind: { $case: "opened", value: { lastNumber: BigInt(lastNumber), lastInstance } },
    }).finish(),
  );
}

/** Answers in order, in as few messages as they make runs of one kind. */
export function encodeAnswers(answers: readonly NumberedAnswer[]): Buffer[] {
  const messages: Buffer[] = [];
  for (let from = 0; from < answers.length; ) {
    const first = answers[from] as NumberedAnswer;
    let to = from + 1;
    while (to < answers.length && follows(answers[to - 1], answers[to])) to++;
    messages.push(
      first.kind === "already-there"
        ? encodeAlreadyThere(first.number, to - from)
        : encodeRun(first.number, answers.slice(from, to) as readonly WireResult[]),
    );
    from = to;
  }
  return messages;
}

function follows(a: NumberedAnswer | undefined, b: NumberedAnswer | undefined): boolean {
  const sameKind = (a?.kind === "already-there") === (b?.kind === "already-there");
  return sameKind && b?.number === (a?.number ?? 0) + 1;
}

/** Results of events that follow one another. */
export function encodeRun(firstNumber: number, results: readonly WireResult[]): Buffer {
  const encoded = encodeResults(results, 18);
  const inner = 1 + varintSize(firstNumber) + encoded.length;
  const out = Buffer.allocUnsafe(1 + varintSize(inner) + inner);
  out[0] = 26;
  let at = putVarint(out, 1, inner);
  out[at++] = 8;
  at = putVarint(out, at, firstNumber);
  encoded.copy(out, at);
  return out;
}

function encodeAlreadyThere(firstNumber: number, count: number): Buffer {
  const value = { firstNumber: BigInt(firstNumber), count: BigInt(count) };
  return Buffer.from(
    PublishStreamResponse.encode({ kind: { $case: "alreadyThere", value } }).finish(),
  );
}
