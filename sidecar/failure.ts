/**
 * A failure that a client sees, and the one converter of anything thrown into a gRPC status (P10).
 * Names and codes come from the table in errors.ts.
 */
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import {
  ErrorInfo,
  type EventPosition,
  type Loss,
} from "../proto/gen/throughline/v1/throughline.ts";
import { ERRORS, type ErrorName } from "./errors.ts";

/** Trailer that carries the ErrorInfo. */
export const ERROR_TRAILER = "throughline-error-bin";

export interface FailureDetails {
  readonly token?: Buffer;
  readonly loss?: Loss;
  readonly earliest?: EventPosition[];
}

export class Failure extends Error {
  readonly error: ErrorName;
  readonly details: FailureDetails;

  constructor(error: ErrorName, message: string, details: FailureDetails = {}) {
    super(message);
    this.error = error;
    this.details = details;
  }
}

/** What is not a Failure is a bug of ours: its text stays in the server's log. */
export function toFailure(thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown;
  return new Failure("INTERNAL", "Internal error.");
}

export function toErrorInfo(failure: Failure): ErrorInfo {
  const entry = ERRORS[failure.error];
  return {
    name: failure.error,
    message: failure.message,
    retryable: entry.retryable,
    advice: entry.advice,
    token: failure.details.token ?? Buffer.alloc(0),
    loss: failure.details.loss ?? 0,
    earliest: failure.details.earliest ?? [],
  };
}

export function toStatus(failure: Failure): StatusObject {
  const metadata = new Metadata();
  metadata.set(ERROR_TRAILER, Buffer.from(ErrorInfo.encode(toErrorInfo(failure)).finish()));
  const { code, advice } = ERRORS[failure.error];
  return { code, details: `${failure.error}: ${failure.message} ${advice}`, metadata };
}
