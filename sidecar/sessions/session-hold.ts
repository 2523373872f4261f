/**
 * One stream's hold on an exclusive session: saves its position, and learns when it holds it no more.
 *
 * One phase at a time, each with what it owns:
 *   held       the store gave a generation; saves go out, one at a time
 *   detached   opened by token while the store was down: owns nothing until a claim succeeds
 *   over       released, superseded, or failed; nothing is saved any more
 *
 * Invariants:
 * - H1 A save carries the newest position when it leaves; at most one is under way, so sequences arrive in
 *   order or are dropped by the store (P5).
 * - H2 What the store says of another fence than the one held now is old news, and is not acted on.
 * - H3 Before `begin` there is no position to save and nobody to tell: the next look at the store does both.
 */

import type { Clock } from "../../process/clock.ts";
import { Failure } from "../failure.ts";
import type { Metrics } from "../metrics.ts";
import { SESSION_RULES } from "./rules.ts";
import type {
  ClaimOutcome,
  Fence,
  Held,
  Holder,
  SaveOutcome,
  SessionState,
  SessionStore,
} from "./session-store.ts";

/** At most one save in this time; the position of a stream that ends is saved at once. */
const SAVE_EVERY_MS = 50;

/** The stream that has the session. */
export interface SessionStream {
  /** The position to save, as a token. */
  position(): Buffer;
  /** Something was delivered and is not acknowledged. */
  outstanding(): boolean;
  superseded(by: Holder | undefined): void;
  /** Someone sought the session: the stream goes on from this token. */
  sought(position: Buffer): void;
  /** The store does not answer. Told once per outage. */
  unverified(): void;
  failed(failure: Failure): void;
}

type Phase =
  | { readonly at: "held"; readonly held: Held }
  | { readonly at: "detached"; readonly sinceMs: number }
  | { readonly at: "over" };

export interface HoldParts {
  readonly store: SessionStore;
  /** For intervals: not set by anybody while the server runs. */
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, "sessionSaved" | "sessionSuperseded">;
  readonly key: Held["key"];
  readonly topicId: Held["topicId"];
  readonly holder: Holder;
  readonly strict: boolean;
  /** Claims the session for a stream that has been detached for so long. */
  readonly claimDetached: (forMs: number, position: Buffer) => Promise<ClaimOutcome>;
}

export class SessionHold {
  readonly #parts: HoldParts;
  #phase: Phase;
  #stream: SessionStream | undefined;
  #saved: Buffer;
  #sequence = 0;
  #saving: Promise<void> | undefined;
  #claiming = false;
  #lastSaveMs = Number.NEGATIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;
  #unverified = false;
  #closed: Promise<void> | undefined;

  /**
   * @param fence of the claim; undefined while the store does not answer.
   * @param saved what the store has; empty for a new session.
   */
  constructor(parts: HoldParts, fence: Fence | undefined, saved: Buffer) {
    this.#parts = parts;
    this.#saved = saved;
    this.#phase = fence ? this.#held(fence) : { at: "detached", sinceMs: parts.clock.now() };
  }

  get key(): Held["key"] {
    return this.#parts.key;
  }

  get topicId(): Held["topicId"] {
    return this.#parts.topicId;
  }

  /** Whether it still holds the session is not known: the store does not answer. */
  get isUnverified(): boolean {
    return this.#phase.at === "detached" || this.#unverified;
  }

  /** All partitions are the one holder's. */
  has(): boolean {
    return true;
  }

  /** Undefined while nothing is held. */
  get fence(): Fence | undefined {
    return this.#phase.at === "held" ? this.#phase.held.fence : undefined;
  }

  /** What the store has, as far as this stream knows. */
  get savedToken(): Buffer {
    return this.#saved;
  }

  /** Before the first event: a new session has a position from here on. @throws Failure */
  async begin(stream: SessionStream): Promise<void> {
    this.#stream = stream;
    if (this.#phase.at === "detached") this.#down();
    else if (this.#saved.length === 0) {
      await this.#save(false);
      if (this.#saved.length === 0 && this.#phase.at === "held" && this.#parts.strict) {
        throw unavailable("the first position was not saved");
      }
    }
  }

  /** The position may have moved. */
  changed(): void {
    if (this.#phase.at !== "held" || !this.#stream || this.#saving || this.#cancelTimer) return;
    const { clock } = this.#parts;
    const wait = this.#lastSaveMs + SAVE_EVERY_MS - clock.now();
    if (wait <= 0) this.#start();
    else {
      this.#cancelTimer = clock.setTimer(wait, () => {
        this.#cancelTimer = undefined;
        this.#start();
      });
    }
  }

  /** What the store said when it was asked for the session held under `fence`. */
  seen(fence: Fence, state: SessionState): void {
    if (this.#phase.at !== "held" || !this.#stream || this.#phase.held.fence !== fence) return;
    const { compare } = SESSION_RULES;
    if (state.kind === "unavailable") this.#down();
    else if (state.kind === "unreadable") this.#unreadable(state.reason);
    else if (state.kind === "shared") this.#superseded(undefined);
    else if (state.kind === "none") {
      if (state.forgotten && compare(state.forgotten, fence) > 0) this.#superseded(undefined);
      // The store lost it: it is made again (T3).
      else this.#start(true);
    } else if (compare(state.fence, fence) > 0) this.#superseded(state.holder);
    else if (compare(state.fence, fence) < 0) this.#start(true);
    else if (state.fence.seeks > fence.seeks) this.#sought(state.fence, state.position);
    // A failover lost what the session was sought to.
    else if (state.fence.seeks < fence.seeks) this.#start(true);
    else this.#unverified = false;
  }

  /** From time to time while the store does not answer, or nothing is held. */
  retry(): void {
    if (!this.#stream) return;
    if (this.#phase.at === "detached") void this.#claim(this.#phase.sinceMs);
    else this.changed();
  }

  /**
   * The stream has ended. Saves where it stood, and releases the session if all that was delivered is
   * acknowledged. Never rejects.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#cancelTimer?.();
    if (this.#phase.at !== "held" || !this.#stream) {
      this.#phase = { at: "over" };
      return;
    }
    const { position, release } = this.#now();
    await this.#saving;
    await this.#send(position, release);
    this.#phase = { at: "over" };
  }

  #now(): { position: Buffer; release: boolean } {
    const stream = this.#stream as SessionStream;
    return { position: stream.position(), release: !stream.outstanding() };
  }

  #held(fence: Fence): Phase {
    const { key, topicId, holder } = this.#parts;
    return { at: "held", held: { key, topicId, holder, fence } };
  }

  #start(force = false): void {
    if (!this.#saving) void this.#save(force);
  }

  async #save(force: boolean): Promise<void> {
    if (this.#phase.at !== "held") return;
    const { position } = this.#now();
    if (!force && position.equals(this.#saved)) return;
    this.#lastSaveMs = this.#parts.clock.now();
    this.#saving = this.#send(position, false);
    await this.#saving;
    this.#saving = undefined;
    if (this.#phase.at === "held" && !this.#unverified) this.changed();
  }

  async #send(position: Buffer, release: boolean): Promise<void> {
    if (this.#phase.at !== "held") return;
    const { held } = this.#phase;
    const save = { sequence: ++this.#sequence, position, release };
    this.#judge(held.fence, position, await this.#parts.store.save(held, save));
  }

  #judge(fence: Fence, position: Buffer, outcome: SaveOutcome): void {
    if (this.#phase.at !== "held" || this.#phase.held.fence !== fence) return;
    if (outcome.kind === "saved") {
      this.#saved = position;
      this.#unverified = false;
      this.#parts.metrics.sessionSaved();
    } else if (outcome.kind === "sought") this.#sought(outcome.fence, outcome.position);
    else if (outcome.kind === "superseded") this.#superseded(outcome.by);
    else if (outcome.kind === "unreadable") this.#unreadable(outcome.reason);
    else this.#down();
  }

  async #claim(sinceMs: number): Promise<void> {
    if (this.#claiming) return;
    this.#claiming = true;
    const { position } = this.#now();
    const forMs = this.#parts.clock.now() - sinceMs;
    const outcome = await this.#parts.claimDetached(forMs, position);
    this.#claiming = false;
    if (this.#phase.at !== "detached") return;
    if (outcome.kind === "claimed") {
      this.#phase = this.#held(outcome.fence);
      this.#saved = position;
      this.#unverified = false;
      this.changed();
    } else if (outcome.kind === "superseded") this.#superseded(outcome.by);
    else if (outcome.kind === "late") this.#superseded(this.#parts.holder);
    else if (outcome.kind === "other-topic" || outcome.kind === "other-mode")
      this.#superseded(undefined);
    else if (outcome.kind === "unreadable") this.#unreadable(outcome.reason);
  }

  #sought(fence: Fence, position: Buffer | undefined): void {
    if (!position) {
      this.#superseded(undefined);
      return;
    }
    this.#phase = this.#held(fence);
    this.#saved = position;
    this.#stream?.sought(position);
  }

  #superseded(by: Holder | undefined): void {
    this.#phase = { at: "over" };
    this.#parts.metrics.sessionSuperseded();
    this.#stream?.superseded(by);
  }

  #unreadable(reason: string): void {
    this.#fail(new Failure("SESSION_UNREADABLE", reason));
  }

  #fail(failure: Failure): void {
    this.#phase = { at: "over" };
    this.#stream?.failed(failure);
  }

  #down(): void {
    if (this.#unverified) return;
    this.#unverified = true;
    if (this.#parts.strict) this.#fail(unavailable("the stream was opened as strict"));
    else this.#stream?.unverified();
  }
}

export function unavailable(why: string): Failure {
  return new Failure("SESSION_STORE_UNAVAILABLE", `The session store does not answer: ${why}.`);
}
