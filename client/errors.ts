/** What a call of a Throughline server failed with, read from the trailer (README, Errors). */
import type { ServiceError } from "@grpc/grpc-js";
import { ErrorInfo } from "../proto/gen/throughline/v1/throughline.ts";

export class ThroughlineError extends Error {
  /** Name in the table of errors; UNREACHABLE when no server answered. */
  readonly error: string;
  readonly retryable: boolean;
  readonly advice: string;
  /** Position to go on from, when the error has one. */
  readonly token: Buffer;
  readonly earliest: ErrorInfo["earliest"];

  constructor(info: ErrorInfo) {
    super(`${info.name}: ${info.message}`);
    this.error = info.name;
    this.retryable = info.retryable;
    this.advice = info.advice;
    this.token = info.token;
    this.earliest = info.earliest;
  }
}

export function toThroughlineError(error: ServiceError): ThroughlineError {
  const [details] = error.metadata?.get("throughline-error-bin") ?? [];
  if (Buffer.isBuffer(details)) return new ThroughlineError(ErrorInfo.decode(details));
  return new ThroughlineError({
    name: "UNREACHABLE",
    message: error.details || error.message,
    retryable: true,
    advice: "Try another address.",
    token: Buffer.alloc(0),
    loss: 0,
    earliest: [],
  });
}
