/**
 * The world as dispatchers see it: clock, log, encoder, byte budgets, metrics and rules come in by this
 * door, so that the simulation drives the very same code in virtual time.
 */
import type { Log, TopicInfo } from "../../kafka/log.ts";
import type { CatchUpBudget } from "./catch-up-budget.ts";
import type { CatchUpLoad } from "./catch-up-load.ts";
import type { SegmentEncoder } from "./encoder.ts";
import type { PlanningPace } from "./plan-catch-up.ts";
import type { DispatchRules } from "./rules.ts";
import type { Turns } from "./turns.ts";

export interface DispatchClock {
  now(): number;
  /** @returns cancels the timer. */
  setTimer(ms: number, fire: () => void): () => void;
}

export interface DispatchMetrics {
  catchUpsMade(): void;
  catchUpShared(): void;
  eventsQueuedDuringCatchUp(count: number): void;
  merges(): void;
  demotions(): void;
  logBytesRead(bytes: number, path: "live" | "catch-up"): void;
}

export interface DispatchLimits {
  /** Cap of one main dispatcher's tail. */
  readonly tailPartitionBytes: number;
  /** What one catch-up dispatcher keeps for its members. */
  readonly catchUpWindowBytes: number;
  /** What one fetch asks for. */
  readonly fetchBytes: number;
  /** A resuming client may wait for a catch-up that is at most this far behind it. */
  readonly shareDistanceBytes: number;
  readonly sharedStallMs: number;
  readonly aloneStallMs: number;
  /** Longest poll at the end of the log. */
  readonly pollMs: number;
}

/** The live read of one partition. Known by identity: a main dispatcher makes one and keeps it. */
export interface LiveRead {
  readonly topic: TopicInfo;
  readonly partition: number;
}

/** Is told how reads fare. */
export interface ReadsWatch {
  readOk(read: LiveRead): void;
  readFailed(read: LiveRead, reason: string): void;
  /** Nobody reads there any more: what was held against it is forgotten. */
  readEnded(read: LiveRead): void;
}

export interface DispatchHost {
  readonly log: Log;
  readonly clock: DispatchClock;
  readonly encoder: SegmentEncoder;
  readonly rules: DispatchRules;
  readonly limits: DispatchLimits;
  readonly metrics: DispatchMetrics;
  readonly budget: CatchUpBudget;
  readonly turns: Turns;
  readonly pace: PlanningPace;
  readonly load: CatchUpLoad;
  /** Bytes that all main tails may hold divides over the partitions that are served. */
  tailBytesAllowed(): number;
  tailBytes(delta: number): void;
  catchUpBytes(delta: number): void;
  readonly reads: ReadsWatch;
}
