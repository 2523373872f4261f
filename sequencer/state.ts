/** What a sequencer does now, for log, readiness and metrics: one value, told when it changes. */
import type { StopReason } from "./fail-closed.ts";

export type State =
  | { readonly kind: "starting" }
  /** Another one is at work. */
  | { readonly kind: "standby" }
  | { readonly kind: "running" }
  /** It goes on by itself when this has changed. */
  | { readonly kind: "waiting"; readonly why: string }
  /** A person must mend it. */
  | { readonly kind: "failed"; readonly reason: StopReason; readonly why: string };

export interface Figures {
  state: State;
  /** Events and batches that this process has sent. */
  events: number;
  batches: number;
  parked: number;
  /** How long ago the last event that was sent had been committed, when it was sent. */
  lagMs: number;
  /** What PostgreSQL keeps for the slot. */
  retainedWalBytes: number;
  /** Last order value in Kafka, by topic. */
  sequences: ReadonlyMap<string, number>;
}

export function noFigures(): Figures {
  return {
    ...{ state: { kind: "starting" }, events: 0, batches: 0, parked: 0, lagMs: 0 },
    ...{ retainedWalBytes: 0, sequences: new Map() },
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
  }
}
