/**
 * What the judge holds the histories against (pure): the log as the witness read it, of every incarnation of
 * every Topic, and what the schedule did, when, to whom.
 */

/** One partition of one incarnation: every committed event, by rising offset. */
export class PartitionLog {
  readonly offsets: number[] = [];
  readonly contents: string[] = [];
  /** When the witness first had it. */
  readonly seenMs: number[] = [];
  /** Deletions: what lies below is gone, at the earliest from `fromMs` on, for certain from `toMs` on. */
  readonly trims: { readonly below: number; readonly fromMs: number; readonly toMs: number }[] = [];

  add(offset: number, content: string, seenMs: number): void {
    this.offsets.push(offset);
    this.contents.push(content);
    this.seenMs.push(seenMs);
  }

  /** Index of the first event at or after this offset. */
  from(offset: number): number {
    let low = 0;
    let high = this.offsets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.offsets[middle] as number) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Index of the event at this offset; -1 when there is none. */
  at(offset: number): number {
    const index = this.from(offset);
    return this.offsets[index] === offset ? index : -1;
  }

  /** The event may have been deleted by then. */
  mayBeGone(offset: number, atMs: number): boolean {
    return this.trims.some(({ below, fromMs }) => offset < below && fromMs <= atMs);
  }
}

/** The store forgets, and is told again by whoever has a session. */
export const LOST_STORE = /^store-emptied$/;

export interface Incarnation {
  readonly topic: string;
  readonly id: string;
  readonly partitions: PartitionLog[];
  /** From when on its Kafka topic may be gone. */
  goneMs?: number;
}

export interface Deed {
  /** As in the schedule. */
  readonly fault: string;
  readonly target: string;
  readonly fromMs: number;
  /** When everything that it took was up again. */
  readonly toMs: number;
}

export interface Sample {
  readonly atMs: number;
  readonly server: string;
  readonly rssBytes: number;
}

/** What Kafka shows of a session as group offsets. */
export interface Shown {
  readonly atMs: number;
  readonly topic: string;
  readonly session: string;
  /** By partition; below 0 where nothing is committed. */
  readonly next: readonly number[];
}

/** SeekSession or ForgetSession. */
export interface Move {
  readonly kind: "seek" | "forget";
  readonly topic: string;
  readonly session: string;
  readonly fromMs: number;
  /** Of the answer; when there was none, when it is done at the latest. */
  readonly toMs: number;
  readonly isDone: boolean;
  /** Where the session stands then; empty when it was forgotten. */
  readonly token: string;
}

/** What GetSession answered. Each was asked for after the one before it was answered. */
export interface Stood {
  readonly atMs: number;
  readonly topic: string;
  readonly session: string;
  readonly token: string;
}

/** A server that ended by itself. */
export interface Crash {
  readonly atMs: number;
  readonly server: string;
  /** The end of what it said. */
  readonly said: readonly unknown[];
}

export interface World {
  /** By topic id. */
  readonly topics: ReadonlyMap<string, Incarnation>;
  readonly deeds: readonly Deed[];
  /** When an event was sent, by its content. */
  readonly sentMs: ReadonlyMap<string, number>;
  readonly acknowledged: ReadonlySet<string>;
  readonly samples: readonly Sample[];
  readonly crashes: readonly Crash[];
  readonly shown: readonly Shown[];
  readonly stood: readonly Stood[];
  readonly moves: readonly Move[];
  /** Which process each client is in, as deeds name it. */
  readonly processes: ReadonlyMap<string, string>;
  readonly rssCapBytes: number;
}

/** The parts of this time in which nothing was being done to anything. */
export function calmIn(
  world: World,
  fromMs: number,
  toMs: number,
): readonly { readonly fromMs: number; readonly toMs: number }[] {
  const deeds = world.deeds
    .filter((deed) => deed.toMs > fromMs && deed.fromMs < toMs)
    .sort((a, b) => a.fromMs - b.fromMs);
  const calm = [];
  let from = fromMs;
  for (const deed of deeds) {
    if (deed.fromMs > from) calm.push({ fromMs: from, toMs: deed.fromMs });
    from = Math.max(from, deed.toMs);
  }
  if (from < toMs) calm.push({ fromMs: from, toMs });
  return calm;
}

/** What was asked of the session of these streams. */
export function movesOf({ moves }: World, streams: readonly { open: Named }[]): readonly Move[] {
  const { topic, session } = streams[0]?.open ?? {};
  return moves.filter((move) => move.topic === topic && move.session === session);
}

interface Named {
  readonly topic: string;
  readonly session?: string;
}

/** Something of this kind was under way, or ended shortly before. */
export function struck(world: World, faults: RegExp, fromMs: number, toMs: number): boolean {
  return world.deeds.some(
    (deed) => faults.test(deed.fault) && deed.toMs >= fromMs && deed.fromMs <= toMs,
  );
}
