/** Kafka's error codes and the client's exceptions as the values of the port. */
import {
  AuthenticationError,
  GenericError,
  MultipleErrors,
  protocolErrorsCodesById,
  protocolErrors,
} from "@platformatic/kafka";
import type { AdminRefusal, LogFailure } from "./log.ts";

export const NOT_LEADER = 6;
export const OFFSET_OUT_OF_RANGE = 1;
export const UNKNOWN_TOPIC_OR_PARTITION = 3;
export const UNKNOWN_TOPIC_ID = 100;
const UNAUTHORISED = new Set([29, 30, 31, 33, 34, 53, 58]);
/** Kafka could not do it now: nothing is wrong with the request. */
const TRANSIENT = new Set([-1, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 41, 51, 56, 72, 74, 75, 78, 80, 103]);

/** "NOT_LEADER_OR_FOLLOWER: For requests intended only for the leader, …" */
export function describeCode(code: number): string {
  const names = protocolErrorsCodesById as Record<number, string>;
  const name = names[code] ?? `error ${code}`;
  const entry = (protocolErrors as Record<string, { message: string }>)[name];
  return entry ? `${name}: ${entry.message}` : name;
}

export function nameOf(code: number): string {
  return (protocolErrorsCodesById as Record<number, string>)[code] ?? `ERROR_${code}`;
}

export function failureOf(code: number): LogFailure {
  const reason = `Kafka: ${describeCode(code)}`;
  return UNAUTHORISED.has(code) ? { kind: "unauthorised", reason } : { kind: "unavailable", reason };
}

/** What the client library threw, as a value. */
export function failureOfError(error: unknown): LogFailure {
  if (findAuthentication(error)) {
    return { kind: "unauthorised", reason: `Kafka refused the login: ${messageOf(error)}` };
  }
  return { kind: "unavailable", reason: `Kafka: ${messageOf(error)}` };
}

export function refusalOf(code: number, message: string | null): AdminRefusal | LogFailure {
  if (UNAUTHORISED.has(code) || TRANSIENT.has(code)) {
    const failure = failureOf(code);
    return message ? { ...failure, reason: `Kafka: ${nameOf(code)}: ${message}` } : failure;
  }
  return { kind: "refused", error: nameOf(code), reason: message ?? describeCode(code) };
}

/** The decoded response of an exception that only says that it holds an error code. */
export function responseOf<T>(error: unknown): T | undefined {
  const holder = error as { response?: T; errors?: { response?: T }[] };
  return holder.response ?? holder.errors?.find((inner) => inner.response)?.response;
}

function findAuthentication(error: unknown): boolean {
  if (error instanceof AuthenticationError) return true;
  const { cause } = error as { cause?: unknown };
  return cause !== undefined && cause !== error && findAuthentication(cause);
}

function messageOf(error: unknown): string {
  if (MultipleErrors.isMultipleErrors(error as Error)) {
    const inner = (error as AggregateError).errors.at(0) as unknown;
    if (inner) return `${(error as Error).message} (${messageOf(inner)})`;
  }
  if (GenericError.isGenericError(error as Error) && (error as Error).cause) {
    return `${(error as Error).message} (${messageOf((error as Error).cause)})`;
  }
  return (error as Error).message;
}
