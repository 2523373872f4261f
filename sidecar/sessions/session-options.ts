/** What a client says of its session when it opens a stream, checked (P10). Pure. */
import type { SessionOpen } from "../../proto/gen/throughline/v1/throughline.ts";
import { Failure } from "../failure.ts";
import { decodeToken, type TokenIdentity } from "../token.ts";
import type { AckMode } from "./acks.ts";
import type { Known } from "./session-store.ts";

const MAX_NAME_BYTES = 200;
const MAX_INSTANCE_BYTES = 100;
const MAX_KNOWN_SEEKS = 2 ** 32;
const SHARED = 2;
const BY_CREDITS = 2;

export interface SessionOptions {
  readonly name: string;
  readonly mode: "exclusive" | "shared";
  readonly instance: string;
  readonly attempt: number;
  readonly strict: boolean;
  readonly acks: AckMode;
  /** Empty when nothing is known. */
  readonly knownToken: Buffer;
  readonly knownSeeks: number;
}

/** @throws Failure naming the field. */
export function readSession(open: SessionOpen): SessionOptions {
  const mode = open.mode as number;
  if (mode < 0 || mode > SHARED) throw invalid("mode", `${mode} is not a session mode`);
  const acks = open.acks as number;
  if (acks < 0 || acks > BY_CREDITS) throw invalid("acks", `${acks} is not a way to acknowledge`);
  if (open.attempt > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalid("attempt", `${open.attempt} is too large`);
  }
  if (open.knownSeeks > BigInt(MAX_KNOWN_SEEKS)) {
    throw invalid("known_seeks", `${open.knownSeeks} is too large`);
  }
  return {
    name: checkSessionName("open.session.name", open.name),
    mode: mode === SHARED ? "shared" : "exclusive",
    instance: checkText("open.session.instance", open.instance, MAX_INSTANCE_BYTES),
    attempt: Number(open.attempt),
    strict: open.strict,
    acks: acks === BY_CREDITS ? "credits" : "explicit",
    knownToken: open.knownToken,
    knownSeeks: Number(open.knownSeeks),
  };
}

/** @throws Failure INVALID_TOKEN */
export function readKnown(
  { knownToken: position, knownSeeks: seeks }: SessionOptions,
  identity: TokenIdentity,
  partitions: number,
): Known | undefined {
  if (position.length === 0) return undefined;
  const read = decodeToken(position, identity, partitions, "open.session.known_token");
  const { topicId } = read.kind === "recreated" ? read : identity;
  return { topicId, position, positions: read.positions, seeks };
}

/** @throws Failure naming the field. */
export function checkSessionName(field: string, name: string): string {
  if (name === "") throw new Failure("INVALID_REQUEST", `${field}: is empty; name the session.`);
  return checkText(field, name, MAX_NAME_BYTES);
}

function checkText(field: string, text: string, maxBytes: number): string {
  const bytes = Buffer.byteLength(text);
  if (bytes > maxBytes) {
    throw new Failure("INVALID_REQUEST", `${field}: has ${bytes} bytes; at most ${maxBytes}.`);
  }
  if (/\p{Cc}/u.test(text)) {
    throw new Failure("INVALID_REQUEST", `${field}: has control characters; leave them out.`);
  }
  return text;
}

function invalid(field: string, why: string): Failure {
  return new Failure("INVALID_REQUEST", `open.session.${field}: ${why}.`);
}
