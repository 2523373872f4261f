/**
 * The shared session of one stream: what its client acknowledged of the partitions that it has, and what it is
 * told of them. Between a Subscription, which owns the stream, and a MemberHold, which talks to the store.
 */
import type { Position } from "../../kafka/log.ts";
import type { Clock } from "../../process/clock.ts";
import type { Ack, Opened } from "../../proto/gen/throughline/v1/throughline.ts";
import type { Cursor } from "../dispatch/cursor.ts";
import type { Slice } from "../dispatch/partition-dispatch.ts";
import { Failure } from "../failure.ts";
import { LOSSES } from "../open.ts";
import { encodeToken, type TokenIdentity } from "../token.ts";
import { AckIntake } from "./ack-intake.ts";
import type { AckMode } from "./acks.ts";
import type { Arrival, MemberStream } from "./member-partitions.ts";
import type { OpenedMember } from "./members.ts";
import type { Holder } from "./session-store.ts";
import { type SessionOfStream, type SessionOwner, supersededBy } from "./stream-session.ts";

/** The oldest event of a partition that is not acknowledged. */
interface Oldest {
  readonly offset: number;
  readonly sinceMs: number;
}

export class MemberSession implements SessionOfStream, MemberStream {
  readonly #opened: OpenedMember;
  readonly #identity: TokenIdentity;
  readonly #owner: SessionOwner;
  readonly #clock: Clock;
  readonly #intake: AckIntake;
  /** Below these offsets the owner before may have delivered. */
  readonly #redelivered = new Map<number, number>();
  readonly #oldest = new Map<number, Oldest>();
  #positions: readonly Position[];
  #isAssigned = false;

  /** @param clock for intervals. */
  constructor(
    opened: OpenedMember,
    identity: TokenIdentity,
    mode: AckMode,
    owner: SessionOwner,
    clock: Clock,
  ) {
    this.#opened = opened;
    this.#identity = identity;
    this.#owner = owner;
    this.#clock = clock;
    this.#intake = new AckIntake(mode, identity, true);
    this.#positions = opened.positions;
  }

  async begin(): Promise<void> {
    this.#owner.elsewhere(this.#positions);
  }

  get opened(): NonNullable<Opened["session"]> {
    const { generation, seeks } = this.#opened.hold.membership;
    return {
      ...{ generation: BigInt(generation), seeks: BigInt(seeks), tokenIsOlder: false },
      storedToken: this.#opened.isNew ? Buffer.alloc(0) : this.savedToken,
    };
  }

  openedSent(): void {
    for (const [partition, from] of (this.#opened.recreatedFrom ?? []).entries()) {
      const value = {
        ...{
          partition,
          fromOffset: BigInt(from.offset),
          loss: LOSSES.gone,
          token: this.#owner.token(),
        },
        toOffset: BigInt(this.#positions[partition]?.offset ?? 0),
      } as const;
      this.#owner.send({ $case: "restarted", value });
    }
    this.#opened.hold.begin(this);
  }

  get savedToken(): Buffer {
    return encodeToken(this.#identity, this.#positions);
  }

  get mayDeliver(): boolean {
    return this.#opened.hold.mayDeliver;
  }

  holds(cursor: Cursor): void {
    this.#intake.acks.hold(cursor);
  }

  maybeRedelivered({ partition }: Cursor, { before }: Slice): boolean {
    return before.offset < (this.#redelivered.get(partition) ?? 0);
  }

  sent(partition: number, slice: Slice): void {
    this.#intake.acks.sent(partition, slice);
  }

  /** @throws Failure INVALID_REQUEST, and nothing moved. */
  ack(ack: Ack): void {
    this.#intake.ack(ack, Math.max(this.#positions.length, this.#opened.hold.partitions));
    this.#opened.hold.changed();
  }

  /** @throws Failure INVALID_REQUEST, and nothing moved. */
  returned(events: number): void {
    this.#intake.acks.returned(events);
    this.#opened.hold.changed();
  }

  scanned(): void {
    this.#judgeAge();
    this.#opened.hold.changed();
  }

  recovered(cursor: Cursor, notice: Buffer): void {
    this.#intake.recovered(cursor, notice);
    this.#opened.hold.changed();
  }

  /** New partitions come as the others do: by assignment. */
  grown(partitions: number): boolean {
    this.#opened.hold.grown(partitions);
    return true;
  }

  close(isInOrder: boolean): Promise<void> {
    return this.#opened.leave(isInOrder);
  }

  position(partition: number): Position {
    return this.#intake.acks.position(partition);
  }

  isSettled(partition: number): boolean {
    return !this.#intake.acks.isOut(partition);
  }

  isInDoubt(partition: number): boolean {
    return this.position(partition).offset < (this.#redelivered.get(partition) ?? 0);
  }

  async prepare(arrivals: readonly Arrival[]): Promise<void> {
    await Promise.all(
      arrivals.map(async ({ partition }) => {
        this.#redelivered.set(partition, await this.#opened.endOf(partition));
      }),
    );
  }

  delivers(arrivals: readonly Arrival[]): void {
    const partitions = arrivals.map(({ partition }) => partition);
    if (partitions.length === 0 && this.#isAssigned) return;
    this.#isAssigned = true;
    this.#owner.send({ $case: "assigned", value: { partitions } });
    for (const { partition, unclean } of arrivals) {
      if (!unclean) this.#redelivered.delete(partition);
      const position = this.#positions[partition] ?? { offset: 0, epoch: -1 };
      this.#owner.deliver(partition, position);
    }
  }

  revoked(partitions: readonly number[], inMs: number | undefined): void {
    const delivered = partitions.filter((partition) => this.#owner.cursors.has(partition));
    for (const partition of delivered) this.#owner.withdraw(partition);
    if (inMs === undefined && delivered.length === 0) return;
    const deadlineMs = BigInt(inMs === undefined ? 0 : Math.round(this.#owner.now() + inMs));
    this.#owner.send({ $case: "revoked", value: { partitions: [...partitions], deadlineMs } });
  }

  released(partition: number): void {
    this.#owner.withdraw(partition);
    this.#intake.acks.drop(partition);
    this.#redelivered.delete(partition);
    this.#oldest.delete(partition);
  }

  stands(positions: readonly Position[]): void {
    this.#positions = positions;
    this.#owner.elsewhere(positions);
  }

  sought(positions: readonly Position[]): void {
    this.#owner.reposition(positions);
    this.#redelivered.clear();
    const token = this.savedToken;
    this.#intake.await(token);
    const { seeks } = this.#opened.hold.membership;
    this.#owner.send({ $case: "repositioned", value: { token, seeks: BigInt(seeks) } });
    this.#owner.goOn();
  }

  superseded(by: Holder | undefined): void {
    supersededBy(this.#owner, by, true);
  }

  unverified(): void {
    this.#owner.send({ $case: "unverified", value: {} });
  }

  fresh(): void {
    this.#owner.goOn();
  }

  failed(failure: Failure): void {
    this.#owner.fail(failure);
  }

  /** A member that takes events and acknowledges none of them holds up all that comes after. */
  #judgeAge(): void {
    const nowMs = this.#clock.now();
    const limitMs = this.#opened.stuckMs;
    for (const [partition, { offset }] of this.#intake.acks.positions()) {
      const oldest = this.#oldest.get(partition);
      if (this.isSettled(partition)) this.#oldest.delete(partition);
      else if (oldest?.offset !== offset) this.#oldest.set(partition, { offset, sinceMs: nowMs });
      else if (nowMs - oldest.sinceMs > limitMs) {
        this.#opened.hold.expel();
        this.failed(
          new Failure(
            "MEMBER_STUCK",
            `Partition ${partition}, offset ${offset}: was not acknowledged for ${limitMs} ms (--member-stuck-ms).`,
          ),
        );
        return;
      }
    }
  }
}
