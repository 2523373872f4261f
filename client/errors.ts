/** What a call of a Throughline server failed with, read from the trailer (README, Errors). */
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ErrorInfo } from "../proto/gen/throughline/v1/throughline.ts";

export class ThroughlineError extends Error {
  /** Name in the table of errors; UNREACHABLE when there is no server, or none that answers. */
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

/** How grpc-js says that a call never left this process. */
const UNSENT = "No connection established";
/** How gRPC refuses a message, ours or the server's, before any handler sees it. */
const TOO_LARGE = "larger than max";

/** How Node says that it does not accept the server's certificate. */
const CERTIFICATE = /certificate|altnames/;
const CERTIFICATE_ADVICE =
  " Of the server's certificate: renew it if it has expired, connect by a host that it names, and trust its authority with `tls.ca`.";

export function toThroughlineError(error: ServiceError): ThroughlineError {
  // grpc-js says of a server that wants TLS, and of a client that does, no more than that it failed.
  const advice =
    "Try another address; check that it is a server's, and that both sides use TLS or neither does." +
    (CERTIFICATE.test(error.details) ? CERTIFICATE_ADVICE : "");
  return answered(error) ?? broken(error, "UNREACHABLE", advice);
}

/** P7: a publish that broke is only said to be unsent where that is certain. */
export function toPublishError(error: ServiceError): ThroughlineError {
  if (error.code === status.UNAVAILABLE && error.details.startsWith(UNSENT)) {
    return toThroughlineError(error);
  }
  if (error.code === status.RESOURCE_EXHAUSTED && error.details.includes(TOO_LARGE)) {
    return broken(error, "PAYLOAD_TOO_LARGE", "Send fewer or smaller events in a request.", false);
  }
  const advice = "The event may be in the topic; publishing again may repeat it.";
  return answered(error) ?? broken(error, "OUTCOME_UNKNOWN", advice);
}

/** Of a publisher's stream, where nothing was sent that trying again can repeat. */
export function toPublishStreamError(error: ServiceError): ThroughlineError {
  const tooLarge = error.code === status.RESOURCE_EXHAUSTED && error.details.includes(TOO_LARGE);
  return tooLarge ? toPublishError(error) : toThroughlineError(error);
}

/** What we find ourselves, as grpc-js would say it. */
export function lost(details: string): ServiceError {
  const code = status.UNAVAILABLE;
  return Object.assign(new Error(details), { code, details, metadata: new Metadata() });
}

function answered(error: ServiceError): ThroughlineError | undefined {
  const [details] = error.metadata?.get("throughline-error-bin") ?? [];
  return Buffer.isBuffer(details) ? new ThroughlineError(ErrorInfo.decode(details)) : undefined;
}

function broken(
  error: ServiceError,
  name: string,
  advice: string,
  retryable = true,
): ThroughlineError {
  return new ThroughlineError({
    ...{ name, message: error.details || error.message, retryable, advice },
    ...{ token: Buffer.alloc(0), loss: 0, earliest: [] },
  });
}
