/**
 * One stream's membership of a shared session: when the store is asked and told. What follows of its answers
 * for the partitions is member-partitions.ts.
 *
 * Invariants:
 * - J1 One call to the store at a time, so what it answers is never older than what was told before.
 * - J2 Every renewal tells all that is held and where it stands: it saves, and mends a store that lost writes.
 * - J3 Nothing is delivered when the last renewal that was answered is older than the lapse time, by the
 *   steady clock from when it was sent: by then others may have the partitions (P5).
 * - J4 A member that waits for a partition, or has none, looks often; one that delivers learns with its saves.
 */

import type { Clock } from "../../process/clock.ts";
import { Failure } from "../failure.ts";
import type { Metrics } from "../metrics.ts";
import { MemberPartitions, type MemberStream } from "./member-partitions.ts";
import { type Holding, type Membership, tokenOf } from "./membership.ts";
import { unavailable } from "./session-hold.ts";
import type {
  Fence,
  Holder,
  RenewOutcome,
  Seen,
  SessionKey,
  SessionStore,
} from "./session-store.ts";

/** Twice within the bound of P5: who lost a partition stops within 1 s. */
const RENEW_EVERY_MS = 450;
const SAVE_EVERY_MS = 50;
/** A move that is under way towards this member is a matter of milliseconds. */
const LOOK_WAITING_MS = 15;
const LOOK_IDLE_MS = 50;

export interface MemberParts {
  readonly store: SessionStore;
  /** For intervals: not set by anybody while the server runs. */
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, "sessionSaved" | "sessionSuperseded">;
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
  readonly #joined: Seen;
  #stream: MemberStream | undefined;
  #has: MemberPartitions | undefined;
  #aliveUntilMs: number;
  #sequence = 0;
  #calling: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #lastRenewalMs: number;
  #lastLookMs = 0;
  #urgent = false;
  #changed = false;
  #over = false;
  #leaves = false;
  #unverified = false;

  /** @param sentMs when the join was sent, by the steady clock. */
  constructor(parts: MemberParts, joined: Seen, sentMs: number) {
    this.#parts = parts;
    this.#joined = joined;
    this.#lastRenewalMs = sentMs;
    this.#aliveUntilMs = sentMs + parts.lapseMs;
    this.partitions = joined.membership.shares.length;
  }

  get membership(): Membership {
    return this.#has?.known ?? this.#joined.membership;
  }

  get key(): SessionKey {
    return this.#parts.key;
  }

  get topicId(): string {
    return this.#parts.topicId;
  }

  get isUnverified(): boolean {
    return this.#unverified;
  }

  /** What the store has of the whole session, as far as this member knows. */
  get savedToken(): Buffer {
    return tokenOf(this.#parts.key, this.membership);
  }

  /** Of the member that shows the session to people: who has its first partition. */
  get fence(): Fence | undefined {
    const { shares, seeks } = this.membership;
    const { id: claimId } = this.#parts;
    const [first] = shares;
    if (first?.owner !== claimId || !this.mayDeliver) return undefined;
    return { generation: first.generation, claimId, seeks };
  }

  has(partition: number): boolean {
    return this.membership.shares[partition]?.owner === this.#parts.id;
  }

  /** J3. */
  get mayDeliver(): boolean {
    return this.#parts.clock.now() < this.#aliveUntilMs;
  }

  begin(stream: MemberStream): void {
    this.#stream = stream;
    const { id, clock } = this.#parts;
    const urgent = (): void => {
      this.#urgent = true;
      this.#plan();
    };
    const failed = (failure: Failure): void => stream.failed(failure);
    const { membership } = this.#joined;
    this.#has = new MemberPartitions({ id, clock, urgent, failed }, stream, membership);
    this.#has.judge(this.#joined);
    this.#plan();
  }

  /** A position may have moved. */
  changed(): void {
    if (this.#over || !this.#has) return;
    if (this.#has.changed()) this.#changed = true;
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
    const holdings = this.#has?.holdings(isInOrder, true) ?? [];
    this.#has?.close();
    await this.#calling;
    await this.#ask(holdings, leaves, this.#parts.returnMs);
  }

  async #ask(
    holdings: readonly Holding[],
    leaves: boolean,
    lapseMs: number,
  ): Promise<RenewOutcome> {
    const { store, metrics, key, id, topicId, instance, revokeMs } = this.#parts;
    const { partitions } = this;
    const sequence = ++this.#sequence;
    const saves = this.#changed;
    this.#changed = false;
    const outcome = await store.renew(key, {
      ...{ id, topicId, instance, seeks: this.membership.seeks, sequence, partitions },
      ...{ leaves, holdings, lapseMs: Math.ceil(lapseMs), revokeMs },
    });
    if (saves && outcome.kind === "renewed") metrics.sessionSaved();
    return outcome;
  }

  #plan(): void {
    if (this.#over || this.#calling || !this.#stream) return;
    this.#cancelTimer?.();
    const { clock } = this.#parts;
    const every = this.#changed ? SAVE_EVERY_MS : RENEW_EVERY_MS;
    const nowMs = clock.now();
    const renewIn = this.#urgent ? 0 : this.#lastRenewalMs + every - nowMs;
    const lookIn = this.#lastLookMs + this.#lookEveryMs() - nowMs;
    const call = (): void => {
      if (this.#over || this.#calling) return;
      this.#calling = (lookIn < renewIn ? this.#look() : this.#renew()).then(() => {
        this.#calling = undefined;
        this.#plan();
      });
    };
    const wait = Math.min(renewIn, lookIn);
    // What else changes in this turn goes with it.
    if (wait <= 0) void Promise.resolve().then(call);
    else this.#cancelTimer = clock.setTimer(wait, call);
  }

  /** J4. */
  #lookEveryMs(): number {
    if (this.#has?.isAwaiting) return LOOK_WAITING_MS;
    return this.#has?.hasNone ? LOOK_IDLE_MS : Number.POSITIVE_INFINITY;
  }

  async #look(): Promise<void> {
    const { clock, store, key } = this.#parts;
    const state = await store.read(key);
    this.#lastLookMs = clock.now();
    // Anything else the renewal judges.
    if (state.kind === "shared" && state.membership.topicId === this.#parts.topicId)
      this.#has?.judge(state);
  }

  async #renew(): Promise<void> {
    const sentMs = this.#parts.clock.now();
    this.#lastRenewalMs = sentMs;
    this.#urgent = false;
    const holdings = this.#has?.holdings(false, false) ?? [];
    const outcome = await this.#ask(holdings, false, this.#parts.lapseMs);
    if (this.#over) return;
    switch (outcome.kind) {
      case "renewed": {
        const wasStale = !this.mayDeliver;
        this.#aliveUntilMs = sentMs + this.#parts.lapseMs;
        this.#unverified = false;
        this.#has?.told(holdings);
        this.#has?.judge(outcome);
        if (wasStale) this.#stream?.fresh();
        return;
      }
      case "none":
        return this.#restore(holdings);
      case "no-member":
        if (outcome.by) return this.#superseded(outcome.by);
        return this.#fail(
          new Failure("MEMBER_LAPSED", "Others have the partitions of this member by now."),
        );
      case "forgotten":
        return this.#superseded(undefined);
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
    const known = this.membership;
    const shares = [...known.shares];
    for (const { partition, generation, position } of holdings) {
      const share = shares[partition];
      if (share) shares[partition] = { ...share, generation, position, owner: id };
    }
    const done = await store.restore(key, { ...known, shares }, lapseMs);
    this.#urgent = done.kind === "restored";
  }

  #superseded(by: Holder | undefined): void {
    this.#parts.metrics.sessionSuperseded();
    this.#stream?.superseded(by);
  }

  #fail(failure: Failure): void {
    this.#stream?.failed(failure);
  }
}
