/**
 * The session store in memory: the twin of redis-store.ts, under the same contract tests. For tests, which
 * give it its clock and its troubles; it holds what one process knows and no more.
 */
import {
  asKnown,
  type Join,
  joinRefusal,
  MEMBER_RULES,
  type MemberRules,
  type Membership,
  type Renewal,
  restored,
  Steps,
} from "./membership.ts";
import { SESSION_RULES, type SessionRules } from "./rules.ts";
import type {
  Claim,
  ClaimOutcome,
  Fence,
  Held,
  Holder,
  JoinOutcome,
  Known,
  RenewOutcome,
  Save,
  SaveOutcome,
  SeekTo,
  SessionKey,
  SessionState,
  SessionStore,
  StoreUnavailable,
  Unusable,
} from "./session-store.ts";

const FORGOTTEN_MS = 24 * 60 * 60 * 1000;

/** The answer is lost: before the step was done, or after it. */
export interface Trouble {
  readonly reason: string;
  readonly isDone: boolean;
}

export interface MemoryStoreOptions {
  /** The store's own time in milliseconds. */
  readonly now: () => number;
  /** Asked before each step: when it is done, and whether its caller hears of it. By default at once. */
  readonly gate?: (step: keyof SessionStore) => Promise<Trouble | undefined>;
  readonly rules?: SessionRules;
  readonly memberRules?: MemberRules;
}

interface Live {
  readonly kind: "live";
  readonly fence: Fence;
  readonly topicId: string;
  readonly position: Buffer | undefined;
  /** T7: of a claim that moved it. */
  readonly before?: { readonly position: Buffer | undefined } | undefined;
  readonly holder: Holder;
  readonly held: boolean;
  readonly unclean: boolean;
  readonly sequence: number;
  readonly changedMs: number;
}

type Stored =
  | Live
  | { readonly kind: "shared"; readonly fence: Fence; readonly membership: Membership }
  | { readonly kind: "forgotten"; readonly fence: Fence; readonly untilMs: number }
  | { readonly kind: "foreign"; readonly reason: string };

export class MemoryStore implements SessionStore {
  readonly #now: () => number;
  readonly #gate: (step: keyof SessionStore) => Promise<Trouble | undefined>;
  readonly #rules: SessionRules;
  readonly #memberRules: MemberRules;
  readonly #sessions = new Map<string, Stored>();

  constructor(options: MemoryStoreOptions) {
    this.#now = options.now;
    this.#gate = options.gate ?? (async () => undefined);
    this.#rules = options.rules ?? SESSION_RULES;
    this.#memberRules = options.memberRules ?? MEMBER_RULES;
  }

  claim(key: SessionKey, claim: Claim): Promise<ClaimOutcome> {
    return this.#step("claim", (): ClaimOutcome => {
      const stored = this.#get(key) ?? lost(claim.known);
      if (stored?.kind === "foreign") return unreadable(stored.reason);
      if (stored?.kind === "shared") return { kind: "other-mode" };
      const live = stored?.kind === "live" ? stored : undefined;
      const refused = live && this.#refusal(live, claim);
      if (refused) return refused;
      const isAnew = live !== undefined && live.topicId !== claim.topicId;
      const fence: Fence = {
        generation: this.#above(stored?.fence.generation),
        claimId: claim.claimId,
        seeks: (live?.fence.seeks ?? 0) + (isAnew ? 1 : 0),
      };
      const unclean = live?.held === true;
      const { reposition } = claim;
      const position = live && (this.#isAgain(live, claim) ? stood(live) : live.position);
      this.#set(key, {
        kind: "live",
        fence,
        topicId: claim.topicId,
        position: reposition ?? live?.position,
        before: reposition && { position },
        holder: claim.holder,
        held: true,
        unclean,
        sequence: -1,
        changedMs: this.#now(),
      });
      return { kind: "claimed", fence, position, unclean };
    });
  }

  /** T7. */
  #isAgain(live: Live, { holder, reposition }: Claim): boolean {
    const isSame = this.#rules.isSameInstance(holder, live.holder);
    return isSame && reposition !== undefined && live.position?.equals(reposition) === true;
  }

  /** Why the session stays as it is; also the answer to a claim that is sent again. */
  #refusal(live: Live, claim: Claim): ClaimOutcome | undefined {
    const { fence, holder, position, topicId, unclean } = live;
    if (fence.claimId === claim.claimId)
      return { kind: "claimed", fence, position: stood(live), unclean };
    const isSame = this.#rules.isSameInstance(claim.holder, holder);
    if (isSame && this.#rules.isLate(claim.holder, holder))
      return { kind: "late", attempt: holder.attempt };
    const { detachedForMs, reposition } = claim;
    // A generation is the time of its claim, or later.
    if (detachedForMs !== undefined && !isSame && fence.generation >= this.#now() - detachedForMs)
      return { kind: "superseded", by: holder };
    if (topicId !== claim.topicId && !reposition) return { kind: "other-topic", topicId, position };
    return undefined;
  }

  save({ key, topicId, holder, fence }: Held, save: Save): Promise<SaveOutcome> {
    const { sequence, position, release } = save;
    return this.#step("save", (): SaveOutcome => {
      const stored = this.#get(key);
      if (stored?.kind === "foreign") return unreadable(stored.reason);
      if (stored?.kind === "shared") return { kind: "superseded", by: undefined };
      const order = stored ? this.#rules.compare(fence, stored.fence) : 1;
      const changed = { position, held: !release, sequence, changedMs: this.#now() };
      if (!stored || order > 0) {
        this.#set(key, { kind: "live", fence, topicId, holder, unclean: true, ...changed });
        return { kind: "saved" };
      }
      if (stored.kind === "forgotten") return { kind: "superseded", by: undefined };
      if (order < 0) return { kind: "superseded", by: stored.holder };
      if (stored.fence.seeks > fence.seeks)
        return { kind: "sought", fence: stored.fence, position: stored.position as Buffer };
      // Fewer seeks than the holder saw: a failover lost one.
      if (stored.fence.seeks < fence.seeks || sequence > stored.sequence)
        this.#set(key, { ...stored, fence, ...changed });
      return { kind: "saved" };
    });
  }

  join(key: SessionKey, by: Join): Promise<JoinOutcome> {
    return this.#step("join", (): JoinOutcome => {
      const stored = this.#get(key);
      if (stored?.kind === "foreign") return unreadable(stored.reason);
      if (stored?.kind === "live") return { kind: "other-mode" };
      const nowMs = this.#now();
      const known = stored ? undefined : by.known && asKnown(by.known, nowMs);
      const before = stored?.kind === "shared" ? stored.membership : known;
      const refused = joinRefusal(before, by);
      if (refused) return refused;
      const membership = new Steps(this.#memberRules, nowMs).join(before, stored?.fence, by);
      this.#setShared(key, membership);
      return { kind: "joined", membership, nowMs };
    });
  }

  renew(key: SessionKey, by: Renewal): Promise<RenewOutcome> {
    return this.#step("renew", (): RenewOutcome => {
      const stored = this.#get(key);
      if (!stored) return { kind: "none" };
      if (stored.kind === "foreign") return unreadable(stored.reason);
      if (stored.kind !== "shared") return { kind: "forgotten" };
      const { membership } = stored;
      const { members, topicId } = membership;
      if (topicId !== by.topicId || !members.some(({ id }) => id === by.id)) {
        const heir = members.find(({ instance }) => instance !== "" && instance === by.instance);
        return { kind: "no-member", by: heir };
      }
      const nowMs = this.#now();
      const renewed = new Steps(this.#memberRules, nowMs).renew(membership, by);
      if (renewed) this.#setShared(key, renewed);
      return { kind: "renewed", membership: renewed ?? membership, nowMs };
    });
  }

  restore(
    key: SessionKey,
    known: Membership,
    lapseMs: number,
  ): Promise<{ readonly kind: "restored" } | Unusable> {
    return this.#step("restore", () => {
      const stored = this.#get(key);
      if (stored?.kind === "foreign") return unreadable(stored.reason);
      if (!stored) this.#setShared(key, restored(known, this.#now(), lapseMs));
      return { kind: "restored" };
    });
  }

  read(key: SessionKey): Promise<SessionState> {
    return this.#step("read", () => this.#state(key));
  }

  async readMany(keys: readonly SessionKey[]): Promise<readonly SessionState[]> {
    const states = await this.#step("readMany", () => keys.map((key) => this.#state(key)));
    return "kind" in states ? keys.map(() => states) : states;
  }

  #state(key: SessionKey): SessionState {
    const stored = this.#get(key);
    if (!stored) return { kind: "none", forgotten: undefined };
    if (stored.kind === "foreign") return unreadable(stored.reason);
    if (stored.kind === "forgotten") return { kind: "none", forgotten: stored.fence };
    if (stored.kind === "shared")
      return { kind: "shared", membership: stored.membership, nowMs: this.#now() };
    const { topicId, position, fence, holder, held, changedMs } = stored;
    return { kind: "session", topicId, position, fence, holder, held, changedMs };
  }

  seek(
    key: SessionKey,
    { topicId, position, positions }: SeekTo,
  ): Promise<{ readonly kind: "sought" } | { readonly kind: "none" } | Unusable> {
    return this.#step("seek", () => {
      const stored = this.#get(key);
      if (stored?.kind === "foreign") return unreadable(stored.reason);
      if (stored?.kind === "shared") {
        const { membership } = stored;
        const shares = membership.shares.map((share, partition) => ({
          ...share,
          position: positions[partition] ?? { offset: 0, epoch: -1 },
        }));
        const seeks = membership.seeks + 1;
        this.#setShared(key, { ...membership, topicId, seeks, shares });
        return { kind: "sought" };
      }
      if (stored?.kind !== "live") return { kind: "none" };
      const fence = { ...stored.fence, seeks: stored.fence.seeks + 1 };
      this.#set(key, { ...stored, topicId, position, fence, before: undefined });
      return { kind: "sought" };
    });
  }

  forget(
    key: SessionKey,
  ): Promise<{ readonly kind: "forgotten" } | { readonly kind: "none" } | Unusable> {
    return this.#step("forget", () => {
      const stored = this.#get(key);
      if (!stored || stored.kind === "forgotten") return { kind: "none" };
      const { generation, seeks } =
        stored.kind === "foreign" ? { generation: undefined, seeks: 0 } : stored.fence;
      const fence = { generation: this.#above(generation), claimId: "", seeks };
      this.#set(key, { kind: "forgotten", fence, untilMs: this.#now() + FORGOTTEN_MS });
      return { kind: "forgotten" };
    });
  }

  async inspect(): Promise<readonly string[]> {
    return [];
  }

  async close(): Promise<void> {}

  /** As a store that lost its data. */
  empty(): void {
    this.#sessions.clear();
  }

  /** Puts under the key what no release of ours can read. */
  spoil(key: SessionKey, reason: string): void {
    this.#set(key, { kind: "foreign", reason });
  }

  /** T1. */
  #above(generation = 0): number {
    return Math.max(generation + 1, this.#now());
  }

  #get(key: SessionKey): Stored | undefined {
    const stored = this.#sessions.get(nameOf(key));
    return stored?.kind === "forgotten" && stored.untilMs <= this.#now() ? undefined : stored;
  }

  #set(key: SessionKey, stored: Stored): void {
    this.#sessions.set(nameOf(key), stored);
  }

  #setShared(key: SessionKey, membership: Membership): void {
    const { generation, seeks } = membership;
    this.#set(key, { kind: "shared", fence: { generation, claimId: "", seeks }, membership });
  }

  async #step<T>(name: keyof SessionStore, act: () => T): Promise<T | StoreUnavailable> {
    const trouble = await this.#gate(name);
    if (trouble === undefined) return act();
    if (trouble.isDone) act();
    return { kind: "unavailable", reason: trouble.reason };
  }
}

function nameOf({ deploymentId, caller, topic, session }: SessionKey): string {
  return JSON.stringify([deploymentId, caller, topic, session]);
}

/** T7. */
function stood({ before, sequence, position }: Live): Buffer | undefined {
  return before && sequence < 0 ? before.position : position;
}

/** T6. */
function lost(known: Known | undefined): Live | undefined {
  if (!known) return undefined;
  const { topicId, position, seeks } = known;
  return {
    ...{ kind: "live", topicId, position, fence: { generation: 0, claimId: "", seeks } },
    ...{ holder: { instance: "", attempt: 0, server: "" }, held: true, unclean: true },
    ...{ sequence: -1, changedMs: 0 },
  };
}

function unreadable(reason: string): Unusable {
  return { kind: "unreadable", reason };
}
