/**
 * The mirror for people: saved positions of sessions, committed as Kafka group offsets (mirror-group.ts), so
 * that Kafka's tools and lag exporters show them. Display only: nothing is read from there, and no failure
 * here touches a session.
 *
 * On a slow beat, one commit for each session held here whose saved position has changed since its last one.
 * A shared session is shown whole by one of its members, that which has its first partition: a member knows
 * what the store has of all partitions, and of the members one alone has that one.
 * A session that is held here no more, or was sought or forgotten here, is shown once as the store then says,
 * so that a server that lost it does not put back what its new holder has shown; the group of a forgotten one
 * is deleted.
 *
 * Invariants:
 * - M1 What is shown was saved before; acknowledged and not yet saved is not shown.
 * - M2 A beat does at most AT_MOST steps, LANES at a time, and each lane ends at its first failure: an outage
 *   costs a few requests per beat. Who was tried goes behind all others, so each has its turn.
 *
 * A commit can still land behind a later one: one of two servers was frozen in between, or a request that was
 * given up lay on its way to a broker. So each position is shown once more after half a minute, and then every
 * hour, since Kafka forgets offsets that were not committed for `offsets.retention.minutes` (a week).
 */
import type { Logger } from "pino";
import type { AdminOutcome, GroupOffsets } from "../../kafka/log.ts";
import type { Clock } from "../../process/clock.ts";
import type { Catalog } from "../catalog.ts";
import type { Metrics } from "../metrics.ts";
import { tokenOf } from "./membership.ts";
import { mirrorGroup } from "./mirror-group.ts";
import { type SavedToken, savedPositions } from "./saved-position.ts";
import type { Fence, SessionKey, SessionState, SessionStore } from "./session-store.ts";
import type { SessionFollower } from "./sessions.ts";

/** Steps of one beat. */
const AT_MOST = 1000;
const LANES = 4;
const CONFIRM_MS = 30_000;
const AGAIN_MS = 60 * 60 * 1000;
/** A holder on another server learns of it within 1 s (P5); before, it would make a forgotten group again. */
const CHANGED_MS = 2000;
/** Sessions to be shown as the store says that wait for Kafka or the store; above that the oldest are not shown. */
const ASKED_AT_MOST = 10_000;
/** What a server that stops gives the last commits. */
const LAST_MS = 2000;

export interface MirrorParts {
  readonly groups: GroupOffsets;
  readonly store: Pick<SessionStore, "readMany">;
  readonly catalog: Pick<Catalog, "get">;
  /** For intervals. */
  readonly clock: Clock;
  readonly logger: Pick<Logger, "info" | "warn">;
  readonly metrics: Pick<Metrics, "sessionMirrored">;
  readonly everyMs: number;
}

/** A session held here. */
export interface MirroredHold extends SavedToken {
  /** Undefined while it is not this one's to show. */
  readonly fence: Fence | undefined;
}

interface Shown {
  readonly token: Buffer;
  readonly atMs: number;
  /** It was shown twice. */
  readonly isConfirmed: boolean;
}

interface Asked {
  readonly key: SessionKey;
  readonly dueMs: number;
}

interface Step {
  /** Resolves with undefined when there is nothing to show any more. */
  act(): Promise<AdminOutcome<void> | undefined>;
  done(): void;
  refused(): void;
}

const NO_TOKEN = Buffer.alloc(0);
const NEVER: Shown = { token: NO_TOKEN, atMs: Number.NEGATIVE_INFINITY, isConfirmed: false };

export class SessionMirror implements SessionFollower {
  readonly #parts: MirrorParts;
  /** Who was tried last is last. */
  readonly #held = new Map<MirroredHold, Shown>();
  /** To be shown as the store says; by group. */
  readonly #asked = new Map<string, Asked>();
  #inTrouble = false;
  #closed = false;
  #beating: Promise<unknown> = Promise.resolve();
  #cancelBeat: () => void;

  constructor(parts: MirrorParts) {
    this.#parts = parts;
    this.#cancelBeat = this.#nextBeat();
  }

  held(hold: MirroredHold): void {
    this.#held.set(hold, NEVER);
  }

  left(hold: MirroredHold): void {
    if (this.#held.delete(hold)) this.#ask(hold.key, this.#parts.clock.now());
  }

  changed(key: SessionKey): void {
    this.#ask(key, this.#parts.clock.now() + CHANGED_MS);
  }

  /** Shows what the sessions were left with; resolves soon, also when Kafka does not answer. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelBeat();
    const { clock } = this.#parts;
    let isOver = false;
    await new Promise<void>((resolve) => {
      const cancel = clock.setTimer(LAST_MS, () => {
        isOver = true;
        resolve();
      });
      const last = async (): Promise<void> => {
        await this.#beating;
        while (!isOver && (await this.#pass()) > 0);
        cancel();
        resolve();
      };
      void last();
    });
  }

  #nextBeat(): () => void {
    return this.#parts.clock.setTimer(this.#parts.everyMs, () => {
      this.#beating = this.#pass().then(() => {
        if (!this.#closed) this.#cancelBeat = this.#nextBeat();
      });
    });
  }

  #ask(key: SessionKey, atMs: number): void {
    const group = mirrorGroup(key);
    const dueMs = Math.max(atMs, this.#asked.get(group)?.dueMs ?? atMs);
    this.#asked.set(group, { key, dueMs });
    for (const [oldest] of this.#asked) {
      if (this.#asked.size <= ASKED_AT_MOST) break;
      this.#asked.delete(oldest);
    }
  }

  /** One beat's work. @returns how many steps succeeded. */
  async #pass(): Promise<number> {
    const steps = await this.#stepsOfAsked();
    steps.push(...this.#stepsOfHeld(AT_MOST - steps.length));
    if (steps.length === 0) return 0;
    let done = 0;
    let trouble: string | undefined;
    const lane = async (): Promise<void> => {
      for (let step = steps.shift(); step; step = steps.shift()) {
        const outcome = await step.act();
        if (!outcome) continue;
        this.#parts.metrics.sessionMirrored(outcome.kind === "done");
        if (outcome.kind === "done") {
          step.done();
          done++;
          continue;
        }
        trouble ??= outcome.reason;
        // A refusal is about one group; the others may be well.
        if (outcome.kind !== "refused") return;
        step.refused();
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    this.#tell(trouble);
    return done;
  }

  /** Once when it begins, once when it is over. */
  #tell(trouble: string | undefined): void {
    const { logger } = this.#parts;
    if (trouble !== undefined && !this.#inTrouble) {
      logger.warn({ reason: trouble }, "positions of sessions cannot be shown as group offsets");
    } else if (trouble === undefined && this.#inTrouble) {
      logger.info("positions of sessions are shown as group offsets again");
    }
    this.#inTrouble = trouble !== undefined;
  }

  #stepsOfHeld(atMost: number): Step[] {
    const now = this.#parts.clock.now();
    const steps: Step[] = [];
    for (const [hold, shown] of this.#held) {
      if (steps.length === atMost) break;
      // Without a fence somebody else may have moved it, or shows it.
      if (!hold.fence || hold.savedToken.length === 0) continue;
      const againMs = shown.isConfirmed ? AGAIN_MS : CONFIRM_MS;
      if (now - shown.atMs < againMs && shown.token.equals(hold.savedToken)) continue;
      if (savedPositions(this.#parts.catalog, hold)) steps.push(this.#stepOf(hold, shown));
    }
    return steps;
  }

  #stepOf(hold: MirroredHold, shown: Shown): Step {
    const behindAll = (as: Shown): void => {
      if (this.#held.delete(hold)) this.#held.set(hold, as);
    };
    let token = hold.savedToken;
    return {
      act: async () => {
        behindAll(shown);
        token = hold.savedToken;
        // Its turn came late, and it may be lost by now.
        return hold.fence && this.#show(hold);
      },
      done: () => {
        const isConfirmed = token.equals(shown.token);
        behindAll({ token, atMs: this.#parts.clock.now(), isConfirmed });
      },
      refused: () => {},
    };
  }

  /** Asks the store. */
  async #stepsOfAsked(): Promise<Step[]> {
    const now = this.#parts.clock.now();
    const isDue = ({ dueMs }: Asked): boolean => dueMs <= now || this.#closed;
    const due = [...this.#asked].filter(([, asked]) => isDue(asked)).slice(0, AT_MOST / 2);
    if (due.length === 0) return [];
    const states = await this.#parts.store.readMany(due.map(([, { key }]) => key));
    const steps: Step[] = [];
    for (const [i, [group, asked]] of due.entries()) {
      const state = states[i];
      if (!state || state.kind === "unavailable") continue;
      const isCurrent = (): boolean => this.#asked.get(group) === asked;
      const over = (): void => {
        if (isCurrent()) this.#asked.delete(group);
      };
      const behindAll = (): void => {
        if (isCurrent() && this.#asked.delete(group)) this.#asked.set(group, asked);
      };
      const step = (act: Step["act"]): void => {
        const inTurn = (): ReturnType<Step["act"]> => {
          behindAll();
          return act();
        };
        steps.push({ act: inTurn, done: over, refused: over });
      };
      const saved = savedIn(asked.key, state);
      if (saved) {
        if (savedPositions(this.#parts.catalog, saved)) step(() => this.#show(saved));
        else over();
      } else if (state.kind === "none" && state.forgotten)
        step(() => this.#parts.groups.delete(group));
      // A store that lost the session says nothing of where it stood.
      else over();
    }
    return steps;
  }

  async #show(saved: SavedToken): Promise<AdminOutcome<void> | undefined> {
    const found = savedPositions(this.#parts.catalog, saved);
    if (!found) return undefined;
    const { info, positions } = found;
    return this.#parts.groups.commit(mirrorGroup(saved.key), info.name, positions);
  }
}

function savedIn(key: SessionKey, state: SessionState): SavedToken | undefined {
  if (state.kind === "session") {
    const { topicId, position: savedToken = Buffer.alloc(0) } = state;
    return { key, topicId, savedToken };
  }
  if (state.kind !== "shared") return undefined;
  const { membership } = state;
  return { key, topicId: membership.topicId, savedToken: tokenOf(key, membership) };
}
