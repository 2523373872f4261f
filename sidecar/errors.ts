/**
 * The one table of errors (P10): name, gRPC code, retryable, what to do next. README's table is
 * generated from this and tested against it; `throughlineError` is the only way to make a failure that
 * a client sees.
 */
import { status } from "@grpc/grpc-js";

export interface ErrorEntry {
  readonly code: status;
  readonly retryable: boolean;
  readonly advice: string;
}

export const ERRORS = {
  INVALID_REQUEST: {
    code: status.INVALID_ARGUMENT,
    retryable: false,
    advice: "Correct the field that the message names.",
  },
  INVALID_TOKEN: {
    code: status.INVALID_ARGUMENT,
    retryable: false,
    advice:
      "Use a token as it was received, with the deployment and topic it came from, or start at earliest, latest or a time.",
  },
  TOPIC_NOT_FOUND: {
    code: status.NOT_FOUND,
    retryable: false,
    advice: "Check the name with ListTopics; apply the Topic if it does not exist.",
  },
  NOT_PERMITTED: {
    code: status.PERMISSION_DENIED,
    retryable: false,
    advice: "Ask the Topic's owner to name your namespace in spec.access.",
  },
  COMMIT_TOPIC: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice: "Insert the event into the Topic's outbox instead.",
  },
  TOPIC_NOT_READY: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice: "See the Topic's conditions; a topic with DataLost needs its owner.",
  },
  POSITION_LOST: {
    code: status.OUT_OF_RANGE,
    retryable: false,
    advice: "Start at the earliest position named here, or open with a recovery preset.",
  },
  TOPIC_GONE: {
    code: status.ABORTED,
    retryable: true,
    advice:
      "Open again with the last token: where the topic was recreated a recovery preset goes on, once the catalog names it; otherwise the open says what became of it.",
  },
  EVENT_TOO_LARGE: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice:
      "Raise max_frame_bytes and your client's receive limit, or go on with the token, which is after the event.",
  },
  PAYLOAD_TOO_LARGE: {
    code: status.INVALID_ARGUMENT,
    retryable: false,
    advice: "Send smaller events, or raise spec.limits.maxEventBytes of the Topic.",
  },
  OUTCOME_UNKNOWN: {
    code: status.UNKNOWN,
    retryable: true,
    advice: "The event may be in the topic; publishing again may repeat it.",
  },
  KAFKA_UNAVAILABLE: {
    code: status.UNAVAILABLE,
    retryable: true,
    advice: "Try again with backoff; if it lasts, look at the brokers.",
  },
  KAFKA_REFUSED: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice:
      "Kafka's own words are in the message; give the server's Kafka user the rights it names.",
  },
  LOG_CORRUPT: {
    code: status.DATA_LOSS,
    retryable: false,
    advice:
      "A record batch in Kafka is damaged at the offset named; restore the replica, or start after it.",
  },
  OVERLOADED: {
    code: status.RESOURCE_EXHAUSTED,
    retryable: true,
    advice:
      "Try again with backoff, on another server if there is one, or raise the limit that the message names.",
  },
  DRAINING: {
    code: status.UNAVAILABLE,
    retryable: true,
    advice: "Open again on another server with the last token.",
  },
  NO_SESSION_STORE: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice: "Start the server with --session-store, or open without a session and keep the token.",
  },
  SESSION_STORE_UNAVAILABLE: {
    code: status.UNAVAILABLE,
    retryable: true,
    advice:
      "Try again with backoff, or open with the last token: without strict that works while the store is down.",
  },
  SESSION_UNREADABLE: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice:
      "Under this session's key the store has what this release cannot read: remove it with ForgetSession, or run the release that wrote it.",
  },
  SESSION_NOT_FOUND: {
    code: status.NOT_FOUND,
    retryable: false,
    advice:
      "Check the names of topic and session; a session is made by the first stream that opens it.",
  },
  SUPERSEDED: {
    code: status.ABORTED,
    retryable: false,
    advice:
      "Another stream holds the session. Stop if it is another process; two of one name would fight for ever.",
  },
  SESSION_MODE_DIFFERS: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice:
      "Open the session in the mode that the message names, or remove it with ForgetSession first.",
  },
  MEMBER_LAPSED: {
    code: status.ABORTED,
    retryable: true,
    advice:
      "Open again, on any server: this member of the shared session was silent for too long, and others go on with its partitions.",
  },
  MEMBER_STUCK: {
    code: status.ABORTED,
    retryable: true,
    advice:
      "Acknowledge in time, ask for fewer events at once by credit, or raise --member-stuck-ms; then open again.",
  },
  INTERNAL: {
    code: status.INTERNAL,
    retryable: true,
    advice: "This is a bug of Throughline; please report the server's log lines of this time.",
  },
  PUBLISHER_SUPERSEDED: {
    code: status.ABORTED,
    retryable: false,
    advice:
      "A newer stream has this publisher's name; let it go on, or give each publisher a name of its own.",
  },
  NUMBER_JUMPED: {
    code: status.FAILED_PRECONDITION,
    retryable: false,
    advice: "Send the number that the message names; nothing of this event is in the topic.",
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorName = keyof typeof ERRORS;
