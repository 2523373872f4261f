/**
 * The port to the session store: who holds a session, and where it stands. Redis or Valkey behind it
 * (redis-store.ts), or memory (memory-store.ts), under the same contract tests.
 *
 * Invariants (P5), each kept by one atomic step in the store:
 * - T1 A claim gives a generation above every one that the store knows: the larger of stored + 1 and the
 *   store's time in milliseconds, and the claim's id. Only the newest generation can move a position.
 * - T2 A save needs the generation and the seek count exactly, and a sequence above the last one: a save
 *   that was delayed, or sent twice, moves nothing back.
 * - T3 After the store lost the record, whoever holds the session may make it again; a record of a lower
 *   generation, or of fewer seeks (a failover lost the last writes), is overwritten by a higher one.
 * - T4 Nothing expires but what ForgetSession leaves, for a day, to tell the holder.
 * - T5 Where the session begins anew, in a topic that was recreated, counts as a seek: its clients learn with
 *   their next open that what they have is of before (P2).
 * - T6 A session that the store lost and nobody has is what the client that comes again knows of it, in doubt
 *   (P3). One that was forgotten is not.
 * - T7 A claim that moved the session may be done and its answer lost. Sent again, by the same claim id or by
 *   the same instance to the same place, it is answered with where the session stood before the first, until
 *   something is saved: its client is told that the token is older (P3).
 */
import type { Position, TopicId } from "../../kafka/log.ts";
import type { Join, Membership, Renewal } from "./membership.ts";

/** Names one session; each part may hold any character. */
export interface SessionKey {
  readonly deploymentId: string;
  /** Namespace of the caller. */
  readonly caller: string;
  /** `<namespace>/<name>`. */
  readonly topic: string;
  readonly session: string;
}

/** Who holds a session. */
export interface Holder {
  /** Random per client process; empty when the client does not say. */
  readonly instance: string;
  /** Rises with each connection of one instance; a safe integer. */
  readonly attempt: number;
  readonly server: string;
}

/** What a holder must show to move the position. Generations compare by number, then by claim id. */
export interface Fence {
  readonly generation: number;
  readonly claimId: string;
  /** How often the session was sought, or began anew in a recreated topic, since it was made. */
  readonly seeks: number;
}

export interface Claim {
  /** Random per claim: one that is sent again after its answer was lost gets the same generation. */
  readonly claimId: string;
  readonly topicId: TopicId;
  readonly holder: Holder;
  /** Replaces the stored position, also backward, and the stored topic id. */
  readonly reposition?: Buffer;
  readonly known?: Known;
  /**
   * Set by a stream that opened while the store was down: how long ago. It claims only where nobody of
   * another instance has claimed since.
   */
  readonly detachedForMs?: number;
}

/** The same place as a token and per partition. */
export interface SeekTo {
  readonly topicId: TopicId;
  readonly position: Buffer;
  readonly positions: readonly Position[];
}

/** What a client last heard of its session. A step that finds nothing at all under the key finds this (T6). */
export interface Known extends SeekTo {
  readonly seeks: number;
}

/** The store gave no answer in time, or refused; nothing is known of the outcome. */
export interface StoreUnavailable {
  readonly kind: "unavailable";
  readonly reason: string;
}

/** Under the key is what this release cannot read: other data, or another format version. */
export interface StoreUnreadable {
  readonly kind: "unreadable";
  readonly reason: string;
}

export type Unusable = StoreUnavailable | StoreUnreadable;

export type ClaimOutcome =
  | {
      readonly kind: "claimed";
      readonly fence: Fence;
      /**
       * What was stored before the claim, or known where the store lost it; undefined for a new session. Sent
       * again: see T7, and what is stored now after a claim that moved nothing.
       */
      readonly position: Buffer | undefined;
      /** The holder before did not release it: its last events may be delivered again (P3). */
      readonly unclean: boolean;
    }
  /** A later connection of the same instance holds it. */
  | { readonly kind: "late"; readonly attempt: number }
  /** The session counts in a topic of another id, and `reposition` was not given. Nothing changed. */
  | {
      readonly kind: "other-topic";
      readonly topicId: TopicId;
      readonly position: Buffer | undefined;
    }
  /** It is a shared session. Nothing changed. */
  | { readonly kind: "other-mode" }
  /** Only with `detachedForMs`. */
  | { readonly kind: "superseded"; readonly by: Holder }
  | Unusable;

/** What a holder knows of its session; enough to make the record again. */
export interface Held {
  readonly key: SessionKey;
  readonly topicId: TopicId;
  readonly holder: Holder;
  readonly fence: Fence;
}

export interface Save {
  /** Rises with every save of one generation; 0 or more. */
  readonly sequence: number;
  readonly position: Buffer;
  /** The holder leaves in order: nothing after the position was delivered. */
  readonly release: boolean;
}

export type SaveOutcome =
  | { readonly kind: "saved" }
  /** Someone sought the session: go on from there, with this fence. Nothing was saved. */
  | { readonly kind: "sought"; readonly fence: Fence; readonly position: Buffer }
  /** Someone else holds it; without `by` it was forgotten. Nothing was saved. */
  | { readonly kind: "superseded"; readonly by: Holder | undefined }
  | Unusable;

/** A shared session, and the store's time when it was so. */
export interface Seen {
  readonly membership: Membership;
  readonly nowMs: number;
}

export type JoinOutcome =
  | ({ readonly kind: "joined" } & Seen)
  /** A new session: nothing changed, until a join says where it starts. */
  | { readonly kind: "unset" }
  /** A later connection of the same instance is a member. */
  | { readonly kind: "late"; readonly attempt: number }
  /** The session counts in a topic of another id. Nothing changed, until a join begins it anew. */
  | { readonly kind: "other-topic"; readonly membership: Membership }
  /** It is an exclusive session. Nothing changed. */
  | { readonly kind: "other-mode" }
  | Unusable;

export type RenewOutcome =
  /** Also when it came late, and did nothing. */
  | ({ readonly kind: "renewed" } & Seen)
  /** It lapsed, or left; with `by` a later connection of its instance took its place. */
  | { readonly kind: "no-member"; readonly by: Holder | undefined }
  /** The store lost the session: `restore` makes it again. */
  | { readonly kind: "none" }
  | { readonly kind: "forgotten" }
  | Unusable;

export type SessionState =
  | {
      readonly kind: "session";
      readonly topicId: TopicId;
      readonly position: Buffer | undefined;
      readonly fence: Fence;
      readonly holder: Holder;
      /** False after a release. */
      readonly held: boolean;
      /** The store's time of the last save or claim. */
      readonly changedMs: number;
    }
  | ({ readonly kind: "shared" } & Seen)
  /** Never made, lost, or forgotten (then with the fence that ForgetSession left). */
  | { readonly kind: "none"; readonly forgotten: Fence | undefined }
  | Unusable;

export interface SessionStore {
  claim(key: SessionKey, claim: Claim): Promise<ClaimOutcome>;
  save(held: Held, save: Save): Promise<SaveOutcome>;
  /** Shared sessions: the steps are those of membership.ts. */
  join(key: SessionKey, join: Join): Promise<JoinOutcome>;
  /** Renews, saves, lets go and leaves. */
  renew(key: SessionKey, renewal: Renewal): Promise<RenewOutcome>;
  /** Makes a session that the store lost again; does nothing when there is one. */
  restore(
    key: SessionKey,
    known: Membership,
    lapseMs: number,
  ): Promise<{ readonly kind: "restored" } | Unusable>;
  read(key: SessionKey): Promise<SessionState>;
  /** As `read`, for many in one round trip: how holders learn that they are none (P5). */
  readMany(keys: readonly SessionKey[]): Promise<readonly SessionState[]>;
  /** Moves the position of a session that exists, held or not; its holder learns by its next save or look. */
  seek(
    key: SessionKey,
    to: SeekTo,
  ): Promise<{ readonly kind: "sought" } | { readonly kind: "none" } | Unusable>;
  /** Removes the position, and ends whoever holds it (T4). Removes also what is unreadable under the key. */
  forget(
    key: SessionKey,
  ): Promise<{ readonly kind: "forgotten" } | { readonly kind: "none" } | Unusable>;
  /** Settings of the store that would lose sessions, one sentence each with the remedy; empty when well. */
  inspect(): Promise<readonly string[]>;
  close(): Promise<void>;
}
