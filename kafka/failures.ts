/**
 * Kafka's error codes and the client library's exceptions, judged once: name, Kafka's own words, worth
 * trying again or not, and which failure of the port (`log.ts`) they are.
 *
 * A code is judged here only where its meaning is the same in every call. What error 1 or 3 means to a
 * reader is said in the reader, what it means to an append in the appender.
 */
import {
	AuthenticationError,
	protocolErrors,
	protocolErrorsCodesById,
} from "@platformatic/kafka";
import type { AdminRefusal, LogFailure } from "./log.ts";

/** The codes that this room tells apart. */
export const KafkaCode = {
	NONE: 0,
	OFFSET_OUT_OF_RANGE: 1,
	CORRUPT_MESSAGE: 2,
	UNKNOWN_TOPIC_OR_PARTITION: 3,
	LEADER_NOT_AVAILABLE: 5,
	NOT_LEADER_OR_FOLLOWER: 6,
	REQUEST_TIMED_OUT: 7,
	REPLICA_NOT_AVAILABLE: 9,
	MESSAGE_TOO_LARGE: 10,
	NETWORK_EXCEPTION: 13,
	COORDINATOR_LOAD_IN_PROGRESS: 14,
	COORDINATOR_NOT_AVAILABLE: 15,
	NOT_COORDINATOR: 16,
	RECORD_LIST_TOO_LARGE: 18,
	NOT_ENOUGH_REPLICAS: 19,
	NOT_ENOUGH_REPLICAS_AFTER_APPEND: 20,
	TOPIC_AUTHORIZATION_FAILED: 29,
	GROUP_AUTHORIZATION_FAILED: 30,
	CLUSTER_AUTHORIZATION_FAILED: 31,
	UNSUPPORTED_SASL_MECHANISM: 33,
	ILLEGAL_SASL_STATE: 34,
	TOPIC_ALREADY_EXISTS: 36,
	NOT_CONTROLLER: 41,
	OUT_OF_ORDER_SEQUENCE_NUMBER: 45,
	DUPLICATE_SEQUENCE_NUMBER: 46,
	INVALID_PRODUCER_EPOCH: 47,
	INVALID_TXN_STATE: 48,
	INVALID_PRODUCER_ID_MAPPING: 49,
	CONCURRENT_TRANSACTIONS: 51,
	TRANSACTION_COORDINATOR_FENCED: 52,
	TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 53,
	SECURITY_DISABLED: 54,
	KAFKA_STORAGE_ERROR: 56,
	SASL_AUTHENTICATION_FAILED: 58,
	UNKNOWN_PRODUCER_ID: 59,
	DELEGATION_TOKEN_AUTHORIZATION_FAILED: 65,
	LISTENER_NOT_FOUND: 72,
	FENCED_LEADER_EPOCH: 74,
	UNKNOWN_LEADER_EPOCH: 75,
	PRODUCER_FENCED: 90,
	UNKNOWN_TOPIC_ID: 100,
	INCONSISTENT_TOPIC_ID: 103,
} as const;

/** Rights or credentials are missing: nothing gets better by itself. */
const UNAUTHORISED: ReadonlySet<number> = new Set([
	KafkaCode.TOPIC_AUTHORIZATION_FAILED,
	KafkaCode.GROUP_AUTHORIZATION_FAILED,
	KafkaCode.CLUSTER_AUTHORIZATION_FAILED,
	KafkaCode.UNSUPPORTED_SASL_MECHANISM,
	KafkaCode.ILLEGAL_SASL_STATE,
	KafkaCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
	KafkaCode.SECURITY_DISABLED,
	KafkaCode.SASL_AUTHENTICATION_FAILED,
	KafkaCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
]);

/** The broker asked is not, or no longer, the one to ask: look at metadata again. */
const ASK_ANOTHER: ReadonlySet<number> = new Set([
	KafkaCode.LEADER_NOT_AVAILABLE,
	KafkaCode.NOT_LEADER_OR_FOLLOWER,
	KafkaCode.REPLICA_NOT_AVAILABLE,
	KafkaCode.NOT_CONTROLLER,
	KafkaCode.COORDINATOR_NOT_AVAILABLE,
	KafkaCode.NOT_COORDINATOR,
	KafkaCode.KAFKA_STORAGE_ERROR,
	KafkaCode.LISTENER_NOT_FOUND,
	KafkaCode.FENCED_LEADER_EPOCH,
	KafkaCode.UNKNOWN_LEADER_EPOCH,
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
	return {
		code,
		name,
		words: oneLine(
			said || known?.message || "an error this release does not know",
		),
		retryable: known?.canRetry ?? true,
	};
}

/** Metadata must be read anew before the next try. */
export function asksAnotherBroker(code: number): boolean {
	return ASK_ANOTHER.has(code);
}

export function isUnauthorised(code: number): boolean {
	return UNAUTHORISED.has(code);
}

/** `doing` says what was tried: "appending to shop.orders[0]". */
export function failureOfCode(
	code: number,
	doing: string,
	said?: string | null,
): LogFailure {
	const { name, words } = kafkaError(code, said);
	const kind = UNAUTHORISED.has(code) ? "unauthorised" : "unavailable";
	return { kind, reason: `${doing}: ${name}: ${words}` };
}

/** What a call of the client library threw. */
export function failureOf(error: unknown, doing: string): LogFailure {
	const [first] = kafkaErrorsIn(error);
	if (first) return failureOfCode(first.code, doing, first.words);
	const kind = chain(error).some((e) => e instanceof AuthenticationError)
		? "unauthorised"
		: "unavailable";
	return { kind, reason: `${doing}: ${wordsOf(error)}` };
}

/** The same for an admin step: what Kafka judged and will judge again is a refusal in its own words. */
export function refusalOf(
	error: unknown,
	doing: string,
): AdminRefusal | LogFailure {
	const judged = kafkaErrorsIn(error).find(
		(e) => !e.retryable && !UNAUTHORISED.has(e.code),
	);
	return judged
		? { kind: "refused", error: judged.name, reason: judged.words }
		: failureOf(error, doing);
}

/** Kafka's error codes anywhere in an exception of the library; empty when the network failed. */
export function kafkaErrorsIn(error: unknown): KafkaError[] {
	return chain(error).flatMap((e) => {
		const { apiCode, serverErrorMessage } = e as {
			apiCode?: unknown;
			serverErrorMessage?: unknown;
		};
		if (typeof apiCode !== "number") return [];
		return kafkaError(
			apiCode,
			typeof serverErrorMessage === "string" ? serverErrorMessage : null,
		);
	});
}

/** The exception, what it wraps, what caused it. */
function chain(error: unknown): Error[] {
	if (!(error instanceof Error)) return [];
	const inner = error instanceof AggregateError ? error.errors : [];
	return [error, ...inner.flatMap(chain), ...chain(error.cause)];
}

/** The innermost messages say most: "connect ECONNREFUSED 127.0.0.1:9092". */
function wordsOf(error: unknown): string {
	if (!(error instanceof Error)) return oneLine(String(error));
	const leaves = chain(error).filter(
		(e) => !(e instanceof AggregateError) && e.cause === undefined,
	);
	return oneLine(
		[...new Set(leaves.map((e) => e.message))].join("; ") || error.message,
	);
}

function oneLine(text: string): string {
	return text.replace(/\s+/g, " ").trim();
}
