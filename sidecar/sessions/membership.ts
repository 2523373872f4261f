/**
 * The record of a shared session, and what each step makes of it (P5, pure). memory-store.ts keeps such
 * records; member-scripts.ts says the same in Lua, and the contract tests hold the two together.
 *
 * Invariants:
 * - M1 A partition has one owner at a time, and each hand-over gives it a generation above every one before:
 *   a save needs owner and generation exactly. So who lost a partition cannot move it, whatever its clock.
 * - M2 Every step first ends the members whose time is over, then assigns, then hands over what is free or
 *   past its deadline: nobody needs to be elected for that, whoever comes next does it.
 * - M3 A renewal that was delayed, or sent twice, does nothing.
 * - M4 After the store lost writes, a member's higher generation for a partition is believed (T3).
 */
import type { Position } from "../../kafka/log.ts";
import { encodeToken } from "../token.ts";
import { type Assign, assign } from "./assignment.ts";
import type { Fence, Known, SessionKey } from "./session-store.ts";

export interface Member {
  /** Random per stream: the id of the join. */
  readonly id: string;
  /** Random per client process; empty when the client does not say. */
  readonly instance: string;
  readonly attempt: number;
  readonly server: string;
  /** It lapses then, by the store's time. */
  readonly untilMs: number;
  /** Of its last renewal. */
  readonly sequence: number;
}

/** One partition. */
export interface Share {
  readonly generation: number;
  /** Id of the member that delivers it and may save; empty when nobody does. */
  readonly owner: string;
  /** Who has it next; the owner when it does not move. */
  readonly target: string;
  /** While it moves: it is taken from its owner then, by the store's time. Otherwise 0. */
  readonly deadlineMs: number;
  /** More than the position says may have been delivered. */
  readonly dirty: boolean;
  /** That was so when its owner got it: what follows may be delivered again (P3). */
  readonly unclean: boolean;
  readonly position: Position;
}

export interface Membership {
  readonly topicId: string;
  readonly seeks: number;
  /** The last that was given; above it is all that is given later. */
  readonly generation: number;
  /** In ascending order of their ids, by bytes. */
  readonly members: readonly Member[];
  /** By partition. */
  readonly shares: readonly Share[];
  readonly changedMs: number;
}

/** How long the caller's members may be silent, and owners take to let go. */
export interface MemberTimes {
  readonly lapseMs: number;
  readonly revokeMs: number;
}

export interface Join extends MemberTimes {
  /** One that is sent again after its answer was lost is the same member. */
  readonly id: string;
  readonly topicId: string;
  readonly instance: string;
  readonly attempt: number;
  readonly server: string;
  /** Of the topic, as far as the server knows. */
  readonly partitions: number;
  /** Where a new session begins. */
  readonly start?: readonly Position[];
  /** The topic was recreated: the session begins anew, at `start`. */
  readonly anew?: boolean;
  readonly known?: Known;
}

/** What a member says of one partition that it holds. */
export interface Holding {
  readonly partition: number;
  readonly generation: number;
  readonly position: Position;
  /** Nothing after the position was delivered, and no more will be. */
  readonly isClean: boolean;
  readonly letsGo: boolean;
}

export interface Renewal extends MemberTimes {
  readonly id: string;
  readonly topicId: string;
  readonly instance: string;
  readonly seeks: number;
  /** Rises with each renewal of one member. */
  readonly sequence: number;
  readonly partitions: number;
  readonly leaves: boolean;
  readonly holdings: readonly Holding[];
}

/** What may be broken on purpose, to see that it is found. */
export interface MemberRules {
  readonly assign: Assign;
  /** M1 and M4: 0 when the member has this very hand-over, above 0 when the store lost it. */
  fence(holding: Pick<Holding, "generation">, id: string, share: Share): number;
  /** M1: another hand-over than the one that the member had last; -1 when it had none. */
  isNewer(share: Pick<Share, "generation">, generation: number): boolean;
}

const byBytes = (one: string, other: string): number =>
  Buffer.compare(Buffer.from(one), Buffer.from(other));

export const MEMBER_RULES: MemberRules = {
  assign,
  fence: ({ generation }, id, share) =>
    generation - share.generation || byBytes(id, share.owner) || 0,
  isNewer: (share, generation) => share.generation > generation,
};

const NEW_SHARE: Share = {
  ...{ generation: 0, owner: "", target: "", deadlineMs: 0, dirty: false, unclean: false },
  position: { offset: 0, epoch: -1 },
};

/** A record with what a step may change. */
interface Draft {
  generation: number;
  seeks: number;
  members: Member[];
  shares: Share[];
}

export class Steps {
  readonly #rules: MemberRules;
  readonly #nowMs: number;

  constructor(rules: MemberRules, nowMs: number) {
    this.#rules = rules;
    this.#nowMs = nowMs;
  }

  /** @param before the record; or the fence that ForgetSession left. */
  join(before: Membership | undefined, forgotten: Fence | undefined, by: Join): Membership {
    const known = before?.members.some(({ id }) => id === by.id) === true;
    const old = before && !(by.anew && !known) ? before : undefined;
    const draft: Draft = {
      generation: before?.generation ?? this.#above(forgotten?.generation ?? 0),
      // T5.
      seeks: (before?.seeks ?? 0) + (before && !old ? 1 : 0),
      members: [...(old?.members ?? [])],
      shares: [...(old?.shares ?? [])],
    };
    if (!old) {
      for (const position of by.start ?? []) draft.shares.push({ ...NEW_SHARE, position });
    }
    this.#grow(draft, by.partitions);
    if (!known) {
      const { id, instance, attempt, server, lapseMs } = by;
      for (const one of draft.members)
        if (instance !== "" && one.instance === instance) this.#succeed(draft, one.id, id);
      const untilMs = this.#nowMs + lapseMs;
      draft.members.push({ id, instance, attempt, server, untilMs, sequence: -1 });
    }
    return this.#settle(draft, by.topicId, by);
  }

  /** @returns undefined when it came late (M3): nothing changes. */
  renew(before: Membership, by: Renewal): Membership | undefined {
    const me = before.members.find(({ id }) => id === by.id);
    if (!me || by.sequence <= me.sequence) return undefined;
    const untilMs = this.#nowMs + by.lapseMs;
    const renewed = { ...me, untilMs, sequence: by.sequence };
    const draft: Draft = {
      generation: before.generation,
      seeks: Math.max(before.seeks, by.seeks),
      members: before.members.map((one) => (one === me ? renewed : one)),
      shares: [...before.shares],
    };
    this.#grow(draft, by.partitions);
    for (const holding of by.holdings) this.#held(draft, by, holding);
    if (by.leaves) draft.members = draft.members.filter(({ id }) => id !== by.id);
    return this.#settle(draft, before.topicId, by);
  }

  #held(draft: Draft, { id, seeks }: Renewal, holding: Holding): void {
    const { partition, position, generation, isClean, letsGo } = holding;
    const share = draft.shares[partition];
    if (!share) return;
    const order = this.#rules.fence(holding, id, share);
    if (order < 0 || (order > 0 && generation === share.generation && share.owner === "")) return;
    draft.generation = Math.max(draft.generation, generation);
    draft.shares[partition] = {
      ...share,
      generation,
      owner: letsGo ? "" : id,
      ...(order > 0 && { target: id, deadlineMs: 0 }),
      dirty: !isClean,
      // Not where someone sought it meanwhile.
      position: seeks >= draft.seeks ? position : share.position,
    };
  }

  /** All that the one had is the other's at once. */
  #succeed(draft: Draft, from: string, to: string): void {
    draft.members = draft.members.filter(({ id }) => id !== from);
    draft.shares = draft.shares.map((share) => {
      const target = share.target === from ? to : share.target;
      if (share.owner !== from) return { ...share, target };
      return this.#given(draft, { ...share, target }, to);
    });
  }

  #grow(draft: Draft, partitions: number): void {
    while (draft.shares.length < partitions) draft.shares.push(NEW_SHARE);
  }

  /** M2. */
  #settle(draft: Draft, topicId: string, { revokeMs }: MemberTimes): Membership {
    const members = draft.members
      .filter(({ untilMs }) => untilMs >= this.#nowMs)
      .sort((one, other) => byBytes(one.id, other.id));
    const ids = members.map(({ id }) => id);
    const targets =
      ids.length === 0
        ? draft.shares.map(() => "")
        : this.#rules.assign(
            ids,
            draft.shares.map(({ target }) => target),
          );
    const shares = draft.shares.map((share, partition): Share => {
      const target = targets[partition] ?? "";
      const owner = ids.includes(share.owner) ? share.owner : "";
      const moves = owner !== "" && owner !== target;
      const deadlineMs = moves ? share.deadlineMs || this.#nowMs + revokeMs : 0;
      const now: Share = { ...share, owner, target, deadlineMs };
      const isFree = owner === "" || (moves && deadlineMs <= this.#nowMs);
      return isFree && target !== "" ? this.#given(draft, now, target) : now;
    });
    const { generation, seeks } = draft;
    return { topicId, seeks, generation, members, shares, changedMs: this.#nowMs };
  }

  /** M1. */
  #given(draft: Draft, share: Share, owner: string): Share {
    draft.generation = this.#above(draft.generation);
    const { generation } = draft;
    return { ...share, generation, owner, deadlineMs: 0, unclean: share.dirty, dirty: true };
  }

  #above(generation: number): number {
    return Math.max(generation + 1, this.#nowMs);
  }
}

/** Why a join is refused; nothing changes then. */
export function joinRefusal(before: Membership | undefined, by: Join) {
  if (!before) return by.start ? undefined : ({ kind: "unset" } as const);
  if (before.members.some(({ id }) => id === by.id)) return undefined;
  const late = before.members.find(
    ({ instance, attempt }) => instance !== "" && instance === by.instance && attempt > by.attempt,
  );
  if (late) return { kind: "late", attempt: late.attempt } as const;
  if (before.topicId !== by.topicId && !by.anew)
    return { kind: "other-topic", membership: before } as const;
  return undefined;
}

/** As the store made it again from what a member knew: everybody has time to come back (M4). */
export function restored(known: Membership, nowMs: number, lapseMs: number): Membership {
  const members = known.members.map((one) => ({ ...one, untilMs: nowMs + lapseMs, sequence: -1 }));
  const shares = known.shares.map((share) => ({ ...share, deadlineMs: 0, dirty: true }));
  return { ...known, members, shares, changedMs: nowMs };
}

/** What the store lost and nobody has, as the first that comes again knows it (T6). */
export function asKnown({ topicId, seeks, positions }: Known, nowMs: number): Membership {
  const shares = positions.map((position) => ({ ...NEW_SHARE, dirty: true, position }));
  return { topicId, seeks, generation: 0, members: [], shares, changedMs: nowMs };
}

/** Where the session stands, as a token. */
export function tokenOf({ deploymentId, topic }: SessionKey, membership: Membership): Buffer {
  const { topicId } = membership;
  return encodeToken({ deploymentId, topic, topicId }, placesOf(membership));
}

/** The same, per partition. */
export function placesOf({ shares }: Membership): Position[] {
  return shares.map(({ position }) => position);
}
