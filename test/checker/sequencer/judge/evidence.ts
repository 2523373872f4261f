/** What the judge is given (pure): the database's word, the log, what subscribers had, and what was done to whom. */
import type { Transaction } from "./word.ts";

/** An event as the log has it, or a subscriber had it. */
export interface Seen {
  readonly sequence: number;
  readonly commitId: bigint;
  /** See contentOf. */
  readonly content: string;
  /** When it was first seen, by the machine's clock. */
  readonly atMs: number;
}

/** One who saw a topic from its first event on. */
export interface Watched {
  /** `log`, or a subscriber's name. */
  readonly by: string;
  readonly topic: string;
  readonly events: readonly Seen[];
}

/** What SQL shows in the end. */
export interface Shown {
  readonly eventId: bigint;
  readonly sequence: number;
  readonly commitId: bigint;
}

export interface Deed {
  readonly fault: string;
  readonly target: string;
  readonly fromMs: number;
  /** When everything that it took was up again. */
  readonly toMs: number;
  /** A sequencer had to stop with this reason; what it said instead. */
  readonly stop?: { readonly wanted: string; readonly said: string };
  /** One may stop with these as well as go on. */
  readonly mayStop?: readonly string[];
}

/** A sequencer said that it has stopped. */
export interface Stop {
  readonly name: string;
  readonly atMs: number;
  readonly reason: string;
}

/** A process of the product that ended by itself. */
export interface Crash {
  readonly name: string;
  readonly atMs: number;
  readonly said: readonly string[];
}

export interface Evidence {
  readonly word: readonly Transaction[];
  readonly watched: readonly Watched[];
  readonly shown: readonly Shown[];
  readonly deeds: readonly Deed[];
  readonly stops: readonly Stop[];
  readonly crashes: readonly Crash[];
  /** A subscriber's stream ended with this. */
  readonly ends: readonly { readonly by: string; readonly atMs: number; readonly said: string }[];
}
