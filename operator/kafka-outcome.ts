/** What Kafka said to an admin step, as an exception that carries the reason of a condition. */
import type { AdminOutcome, LogFailure } from "../kafka/log.ts";

/** Kafka said no: its error name, or one word of ours, is the condition's reason, its sentence the message. */
export class Refused extends Error {
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** @throws Refused. */
export function done<T>(outcome: AdminOutcome<T>): T {
  if (outcome.kind === "done") return outcome.value;
  throw outcome.kind === "refused" ? new Refused(outcome.error, outcome.reason) : failed(outcome);
}

export function failed({ kind, reason }: LogFailure): Refused {
  return kind === "unauthorised"
    ? new Refused("NotAuthorised", `${reason}; give the operator's Kafka user that right.`)
    : new Refused("KafkaUnavailable", reason);
}
