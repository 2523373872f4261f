/**
 * One stream's membership of a shared session: renews it, saves, and learns which partitions it has.
 *
 * Each partition that it has is in one state:
 *   arriving    given to it; nothing is delivered yet (the log's end is looked up when it came in doubt)
 *   held        is delivered
 *   revoking    is delivered no more; its client acknowledges what it has, until the deadline
 *   letting-go  the next renewal says so, with the position that stands
 *
 * Invariants:
 * - J1 One call to the store at a time, so what it answers is never older than what was told before.
 * - J2 Every renewal tells all that is held and where it stands: it saves, and mends a store that lost writes.
 * - J3 Nothing is delivered when the last renewal that was answered is older than the lapse time, by the
 *   steady clock from when it was sent: by then others may have the partitions (P5).
 * - J4 A member that waits for a partition, or has none, looks often; one that delivers learns with its saves.
 */
import type { Position } from "../../kafka/log.ts";
import { Failure } from "../failure.ts";
import type { Clock } from "../server-context.ts";
import { type Holding, type Membership, placesOf, type Share } from "./membership.ts";
import { unavailable } from "./session-hold.ts";
import type { Holder, RenewOutcome, Seen, SessionKey, SessionStore } from "./session-store.ts";

/** Twice within the bound of P5: who lost a partition stops within 1 s. */
const RENEW_EVERY_MS = 450;
const SAVE_EVERY_MS = 50;
/** A move that is under way towards this member is a matter of milliseconds. */
const LOOK_WAITING_MS = 15;
const LOOK_IDLE_MS = 50;

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

export interface MemberParts {
  readonly store: SessionStore;
  /** For intervals: not set by anybody while the server runs. */
  readonly clock: Clock;
  readonly key: SessionKey;
  readonly id: string;
  readonly topicId: string;
  readonly instance: string;
  readonly strict: boolean;
  readonly lapseMs: number;
  readonly returnMs: number;
  readonly revokeMs: number;
}

export class MemberHold {
  partitions: number;
  readonly #parts: MemberParts;
  readonly #has = new Map<number, Has>();
  #stream: MemberStream | undefined;
  #known: Membership;
  #nowMs: number;
  #aliveUntilMs: number;
  #sequence = 0;
  #calling: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #lastRenewalMs: number;
  #lastLookMs = 0;
  #lookEveryMs: number | undefined;
  #urgent = false;
  #changed = false;
  #over = false;
  #leaves = false;
  #unverified = false;

  /** @param sentMs when the join was sent, by the steady clock. */
  constructor(parts: MemberParts, { membership, nowMs }: Seen, sentMs: number) {
    this.#parts = parts;
    this.#known = membership;
    this.#nowMs = nowMs;
    this.#lastRenewalMs = sentMs;
    this.#aliveUntilMs = sentMs + parts.lapseMs;
    this.partitions = membership.shares.length;
  }

  get membership(): Membership {
    return this.#known;
  }

  /** J3. */
  get mayDeliver(): boolean {
    return this.#parts.clock.now() < this.#aliveUntilMs;
  }

  begin(stream: MemberStream): void {
    this.#stream = stream;
    this.#judge({ membership: this.#known, nowMs: this.#nowMs });
    this.#plan();
  }

  /** A position may have moved. */
  changed(): void {
    const stream = this.#stream;
    if (this.#over || !stream) return;
    for (const [partition, has] of this.#has) {
      if (has.at === "revoking" && stream.isSettled(partition)) this.#letGo(partition);
      if (has.at !== "held") continue;
      const { offset, epoch } = stream.position(partition);
      const saved = this.#known.shares[partition]?.position;
      if (saved?.offset !== offset || saved.epoch !== epoch) this.#changed = true;
    }
    this.#plan();
  }

  grown(partitions: number): void {
    this.partitions = Math.max(partitions, this.partitions);
    this.#urgent = true;
    this.#plan();
  }

  /** It is to have its partitions no more, whatever it comes back as. */
  expel(): void {
    this.#leaves = true;
  }

  /**
   * The stream has ended. Saves where it stood; in order it leaves, otherwise its partitions are kept a while
   * for the same instance. Never rejects.
   */
  async close(isInOrder: boolean): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#cancelTimer?.();
    const leaves = isInOrder || this.#leaves || !this.#stream || this.#parts.instance === "";
    const holdings = this.#holdings(isInOrder, true);
    for (const has of this.#has.values()) if (has.at === "revoking") has.cancel();
    await this.#calling;
    await this.#ask(holdings, leaves, this.#parts.returnMs);
  }

  #holdings(isInOrder: boolean, isLast: boolean): Holding[] {
    const stream = this.#stream;
    if (!stream) return [];
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

  #ask(holdings: readonly Holding[], leaves: boolean, lapseMs: number): Promise<RenewOutcome> {
    const { store, key, id, topicId, instance, revokeMs } = this.#parts;
    const { partitions } = this;
    const sequence = ++this.#sequence;
    return store.renew(key, {
      ...{ id, topicId, instance, seeks: this.#known.seeks, sequence, partitions },
      ...{ leaves, holdings, lapseMs: Math.ceil(lapseMs), revokeMs },
    });
  }

  #plan(): void {
    if (this.#over || this.#calling || !this.#stream) return;
    this.#cancelTimer?.();
    const { clock } = this.#parts;
    const every = this.#changed ? SAVE_EVERY_MS : RENEW_EVERY_MS;
    const nowMs = clock.now();
    const renewIn = this.#urgent ? 0 : this.#lastRenewalMs + every - nowMs;
    const lookIn = this.#lastLookMs + (this.#lookEveryMs ?? Number.POSITIVE_INFINITY) - nowMs;
    const call = (): void => {
      if (this.#over || this.#calling) return;
      this.#calling = (lookIn < renewIn ? this.#look() : this.#renew()).then(() => {
        this.#calling = undefined;
        this.#plan();
      });
    };
    const wait = Math.min(renewIn, lookIn);
    if (wait <= 0) call();
    else this.#cancelTimer = clock.setTimer(wait, call);
  }

  async #look(): Promise<void> {
    const { clock, store, key } = this.#parts;
    const state = await store.read(key);
    this.#lastLookMs = clock.now();
    // Anything else the renewal judges.
    if (state.kind === "shared" && state.membership.topicId === this.#parts.topicId)
      this.#judge(state);
  }

  async #renew(): Promise<void> {
    const sentMs = this.#parts.clock.now();
    this.#lastRenewalMs = sentMs;
    this.#urgent = false;
    this.#changed = false;
    const holdings = this.#holdings(false, false);
    const outcome = await this.#ask(holdings, false, this.#parts.lapseMs);
    if (this.#over) return;
    switch (outcome.kind) {
      case "renewed": {
        const wasStale = !this.mayDeliver;
        this.#aliveUntilMs = sentMs + this.#parts.lapseMs;
        this.#unverified = false;
        for (const { partition, letsGo } of holdings) {
          if (!letsGo) continue;
          this.#has.delete(partition);
          this.#stream?.released(partition);
        }
        this.#judge(outcome);
        if (wasStale) this.#stream?.fresh();
        return;
      }
      case "none":
        return this.#restore(holdings);
      case "no-member":
        if (outcome.by) return this.#end(() => this.#stream?.superseded(outcome.by));
        return this.#fail(
          new Failure("MEMBER_LAPSED", "Others have the partitions of this member by now."),
        );
      case "forgotten":
        return this.#end(() => this.#stream?.superseded(undefined));
      case "unreadable":
        return this.#fail(new Failure("SESSION_UNREADABLE", outcome.reason));
      default:
        if (this.#unverified) return;
        this.#unverified = true;
        if (this.#parts.strict) this.#fail(unavailable("the stream was opened as strict"));
        else this.#stream?.unverified();
    }
  }

  async #restore(holdings: readonly Holding[]): Promise<void> {
    const { store, key, id, lapseMs } = this.#parts;
    const shares = [...this.#known.shares];
    for (const { partition, generation, position } of holdings) {
      const share = shares[partition];
      if (share) shares[partition] = { ...share, generation, position, owner: id };
    }
    const done = await store.restore(key, { ...this.#known, shares }, lapseMs);
    this.#urgent = done.kind === "restored";
  }

  #judge({ membership, nowMs }: Seen): void {
    const stream = this.#stream as MemberStream;
    const { id } = this.#parts;
    const soughtBefore = this.#known.seeks;
    this.#known = membership;
    this.#nowMs = nowMs;
    const arrivals: Arrival[] = [];
    const gone: number[] = [];
    const leaving: number[] = [];
    let deadlineMs = 0;
    let isAwaiting = false;
    for (const [partition, share] of membership.shares.entries()) {
      const has = this.#has.get(partition);
      const isNewer = share.generation > (has?.generation ?? -1);
      const mine = share.owner === id;
      if (!mine) isAwaiting ||= share.target === id;
      if (has && isNewer) {
        this.#forget(partition, has);
        gone.push(partition);
      }
      if (mine && isNewer) {
        const { generation, position, unclean } = share;
        this.#has.set(partition, { at: "arriving", generation, share });
        arrivals.push({ partition, position, unclean });
      } else if (mine && share.target !== id && (has?.at === "held" || has?.at === "arriving")) {
        leaving.push(partition);
        deadlineMs = Math.max(deadlineMs, share.deadlineMs);
      }
    }
    this.#lookEveryMs = isAwaiting ? LOOK_WAITING_MS : undefined;
    if (this.#has.size === 0) this.#lookEveryMs ??= LOOK_IDLE_MS;
    stream.stands(placesOf(membership));
    if (membership.seeks > soughtBefore) this.#sought(membership);
    if (gone.length > 0) stream.revoked(gone, undefined);
    for (const partition of gone) stream.released(partition);
    if (leaving.length > 0) this.#revoke(leaving, Math.max(0, deadlineMs - nowMs));
    void this.#arrive(arrivals);
  }

  async #arrive(arrivals: readonly Arrival[]): Promise<void> {
    const stream = this.#stream as MemberStream;
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
      this.#fail(error as Failure);
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
        this.#urgent = true;
        continue;
      }
      const letGo = (): void => {
        this.#letGo(partition);
        this.#plan();
      };
      const cancel = this.#parts.clock.setTimer(inMs, letGo);
      this.#has.set(partition, { at: "revoking", generation: has.generation, cancel });
    }
    if (delivered.length > 0) this.#stream?.revoked(delivered, inMs);
    this.changed();
  }

  #letGo(partition: number): void {
    const has = this.#has.get(partition);
    const stream = this.#stream;
    if (has?.at !== "revoking" || !stream) return;
    has.cancel();
    const isClean = stream.isSettled(partition) && !stream.isInDoubt(partition);
    const position = stream.position(partition);
    this.#has.set(partition, { at: "letting-go", generation: has.generation, position, isClean });
    this.#urgent = true;
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
      this.#urgent = true;
    }
    this.#stream?.sought(placesOf(membership));
  }

  #forget(partition: number, has: Has): void {
    if (has.at === "revoking") has.cancel();
    this.#has.delete(partition);
  }

  #fail(failure: Failure): void {
    this.#end(() => this.#stream?.failed(failure));
  }

  /** Nothing is saved any more, but what the closing stream still may. */
  #end(tell: () => void): void {
    for (const has of this.#has.values()) if (has.at === "revoking") has.cancel();
    tell();
  }
}
