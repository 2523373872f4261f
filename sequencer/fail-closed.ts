/**
 * What stops a sequencer for good: to go on would lose, repeat or renumber an event. It says so in log,
 * metrics and readiness, and looks again now and then whether a person has mended it.
 */

/** Stable words for programs (README). */
export type StopReason =
  | "WalLevel"
  | "RightsMissing"
  | "Pooler"
  | "Unsupported"
  | "SchemaMissing"
  | "PublicationChanged"
  | "TableChanged"
  | "OtherOwner"
  | "SlotMissing"
  | "SlotLost"
  | "SlotMoved"
  | "OtherDatabase"
  | "OtherHistory"
  | "ProgressLost"
  | "StampsChanged"
  | "ForeignWriter"
  | "LogCut"
  | "KafkaRefused";

export class FailClosed extends Error {
  readonly reason: StopReason;

  /** @param message what is wrong and what to do. */
  constructor(reason: StopReason, message: string) {
    super(message);
    this.reason = reason;
  }
}
