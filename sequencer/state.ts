/** What a sequencer does now, for log, readiness, metrics and reports: one value, told when it changes. */
import type { StopReason } from "./fail-closed.ts";

export type State =
  | { readonly kind: "starting" }
  /** Another one is at work. */
  | { readonly kind: "standby" }
  | { readonly kind: "running" }
  /** It goes on by itself when this has changed. */
  | { readonly kind: "waiting"; readonly reason: WaitReason; readonly why: string }
  /** A person must mend it. */
  | { readonly kind: "failed"; readonly reason: StopReason; readonly why: string }
  /** The slot is given up, and there is nothing left to do. */
  | { readonly kind: "retired" };

/** Stable words for programs (README). */
export type WaitReason = "DatabaseUnavailable" | "TopicNotReady" | "Interrupted";

/** What it waits for; of an error that is none of these it is `Interrupted`. */
export class Hindered extends Error {
  readonly reason: WaitReason;

  constructor(reason: WaitReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Where the time of a batch goes: the stamp and producing run at once, the commit after both. */
export type Step = "stamp" | "produce" | "commit";

export interface Figures {
  state: State;
  /** Events and batches that this process has sent. */
  events: number;
  batches: number;
  parked: number;
  /** How long ago the last event that was sent had been committed, when it was sent. */
  lagMs: number;
  /** When that was; milliseconds since 1970. */
  sentAtMs: number;
  /** That batches have spent in each step. */
  readonly stepMs: Record<Step, number>;
  /** When the oldest event that is on its way was committed; undefined: none is. */
  oldestUnsentMs: number | undefined;
  /** Since this process became the one at work what follows is known. */
  hasRun: boolean;
  /** What PostgreSQL keeps for the slot. */
  retainedWalBytes: number;
  /** More than this is too much. */
  retainedWalLimitBytes: number;
  /** Parked events in the database, counted up to 10,000. */
  parkedInAll: number;
  /** Last order value in Kafka, by topic. */
  sequences: ReadonlyMap<string, number>;
}

export function noFigures(): Figures {
  return {
    ...{ state: { kind: "starting" }, events: 0, batches: 0, parked: 0, lagMs: 0, sentAtMs: 0 },
    ...{ oldestUnsentMs: undefined, hasRun: false, parkedInAll: 0 },
    ...{ retainedWalBytes: 0, retainedWalLimitBytes: Number.POSITIVE_INFINITY },
    ...{ sequences: new Map(), stepMs: { stamp: 0, produce: 0, commit: 0 } },
  };
}

/** For people. */
export function wordsOf(state: State): string {
  switch (state.kind) {
    case "running":
      return "ready";
    case "starting":
      return "it is starting";
    case "standby":
      return "another sequencer of this Outbox is at work; this one stands by";
    case "waiting":
      return `it waits: ${state.why}`;
    case "failed":
      return `it has stopped (${state.reason}): ${state.why}`;
    case "retired":
      return "the slot is given up";
  }
}
