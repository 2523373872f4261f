/**
 * Kafka's error codes and the client library's exceptions, judged once: name, Kafka's own words, worth
 * trying again or not, and which failure of the port (`log.ts`) they are.
 *
 * A code is judged here only where its meaning is the same in every call. What error 1 or 3 means to a
 * reader is said in the reader, what it means to an append in the appender.
 */
import { AuthenticationError, protocolErrors, protocolErrorsCodesById } from "@platformatic/kafka";
import type { AdminRefusal, LogFailure } from "./log.ts";

// The codes that this room tells apart (https://kafka.apache.org/protocol#protocol_error_codes).
export const OFFSET_OUT_OF_RANGE = 1;
export const UNKNOWN_TOPIC_OR_PARTITION = 3;
export const MESSAGE_TOO_LARGE = 10;
export const COORDINATOR_LOAD_IN_PROGRESS = 14;
export const COORDINATOR_NOT_AVAILABLE = 15;
export const NOT_COORDINATOR = 16;
export const RECORD_LIST_TOO_LARGE = 18;
export const NOT_ENOUGH_REPLICAS = 19;
export const INVALID_TIMESTAMP = 32;
export const POLICY_VIOLATION = 44;
export const OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
export const DUPLICATE_SEQUENCE_NUMBER = 46;
export const INVALID_PRODUCER_EPOCH = 47;
export const INVALID_PRODUCER_ID_MAPPING = 49;
export const CONCURRENT_TRANSACTIONS = 51;
export const UNKNOWN_PRODUCER_ID = 59;
export const INVALID_RECORD = 87;
export const PRODUCER_FENCED = 90;
export const UNKNOWN_TOPIC_ID = 100;
export const INCONSISTENT_TOPIC_ID = 103;
export const TRANSACTIONAL_ID_NOT_FOUND = 105;

/** Somebody newer has the transactional id. */
export const FENCES: readonly number[] = [INVALID_PRODUCER_EPOCH, PRODUCER_FENCED];

/** Rights or credentials are missing: nothing gets better by itself. */
const UNAUTHORISED: ReadonlySet<string> = new Set([
  "TOPIC_AUTHORIZATION_FAILED",
  "GROUP_AUTHORIZATION_FAILED",
  "CLUSTER_AUTHORIZATION_FAILED",
  "UNSUPPORTED_SASL_MECHANISM",
  "ILLEGAL_SASL_STATE",
  "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
  "SECURITY_DISABLED",
  "SASL_AUTHENTICATION_FAILED",
  "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
]);

export interface KafkaError {
  readonly code: number;
  /** NOT_LEADER_OR_FOLLOWER, … */
  readonly name: string;
  /** One line: what the broker said, or what Kafka's protocol says the code means. */
  readonly words: string;
  /** The same request may succeed later. */
  readonly retryable: boolean;
}

export function kafkaError(code: number, said?: string | null): KafkaError {
  const name = protocolErrorsCodesById[code] ?? `ERROR_${code}`;
  const known = protocolErrors[name];
  const words = oneLine(said || known?.message || "an error that this release does not know");
  return { code, name, words, retryable: known?.canRetry ?? true };
}

/** `said` is the broker's own message, where the protocol has one. */
export function failureOf(code: number, said?: string | null): LogFailure {
  const { name, words } = kafkaError(code, said);
  const kind = UNAUTHORISED.has(name) ? "unauthorised" : "unavailable";
  return { kind, reason: `Kafka: ${name}: ${words}` };
}

/** What a call of the client library threw. */
export function failureOfError(error: unknown): LogFailure {
  const [first] = kafkaErrorsIn(error);
  if (first) return failureOf(first.code, first.words);
  const unauthorised = chain(error).some((e) => e instanceof AuthenticationError);
  return {
    kind: unauthorised ? "unauthorised" : "unavailable",
    reason: `Kafka: ${innermostWords(error)}`,
  };
}

/** The same for an admin step: what Kafka would judge alike again is a refusal in its own words. */
export function refusalOf(error: unknown): AdminRefusal | LogFailure {
  const judged = kafkaErrorsIn(error).find((e) => !e.retryable && !UNAUTHORISED.has(e.name));
  return judged
    ? { kind: "refused", error: judged.name, reason: judged.words }
    : failureOfError(error);
}

/** The library throws when an answer holds any error code; the whole answer rides on the exception. */
export function responseOf<Response>(error: unknown): Response | undefined {
  return error instanceof Error ? (error as { response?: Response }).response : undefined;
}

/** Kafka's error codes anywhere in an exception of the library; empty when the network failed. */
export function kafkaErrorsIn(error: unknown): KafkaError[] {
  return chain(error).flatMap((e) => {
    const { apiCode, serverErrorMessage } = e as {
      apiCode?: unknown;
      serverErrorMessage?: unknown;
    };
    if (typeof apiCode !== "number") return [];
    return kafkaError(apiCode, typeof serverErrorMessage === "string" ? serverErrorMessage : null);
  });
}

/** Whether Kafka said one of these. */
export function hasError(error: unknown, ...codes: readonly number[]): boolean {
  return kafkaErrorsIn(error).some(({ code }) => codes.includes(code));
}

/** The exception, what it wraps, what caused it. */
function chain(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  const inner = error instanceof AggregateError ? error.errors : [];
  return [error, ...inner.flatMap(chain), ...chain(error.cause)];
}

/** The innermost messages say most: "connect ECONNREFUSED 127.0.0.1:9092". */
function innermostWords(error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error));
  const leaves = chain(error).filter((e) => !(e instanceof AggregateError) && !e.cause);
  return oneLine([...new Set(leaves.map((e) => e.message))].join("; ") || error.message);
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}
