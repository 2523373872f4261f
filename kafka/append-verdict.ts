/**
 * What Kafka's answer to one appended batch means. Pure: the appender acts on it.
 *
 * The question that matters is whether the batch may be in the log: with acks=all the leader appends
 * first and answers when the replicas have it, so an error that can arise in between (leader change,
 * timeout, too few replicas after the append) proves nothing. Sent again with the same sequence it is
 * in the log once: the broker knows the last five batches of a producer and answers with their offset.
 */
import {
  DUPLICATE_SEQUENCE_NUMBER,
  failureOf,
  INCONSISTENT_TOPIC_ID,
  INVALID_PRODUCER_EPOCH,
  INVALID_PRODUCER_ID_MAPPING,
  INVALID_RECORD,
  INVALID_TIMESTAMP,
  kafkaError,
  MESSAGE_TOO_LARGE,
  NOT_ENOUGH_REPLICAS,
  OUT_OF_ORDER_SEQUENCE_NUMBER,
  POLICY_VIOLATION,
  RECORD_LIST_TOO_LARGE,
  UNKNOWN_PRODUCER_ID,
  UNKNOWN_TOPIC_ID,
  UNKNOWN_TOPIC_OR_PARTITION,
} from "./failures.ts";
import type { LogFailure } from "./log.ts";

export type Verdict =
  | { readonly kind: "appended" }
  /** Send the same bytes again; `written`: this attempt may have put them into the log. */
  | {
      readonly kind: "again";
      readonly written: boolean;
      readonly reason: string;
    }
  /** It is in the log, but the broker has forgotten where. */
  | { readonly kind: "lost-offset"; readonly reason: string }
  /** Rejected before the append, for its bytes or for one bad record: smaller batches may pass. */
  | {
      readonly kind: "split";
      readonly tooLarge: boolean;
      readonly reason: string;
    }
  /** Rejected before the append: the broker does not go on with this producer's sequence. */
  | { readonly kind: "new-identity"; readonly reason: string }
  /** Metadata must say whether the topic is gone. */
  | { readonly kind: "missing"; readonly reason: string }
  /** Rejected before the append, for good. */
  | { readonly kind: "failed"; readonly failure: LogFailure };

export function verdictOf(code: number, said: string | null): Verdict {
  const failure = failureOf(code, said);
  if (failure.kind === "unauthorised") return { kind: "failed", failure };
  const { reason } = failure;
  switch (code) {
    case 0:
      return { kind: "appended" };
    case MESSAGE_TOO_LARGE:
    case RECORD_LIST_TOO_LARGE:
      return { kind: "split", tooLarge: true, reason };
    case INVALID_TIMESTAMP:
    case INVALID_RECORD:
    case POLICY_VIOLATION:
      return { kind: "split", tooLarge: false, reason };
    case OUT_OF_ORDER_SEQUENCE_NUMBER:
    case UNKNOWN_PRODUCER_ID:
    case INVALID_PRODUCER_ID_MAPPING:
    case INVALID_PRODUCER_EPOCH:
      return { kind: "new-identity", reason };
    case DUPLICATE_SEQUENCE_NUMBER:
      return { kind: "lost-offset", reason };
    case UNKNOWN_TOPIC_OR_PARTITION:
    case UNKNOWN_TOPIC_ID:
    case INCONSISTENT_TOPIC_ID:
      return { kind: "missing", reason };
    case NOT_ENOUGH_REPLICAS:
      return { kind: "again", written: false, reason };
    default:
      return kafkaError(code).retryable
        ? { kind: "again", written: true, reason }
        : { kind: "failed", failure };
  }
}
