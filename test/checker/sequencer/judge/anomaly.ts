/** What may be wrong (pure), and in which words. */
export const CLASSES = {
  missing: "committed, and not stamped, not in the log or not delivered",
  late: "delivered only after seconds in which nothing was being done to anything",
  repeated: "stamped, in the log or delivered more than once",
  renumbered: "its order value changed, or is another one in the log or at a subscriber",
  phantom: "stamped, in the log or delivered, and not committed",
  disordered:
    "it came before an event of an earlier commit, or out of its place in its transaction",
  gap: "order values are not 1, 2, 3 …",
  differs: "SQL, log and subscribers do not have the same of it, or not its commit",
  open: "a sequencer went on where it must stop, or stopped with another reason, or for nothing",
  crash: "a sequencer ended by itself, or a subscriber's stream did",
} as const;

export type Class = keyof typeof CLASSES;

export interface Anomaly {
  readonly class: Class;
  /** In the stamps, in the log, at a subscriber. */
  readonly where: string;
  readonly what: string;
}
