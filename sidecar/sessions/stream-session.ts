/**
 * The session of one stream: what its client acknowledged, what the store says, and what the client is
 * told of it. Between a Subscription, which owns the stream, and a SessionHold, which talks to the store.
 */
import type { Position } from "../../kafka/log.ts";
import type { Ack, Opened, SubscribeResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import type { Cursor } from "../dispatch/cursor.ts";
import type { Slice } from "../dispatch/partition-dispatch.ts";
import { Failure } from "../failure.ts";
import type { SessionFrames } from "../stream.ts";
import { encodeToken, type TokenIdentity } from "../token.ts";
import { AckIntake } from "./ack-intake.ts";
import type { AckMode } from "./acks.ts";
import type { SessionStream } from "./session-hold.ts";
import type { Holder } from "./session-store.ts";
import { type OpenedSession, readStored, type Sessions } from "./sessions.ts";

/** What a Subscription has of its session, exclusive or shared. */
export interface SessionOfStream extends SessionFrames {
  /** The cursors are where the stream starts. @throws Failure */
  begin(): Promise<void>;
  /** What Opened says of it; notices may follow once it was sent. */
  readonly opened: NonNullable<Opened["session"]>;
  openedSent(): void;
  readonly savedToken: Buffer;
  /** @throws Failure INVALID_REQUEST, and nothing moved. */
  ack(ack: Ack): void;
  /** @throws Failure INVALID_REQUEST, and nothing moved. */
  returned(events: number): void;
  /** The scan has moved: with nothing out the position goes with it. */
  scanned(): void;
  /** Recovery has moved this cursor, and the client hears of it by a notice with this token. */
  recovered(cursor: Cursor, notice: Buffer): void;
  /** The topic has more partitions. True: the session sees to them. */
  grown(partitions: number): boolean;
  /**
   * Resolves when the session is saved, and released: if all that was sent is acknowledged, or the client
   * left in order, which says that it took nothing that it did not acknowledge.
   */
  close(isInOrder: boolean): Promise<void>;
}

/** What a session may do to the stream that has it. */
export interface SessionOwner {
  /** By partition. */
  readonly cursors: ReadonlyMap<number, Cursor>;
  send(kind: NonNullable<SubscribeResponse["kind"]>): void;
  fail(failure: Failure): void;
  /** Moves the cursors, one per partition. Nothing is sent from there before `goOn`. */
  reposition(positions: readonly Position[]): void;
  goOn(): void;
  token(): Buffer;
  /** Milliseconds since 1970. */
  now(): number;
  /** Shared sessions: a partition is delivered from here, and no more. */
  deliver(partition: number, position: Position): void;
  withdraw(partition: number): void;
  /** Shared sessions: what the token says of partitions that are not delivered. */
  elsewhere(positions: readonly Position[]): void;
}

export class ExclusiveSession implements SessionOfStream, SessionStream {
  readonly mayDeliver = true;
  readonly #sessions: Sessions;
  readonly #opened: OpenedSession;
  readonly #identity: TokenIdentity;
  readonly #owner: SessionOwner;
  readonly #intake: AckIntake;
  /** Notices wait until Opened was sent. */
  #told = false;
  #unverified = false;
  #isInOrder = false;

  constructor(
    sessions: Sessions,
    opened: OpenedSession,
    identity: TokenIdentity,
    mode: AckMode,
    owner: SessionOwner,
  ) {
    this.#sessions = sessions;
    this.#opened = opened;
    this.#identity = identity;
    this.#owner = owner;
    this.#intake = new AckIntake(mode, identity);
  }

  async begin(): Promise<void> {
    this.#sessions.watch(this.#opened.hold);
    await this.#opened.hold.begin(this);
  }

  get opened(): NonNullable<Opened["session"]> {
    const { hold, stored, tokenIsOlder } = this.#opened;
    return {
      generation: BigInt(hold.fence?.generation ?? 0),
      seeks: BigInt(hold.fence?.seeks ?? 0),
      storedToken: stored ?? Buffer.alloc(0),
      tokenIsOlder,
    };
  }

  openedSent(): void {
    this.#told = true;
    if (this.#unverified) this.unverified();
  }

  get savedToken(): Buffer {
    return this.#opened.hold.savedToken;
  }

  /** Events that begin here may have been delivered by the last holder. */
  maybeRedelivered({ partition }: Cursor, { before }: Slice): boolean {
    return before.offset < (this.#opened.redelivered?.[partition]?.offset ?? 0);
  }

  holds(cursor: Cursor): void {
    this.#intake.acks.hold(cursor);
  }

  sent(partition: number, slice: Slice): void {
    this.#intake.acks.sent(partition, slice);
  }

  ack(ack: Ack): void {
    this.#intake.ack(ack, this.#owner.cursors.size);
    this.#opened.hold.changed();
  }

  returned(events: number): void {
    this.#intake.acks.returned(events);
    this.#opened.hold.changed();
  }

  scanned(): void {
    this.#opened.hold.changed();
  }

  grown(): boolean {
    return false;
  }

  recovered(cursor: Cursor, notice: Buffer): void {
    this.#intake.recovered(cursor, notice);
    this.#opened.hold.changed();
  }

  close(isInOrder: boolean): Promise<void> {
    this.#isInOrder ||= isInOrder;
    return this.#sessions.leave(this.#opened.hold);
  }

  position(): Buffer {
    const positions: Position[] = [];
    for (const [partition, position] of this.#intake.acks.positions())
      positions[partition] = position;
    return encodeToken(this.#identity, positions);
  }

  outstanding(): boolean {
    const { acks } = this.#intake;
    // What the holder before may have delivered stays in doubt until the position has passed it (P3).
    const { redelivered } = this.#opened;
    const inDoubt = Array.from(acks.positions()).some(
      ([partition, { offset }]) => offset < (redelivered?.[partition]?.offset ?? 0),
    );
    return inDoubt || (acks.outstanding && !this.#isInOrder);
  }

  superseded(by: Holder | undefined): void {
    supersededBy(this.#owner, by, this.#told);
  }

  sought(position: Buffer): void {
    const owner = this.#owner;
    const positions = readStored(position, this.#identity, owner.cursors.size);
    if (!positions) {
      this.failed(
        new Failure("SESSION_UNREADABLE", "The position sought is no token of this topic."),
      );
      return;
    }
    owner.reposition(positions);
    if (!this.#told) return;
    this.#intake.await(position);
    const seeks = BigInt(this.#opened.hold.fence?.seeks ?? 0);
    owner.send({ $case: "repositioned", value: { token: position, seeks } });
    owner.goOn();
  }

  unverified(): void {
    this.#unverified = !this.#told;
    if (this.#told) this.#owner.send({ $case: "unverified", value: {} });
  }

  failed(failure: Failure): void {
    this.#owner.fail(failure);
  }
}

/** @param isTold the client hears of it before its stream ends. */
export function supersededBy(owner: SessionOwner, by: Holder | undefined, isTold: boolean): void {
  const { instance = "", server = "" } = by ?? {};
  if (isTold) {
    owner.send({ $case: "superseded", value: { byInstance: instance, byServer: server } });
  }
  const who = by ? `A stream of instance "${instance}" on server "${server}"` : "ForgetSession";
  owner.fail(new Failure("SUPERSEDED", `${who} took this session.`));
}
