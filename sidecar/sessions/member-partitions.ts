/**
 * The partitions that one member of a shared session has, and how each comes and goes.
 *
 * Each is in one state:
 *   arriving    given to it; nothing is delivered yet (the log's end is looked up when it came in doubt)
 *   held        is delivered
 *   revoking    is delivered no more; its client acknowledges what it has, until the deadline
 *   letting-go  the next renewal says so, with the position that stands
 * Neighbour: member-hold.ts talks to the store, and brings here what it says.
 */
import type { Position } from "../../kafka/log.ts";
import type { Clock } from "../../process/clock.ts";
import type { Failure } from "../failure.ts";
import { type Holding, MEMBER_RULES, type Membership, placesOf, type Share } from "./membership.ts";
import type { Holder, Seen } from "./session-store.ts";

export interface Arrival {
  readonly partition: number;
  readonly position: Position;
  readonly unclean: boolean;
}

/** The stream that is the member. */
export interface MemberStream {
  /** Where the session stands in a partition that it has. */
  position(partition: number): Position;
  /** All that was sent of it is acknowledged. */
  isSettled(partition: number): boolean;
  /** What the owner before may have delivered is not passed yet. */
  isInDoubt(partition: number): boolean;
  /** Resolves when the arrivals may be delivered: `delivers` follows. @throws Failure */
  prepare(arrivals: readonly Arrival[]): Promise<void>;
  delivers(arrivals: readonly Arrival[]): void;
  /** Nothing more of them is delivered. @param inMs until they are taken; undefined: they are gone. */
  revoked(partitions: readonly number[], inMs: number | undefined): void;
  released(partition: number): void;
  /** Where the whole session stands. */
  stands(positions: readonly Position[]): void;
  sought(positions: readonly Position[]): void;
  superseded(by: Holder | undefined): void;
  unverified(): void;
  /** It may deliver again. */
  fresh(): void;
  failed(failure: Failure): void;
}

type Has =
  | { readonly at: "arriving"; readonly generation: number; readonly share: Share }
  | { readonly at: "held"; readonly generation: number }
  | { readonly at: "revoking"; readonly generation: number; readonly cancel: () => void }
  | {
      readonly at: "letting-go";
      readonly generation: number;
      readonly position: Position;
      readonly isClean: boolean;
    };

export interface PartitionsParts {
  readonly id: string;
  /** For intervals. */
  readonly clock: Clock;
  /** The store is to hear at once. */
  urgent(): void;
  failed(failure: Failure): void;
}

export class MemberPartitions {
  readonly #parts: PartitionsParts;
  readonly #stream: MemberStream;
  readonly #has = new Map<number, Has>();
  #known: Membership;
  #isAwaiting = false;
  #over = false;

  constructor(parts: PartitionsParts, stream: MemberStream, known: Membership) {
    this.#parts = parts;
    this.#stream = stream;
    this.#known = known;
  }

  get known(): Membership {
    return this.#known;
  }

  /** A partition is on its way to this member. */
  get isAwaiting(): boolean {
    return this.#isAwaiting;
  }

  get hasNone(): boolean {
    return this.#has.size === 0;
  }

  /** Lets go of what is settled. @returns whether a position is not the store's any more. */
  changed(): boolean {
    let moved = false;
    for (const [partition, has] of this.#has) {
      if (has.at === "revoking" && this.#stream.isSettled(partition)) this.#letGo(partition);
      if (has.at !== "held") continue;
      const { offset, epoch } = this.#stream.position(partition);
      const saved = this.#known.shares[partition]?.position;
      moved ||= saved?.offset !== offset || saved.epoch !== epoch;
    }
    return moved;
  }

  /** The store knows: what was let go is another's. */
  told(holdings: readonly Holding[]): void {
    for (const { partition, letsGo } of holdings) {
      if (!letsGo) continue;
      this.#has.delete(partition);
      this.#stream.released(partition);
    }
  }

  close(): void {
    this.#over = true;
    for (const has of this.#has.values()) if (has.at === "revoking") has.cancel();
  }

  /**
   * What the store is told.
   * @param isLast nothing more is delivered.
   * @param isInOrder what was not acknowledged was not taken.
   */
  holdings(isInOrder: boolean, isLast: boolean): Holding[] {
    const stream = this.#stream;
    return Array.from(this.#has, ([partition, has]): Holding => {
      const { generation } = has;
      if (has.at === "letting-go") return { ...{ partition, generation }, ...has, letsGo: true };
      if (has.at === "arriving") {
        const { position, unclean } = has.share;
        return { partition, generation, position, isClean: !unclean, letsGo: false };
      }
      const settled = isInOrder || stream.isSettled(partition);
      const isClean = isLast && settled && !stream.isInDoubt(partition);
      const position = stream.position(partition);
      return { partition, generation, position, isClean, letsGo: false };
    });
  }

  /** What the store says. */
  judge({ membership, nowMs }: Seen): void {
    const stream = this.#stream;
    const { id } = this.#parts;
    const soughtBefore = this.#known.seeks;
    this.#known = membership;
    const arrivals: Arrival[] = [];
    const gone: number[] = [];
    const leaving: number[] = [];
    let deadlineMs = 0;
    let isAwaiting = false;
    for (const [partition, share] of membership.shares.entries()) {
      const has = this.#has.get(partition);
      const isNewer = MEMBER_RULES.isNewer(share, has?.generation ?? -1);
      const mine = share.owner === id;
      if (!mine) isAwaiting ||= share.target === id;
      if (has && isNewer) {
        this.#forget(partition, has);
        gone.push(partition);
      }
      if (mine && isNewer) {
        // It was another's meanwhile, who may have left in order: what this one sent until it heard of that
        // comes again (P3).
        const unclean = share.unclean || has?.at === "held" || has?.at === "revoking";
        const { generation, position } = share;
        this.#has.set(partition, { at: "arriving", generation, share: { ...share, unclean } });
        arrivals.push({ partition, position, unclean });
      } else if (mine && share.target !== id && (has?.at === "held" || has?.at === "arriving")) {
        leaving.push(partition);
        deadlineMs = Math.max(deadlineMs, share.deadlineMs);
      }
    }
    this.#isAwaiting = isAwaiting;
    stream.stands(placesOf(membership));
    if (membership.seeks > soughtBefore) this.#sought(membership);
    if (gone.length > 0) stream.revoked(gone, undefined);
    for (const partition of gone) stream.released(partition);
    if (leaving.length > 0) this.#revoke(leaving, Math.max(0, deadlineMs - nowMs));
    void this.#arrive(arrivals);
  }

  async #arrive(arrivals: readonly Arrival[]): Promise<void> {
    const stream = this.#stream;
    const entries = arrivals.map(({ partition }) => this.#has.get(partition));
    const isStill = (i: number): boolean =>
      !this.#over && this.#has.get(arrivals[i]?.partition ?? -1) === entries[i];
    const doubtful = arrivals.filter(({ unclean }) => unclean);
    const deliver = (wanted: (arrival: Arrival) => boolean): void => {
      const now = arrivals.filter((arrival, i) => isStill(i) && wanted(arrival));
      if (this.#over) return;
      stream.delivers(now);
      for (const { partition } of now) {
        const has = this.#has.get(partition);
        if (has?.at === "arriving")
          this.#has.set(partition, { at: "held", generation: has.generation });
      }
    };
    if (doubtful.length === 0 || doubtful.length < arrivals.length)
      deliver(({ unclean }) => !unclean);
    if (doubtful.length === 0) return;
    try {
      await stream.prepare(doubtful);
      deliver(({ unclean }) => unclean);
    } catch (error) {
      if (!this.#over) this.#parts.failed(error as Failure);
    }
  }

  #revoke(partitions: readonly number[], inMs: number): void {
    const delivered = partitions.filter((partition) => this.#has.get(partition)?.at === "held");
    for (const partition of partitions) {
      const has = this.#has.get(partition) as Has;
      if (has.at === "arriving") {
        const { position, unclean } = has.share;
        const { generation } = has;
        this.#has.set(partition, { at: "letting-go", generation, position, isClean: !unclean });
        this.#parts.urgent();
        continue;
      }
      const cancel = this.#parts.clock.setTimer(inMs, () => this.#letGo(partition));
      this.#has.set(partition, { at: "revoking", generation: has.generation, cancel });
    }
    if (delivered.length > 0) this.#stream.revoked(delivered, inMs);
    this.changed();
  }

  #letGo(partition: number): void {
    const has = this.#has.get(partition);
    const stream = this.#stream;
    if (has?.at !== "revoking") return;
    has.cancel();
    const isClean = stream.isSettled(partition) && !stream.isInDoubt(partition);
    const position = stream.position(partition);
    this.#has.set(partition, { at: "letting-go", generation: has.generation, position, isClean });
    this.#parts.urgent();
  }

  /** Positions of what is delivered are the sought ones; what was about to go goes with them. */
  #sought(membership: Membership): void {
    for (const [partition, has] of this.#has) {
      const share = membership.shares[partition];
      if (!share) continue;
      const { generation } = has;
      if (has.at === "arriving") this.#has.set(partition, { ...has, share });
      if (has.at !== "revoking" && has.at !== "letting-go") continue;
      this.#forget(partition, has);
      const { position } = share;
      this.#has.set(partition, { at: "letting-go", generation, position, isClean: true });
      this.#parts.urgent();
    }
    this.#stream.sought(placesOf(membership));
  }

  #forget(partition: number, has: Has): void {
    if (has.at === "revoking") has.cancel();
    this.#has.delete(partition);
  }
}
