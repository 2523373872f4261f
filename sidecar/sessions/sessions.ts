/**
 * The sessions of one server: opens them, and asks the store from time to time whether they are still
 * held. What one stream holds is session-hold.ts.
 */
import type { Position, TopicInfo } from "../../kafka/log.ts";
import type { Clock } from "../../process/clock.ts";
import type { SubscribeOpen } from "../../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "../catalog.ts";
import { Failure } from "../failure.ts";
import {
  afterRecreation,
  lookUp,
  RECOVERY_EARLIEST,
  RECOVERY_LATEST,
  type ResolvedStart,
  resolveStart,
} from "../open.ts";
import type { ServerContext } from "../server-context.ts";
import { decodeToken, encodeToken, type TokenIdentity } from "../token.ts";
import type { MemberHold } from "./member-hold.ts";
import { type MembersParts, type OpenedMember, openMember } from "./members.ts";
import { lossAt } from "./position-check.ts";
import { SessionHold, unavailable } from "./session-hold.ts";
import { readKnown, type SessionOptions } from "./session-options.ts";
import type { Claim, ClaimOutcome, SessionKey, SessionStore } from "./session-store.ts";

/** Twice within the bound of P5: a stream that was superseded ends within 1 s. */
const LOOK_EVERY_MS = 400;
/** Sessions asked for in one round trip. */
const LOOK_AT_ONCE = 500;
/** A Kafka that does not answer keeps nobody longer from opening with a token. */
const CHECK_MS = 1000;

export interface SessionTopic {
  readonly info: TopicInfo;
  readonly topic: CatalogTopic;
  readonly identity: TokenIdentity;
}

export interface OpenedSession {
  readonly start: ResolvedStart;
  readonly hold: SessionHold;
  /** What was stored before. */
  readonly stored: Buffer | undefined;
  readonly tokenIsOlder: boolean;
  /** Per partition: events below this offset may have been delivered by the holder before (P3). */
  readonly redelivered: readonly Position[] | undefined;
}

type Server = Pick<
  ServerContext,
  "deploymentId" | "namespace" | "random" | keyof MembersParts["server"]
>;

/** Hears which sessions are held here, for show. */
export interface SessionFollower {
  held(hold: SessionHold | MemberHold): void;
  /** The stream has ended, and the store has where it stood, if it answered. */
  left(hold: SessionHold | MemberHold): void;
  /** SeekSession or ForgetSession was done here; who holds it may be on any server. */
  changed(key: SessionKey): void;
}

export class Sessions {
  readonly #server: Server;
  readonly #store: SessionStore;
  readonly #clock: Clock;
  readonly #follower: SessionFollower | undefined;
  readonly #holds = new Set<SessionHold>();
  readonly #members = new Set<MemberHold>();
  readonly #leaving = new Set<Promise<void>>();
  #cancelLook: () => void;
  #closed = false;

  /** @param clock for intervals. */
  constructor(server: Server, store: SessionStore, clock: Clock, follower?: SessionFollower) {
    this.#server = server;
    this.#store = store;
    this.#clock = clock;
    this.#follower = follower;
    this.#cancelLook = clock.setTimer(LOOK_EVERY_MS, () => void this.#look());
  }

  /** For intervals. */
  get clock(): Clock {
    return this.#clock;
  }

  get store(): SessionStore {
    return this.#store;
  }

  /** Those whose streams have not ended. */
  get held(): readonly (SessionHold | MemberHold)[] {
    return [...this.#holds, ...this.#members];
  }

  /** It was sought or forgotten. */
  changed(key: SessionKey): void {
    this.#follower?.changed(key);
  }

  key(topic: string, session: string): SessionKey {
    const { deploymentId, namespace } = this.#server;
    return { deploymentId, caller: namespace, topic, session };
  }

  /** @throws Failure; nothing has changed then, but that an older holder may have been superseded. */
  async open(
    of: SessionTopic,
    options: SessionOptions,
    { start, recovery }: Pick<SubscribeOpen, "start" | "recovery">,
  ): Promise<OpenedSession> {
    const { info, topic, identity } = of;
    const { log } = this.#server;
    const key = this.key(topic.name, options.name);
    const { instance, attempt, strict } = options;
    const holder = { instance, attempt, server: this.#server.serverName };
    const known = readKnown(options, identity, topic.partitions);
    const by = { topicId: info.id, holder, ...(known && { known }) };
    const claim = (more: Partial<Claim>): Promise<ClaimOutcome> =>
      this.#store.claim(key, { claimId: this.#id(), ...by, ...more });
    const tokenOf = (positions: readonly Position[]): Buffer => encodeToken(identity, positions);
    const resolve = () => resolveStart(log, info, topic, identity, recovery, start);

    // A token is judged before anything is claimed: what is refused changes nothing.
    const wanted = start?.at?.$case === "token" ? await resolve() : undefined;
    const recovers = recovery === RECOVERY_EARLIEST || recovery === RECOVERY_LATEST;
    if (wanted && !recovers) {
      const token = tokenOf(goesOnAt(wanted));
      const loss = await this.#lossAt(info, goesOnAt(wanted));
      if (loss) throw new Failure(loss.error, loss.message, { ...loss.details, token });
    }
    let outcome = await claim(wanted ? { reposition: tokenOf(goesOnAt(wanted)) } : {});
    let recreated: Extract<ResolvedStart, { kind: "recreated" }> | undefined;
    if (outcome.kind === "other-topic") {
      const to = await afterRecreation(log, info, topic, recovery);
      const before = readStored(outcome.position, identity, info.partitions);
      recreated = { kind: "recreated", positions: before ?? to, to };
      outcome = await claim({ reposition: tokenOf(to) });
    }
    const make = (fence: ConstructorParameters<typeof SessionHold>[1], saved: Buffer) => {
      const claimDetached = (detachedForMs: number, reposition: Buffer) =>
        claim({ detachedForMs, reposition });
      const parts = { key, topicId: info.id, holder, strict, claimDetached };
      const { metrics } = this.#server;
      const world = { store: this.#store, clock: this.#clock, metrics };
      return new SessionHold({ ...parts, ...world }, fence, saved);
    };
    switch (outcome.kind) {
      case "claimed": {
        const { fence, position: stored, unclean } = outcome;
        const moved = recreated ?? wanted;
        const positions = stored && readStored(stored, identity, info.partitions);
        if (stored && !positions && !moved) {
          throw new Failure("SESSION_UNREADABLE", "The stored position is no token of this topic.");
        }
        const resumed =
          positions &&
          ({ kind: "positions", positions, verified: false, after: new Map() } as const);
        const from = moved ?? resumed ?? (await resolve());
        const saved = moved ? tokenOf(goesOnAt(moved)) : (stored ?? Buffer.alloc(0));
        return {
          start: from,
          hold: make(fence, saved),
          stored,
          tokenIsOlder: wanted !== undefined && positions !== undefined && older(wanted, positions),
          // What was delivered before is not in a topic that was recreated.
          redelivered: unclean && !recreated ? await lookUp(log, info, "latest") : undefined,
        };
      }
      case "unavailable":
        if (wanted === undefined || strict) throw unavailable(outcome.reason);
        return {
          start: wanted,
          hold: make(undefined, Buffer.alloc(0)),
          ...{ stored: undefined, tokenIsOlder: false, redelivered: undefined },
        };
      case "unreadable":
        throw new Failure("SESSION_UNREADABLE", outcome.reason);
      case "other-mode":
        throw new Failure(
          "SESSION_MODE_DIFFERS",
          "open.session.mode: this session is stored as SHARED.",
        );
      case "late":
        throw new Failure(
          "SUPERSEDED",
          `open.session.attempt: is ${attempt}; attempt ${outcome.attempt} of this instance holds the session.`,
        );
      default:
        throw new Failure("SUPERSEDED", "Another stream claimed this session meanwhile.");
    }
  }

  /** Its stream has begun: from now on the store is asked for it. */
  watch(hold: SessionHold): void {
    this.#holds.add(hold);
    this.#follower?.held(hold);
  }

  /** Joins a shared session. @throws Failure; nothing has changed then. */
  async openMember(
    of: SessionTopic,
    options: SessionOptions,
    open: Pick<SubscribeOpen, "start" | "recovery">,
  ): Promise<OpenedMember> {
    const parts = {
      ...{ server: this.#server, store: this.#store, clock: this.#clock, id: this.#id() },
      key: this.key(of.topic.name, options.name),
      leave: (hold: MemberHold, isInOrder: boolean) =>
        this.#members.has(hold) ? this.#leaveMember(hold, isInOrder) : Promise.resolve(),
    };
    const opened = await openMember(parts, of, options, open);
    this.#members.add(opened.hold);
    this.#follower?.held(opened.hold);
    return opened;
  }

  /** The stream has ended. Resolves when the store has where it stood, or gave no answer in time. */
  leave(hold: SessionHold): Promise<void> {
    this.#holds.delete(hold);
    return this.#left(hold, hold.close());
  }

  #leaveMember(hold: MemberHold, isInOrder: boolean): Promise<void> {
    this.#members.delete(hold);
    return this.#left(hold, hold.close(isInOrder));
  }

  #left(hold: SessionHold | MemberHold, closing: Promise<void>): Promise<void> {
    const left = closing.finally(() => {
      this.#leaving.delete(left);
      this.#follower?.left(hold);
    });
    this.#leaving.add(left);
    return left;
  }

  /** Resolves when every session that was left is saved, or the store gave no answer in time. */
  async settled(): Promise<void> {
    while (this.#leaving.size > 0) await Promise.all(this.#leaving);
  }

  /** Leaves every session that is still held. */
  close(): void {
    this.#closed = true;
    this.#cancelLook();
    for (const hold of this.#holds) void this.leave(hold);
    for (const hold of this.#members) void this.#leaveMember(hold, false);
  }

  /** Undefined also where Kafka does not tell: the stream hears of a loss when it can read. */
  #lossAt(info: TopicInfo, positions: readonly Position[]): Promise<Failure | undefined> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.setTimer(CHECK_MS, () => resolve(undefined));
      lossAt(this.#server.log, info, positions, "open.start.token")
        .catch((error: unknown) => {
          if (!(error instanceof Failure)) throw error;
          return undefined;
        })
        .then(resolve, reject)
        .finally(cancel);
    });
  }

  async #look(): Promise<void> {
    const held: { hold: SessionHold; fence: NonNullable<SessionHold["fence"]> }[] = [];
    for (const hold of this.#holds) {
      const { fence } = hold;
      if (fence) held.push({ hold, fence });
      else hold.retry();
    }
    for (let i = 0; i < held.length; i += LOOK_AT_ONCE) {
      const some = held.slice(i, i + LOOK_AT_ONCE);
      const states = await this.#store.readMany(some.map(({ hold }) => hold.key));
      for (const [j, { hold, fence }] of some.entries()) {
        const state = states[j];
        if (state) hold.seen(fence, state);
        hold.retry();
      }
    }
    if (this.#closed) return;
    this.#cancelLook = this.#clock.setTimer(LOOK_EVERY_MS, () => void this.#look());
  }

  #id(): string {
    const part = (): string => Math.floor(this.#server.random() * 2 ** 52).toString(36);
    return `${part()}${part()}`;
  }
}

function goesOnAt(start: ResolvedStart): readonly Position[] {
  return start.kind === "recreated" ? start.to : start.positions;
}

/** A stored token's positions; undefined when it is none of this topic. */
export function readStored(
  stored: Buffer | undefined,
  identity: TokenIdentity,
  partitions: number,
): readonly Position[] | undefined {
  if (!stored) return undefined;
  try {
    return decodeToken(stored, identity, partitions).positions;
  } catch {
    return undefined;
  }
}

function older(start: ResolvedStart, stored: readonly Position[]): boolean {
  return goesOnAt(start).some(({ offset }, p) => offset < (stored[p]?.offset ?? 0));
}
