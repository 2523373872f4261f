/** One partition with its dispatchers on a log in memory, and clients that pull at a pace of their own. */
import type { Log } from "../../kafka/log.ts";
import { CatchUpBudget } from "../../sidecar/dispatch/catch-up-budget.ts";
import { CatchUpLoad } from "../../sidecar/dispatch/catch-up-load.ts";
import { Cursor, type CursorOwner } from "../../sidecar/dispatch/cursor.ts";
import type {
  DispatchClock,
  DispatchHost,
  DispatchLimits,
} from "../../sidecar/dispatch/dispatch-host.ts";
import { SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import type { PartitionDispatch } from "../../sidecar/dispatch/partition-dispatch.ts";
import { PLANNING_PACE } from "../../sidecar/dispatch/plan-catch-up.ts";
import { RULES } from "../../sidecar/dispatch/rules.ts";
import { Turns } from "../../sidecar/dispatch/turns.ts";

/** How many bytes a client takes at a time, and for how long it is busy with them. */
export interface Pace {
  readonly bytes: number;
  readonly busyMs: () => number;
}

interface HostSettings {
  readonly log: Log;
  readonly clock: DispatchClock;
  readonly limits: DispatchLimits;
  readonly nextTurn: (begin: () => void) => void;
  readonly saturated?: () => boolean;
  readonly catchUpBytesRead?: (bytes: number) => void;
}

const none = (): void => {};

export function dispatchHost({
  log,
  clock,
  limits,
  nextTurn,
  ...more
}: HostSettings): DispatchHost {
  return {
    ...{ log, clock, limits, encoder: new SegmentEncoder(), rules: RULES, pace: PLANNING_PACE },
    metrics: {
      ...{ catchUpsMade: none, catchUpShared: none, eventsQueuedDuringCatchUp: none },
      ...{ merges: none, demotions: none },
      logBytesRead: (bytes, path) => {
        if (path === "catch-up") more.catchUpBytesRead?.(bytes);
      },
    },
    budget: new CatchUpBudget(4),
    load: new CatchUpLoad(more.saturated ?? (() => false), PLANNING_PACE, clock.now()),
    turns: new Turns(clock, 1 << 20, nextTurn),
    tailBytesAllowed: () => 1 << 20,
    ...{ tailBytes: none, catchUpBytes: none },
    reads: { readOk: none, readFailed: none, readEnded: none },
  };
}

export class PacedClient implements CursorOwner {
  readonly cursor: Cursor;
  /** Offsets in the order in which they came. */
  readonly taken: number[] = [];
  readonly #partition: PartitionDispatch;
  readonly #clock: DispatchClock;
  readonly #pace: Pace;
  #pulling = false;

  constructor(partition: PartitionDispatch, clock: DispatchClock, from: number, pace: Pace) {
    this.#partition = partition;
    this.#clock = clock;
    this.#pace = pace;
    this.cursor = new Cursor(this, 0, from, -1);
    partition.add(this.cursor);
    this.ready();
  }

  canTake(): boolean {
    return !this.#pulling;
  }

  ready(): void {
    if (this.#pulling) return;
    const slice = this.#partition.pull(this.cursor);
    if (slice === undefined) return;
    this.#pulling = true;
    this.#clock.setTimer(this.#pace.busyMs(), () => {
      this.#pulling = false;
      this.ready();
    });
  }

  select(_cursor: Cursor, segment: Parameters<CursorOwner["select"]>[1], first: number) {
    let end = first;
    const start = segment.starts[first] as number;
    while (end < segment.count && (segment.starts[end] as number) - start < this.#pace.bytes) {
      this.taken.push(segment.base + (segment.deltas[end++] as number));
    }
    const bytes = (segment.starts[end] as number) - start;
    return { ranges: [], count: end - first, bytes, end };
  }

  lost(): void {
    throw new Error("lost");
  }

  failed(): void {
    throw new Error("failed");
  }
}
