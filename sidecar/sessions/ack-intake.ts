/**
 * What a client says of the events of its session's stream: acks by position and by token, and credit that
 * came back. Neighbour: acks.ts keeps what follows of it. Pure.
 */
import type { Position } from "../../kafka/log.ts";
import type { Ack } from "../../proto/gen/throughline/v1/throughline.ts";
import type { Cursor } from "../dispatch/cursor.ts";
import { Failure } from "../failure.ts";
import { decodeToken, type TokenIdentity } from "../token.ts";
import { type AckMode, Acks } from "./acks.ts";

export class AckIntake {
  readonly acks: Acks;
  readonly #mode: AckMode;
  readonly #identity: TokenIdentity;
  /** Acknowledgements are of events before this notice until the client acknowledges its token. */
  #awaited: Buffer | undefined;

  /** @param isMember of a shared session. */
  constructor(mode: AckMode, identity: TokenIdentity, isMember = false) {
    this.#mode = mode;
    this.#identity = identity;
    this.acks = new Acks(mode, isMember);
  }

  /** @param partitions of the topic. @throws Failure INVALID_REQUEST, and nothing moved. */
  ack({ positions, token }: Ack, partitions: number): void {
    if (positions.length === 0 && token.length === 0) {
      throw new Failure("INVALID_REQUEST", "ack: names neither positions nor a token.");
    }
    if (this.#awaited) {
      if (this.#awaited.equals(token)) this.#awaited = undefined;
      return;
    }
    this.acks.ack(positions, token.length > 0 ? this.#read(token, partitions) : undefined);
  }

  /** The client hears by a notice with this token that what it was sent counts no more. */
  await(notice: Buffer): void {
    if (this.#mode === "explicit") this.#awaited = notice;
  }

  /** Recovery has moved this cursor, and the client hears of it by a notice with this token. */
  recovered({ partition }: Cursor, notice: Buffer): void {
    if (this.acks.recovered(partition)) this.await(notice);
  }

  #read(token: Buffer, partitions: number): readonly Position[] {
    const read = decodeToken(token, this.#identity, partitions, "ack.token");
    if (read.kind === "positions") return read.positions;
    throw new Failure("INVALID_TOKEN", "ack.token: is of the topic before it was recreated.");
  }
}
