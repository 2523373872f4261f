/**
 * The three rules that make handoff right. They are injected so that the simulation can break each one
 * on purpose and show that it finds the harm.
 */
import { firstAt, type Segment } from "./segment.ts";
import type { Tail } from "./tail.ts";

export interface DispatchRules {
  /**
   * Merge (P2): a client may join the main dispatcher only where the main's tail goes on without a hole
   * at the client's next offset.
   */
  mayMerge(main: Tail, next: number): boolean;
  /** Demotion (P2): what the client needs next has left the main's tail. */
  fellBehind(main: Tail, next: number): boolean;
  /** Per-client position (P3): the first event of the segment that the client does not have yet. */
  firstWanted(segment: Segment, next: number): number;
}

export const RULES: DispatchRules = {
  mayMerge: (main, next) => main.from <= next && next <= main.next,
  fellBehind: (main, next) => next < main.from,
  firstWanted: firstAt,
};
