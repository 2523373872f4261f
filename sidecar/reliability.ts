/**
 * A server's judgement of itself: draining, blocked, or unable to read while Kafka is well. Streams are
 * told to move; a gateway says that it is not ready.
 *
 * - An unreachable Kafka makes no server unreliable: another would see the same (DESIGN: Readiness).
 *   Hence `kafkaAnswers` is asked before a read that stalls is held against this server.
 * - Each partition's read is judged alone: one that answers says nothing of the others.
 * - A pod door moves nobody but for drain, and stays ready: its app has no other server.
 */

import type { Clock } from "../process/clock.ts";
import type { Readiness } from "../process/status-page.ts";
import type { MovingReason } from "../proto/gen/throughline/v1/throughline.ts";
import type { LiveRead, ReadsWatch } from "./dispatch/dispatch-host.ts";

export type MovingListener = (reason: MovingReason, deadlineMs: number) => void;

export interface Reliability extends ReadsWatch {
  /** True once a drain has begun: new streams are refused. */
  readonly draining: boolean;
  /**
   * Calls when streams should move, at once when the server drains already; `deadlineMs` is 0 when it will
   * not end them by itself.
   */
  onMoving(listener: MovingListener): () => void;
}

export interface ReliabilityOptions {
  readonly shape: "gateway" | "pod";
  readonly clock: Clock;
  readonly loopBlockedMs: number;
  readonly readsStalledMs: number;
  /** Whether Kafka answers on another connection for the partition of this read. */
  readonly kafkaAnswers: (read: LiveRead) => Promise<boolean>;
  readonly onFinding: (message: string) => void;
}

const DRAIN = 1;
const SERVER_BLOCKED = 3;
const READS_STALLED = 4;
/** A server that was blocked is trusted again after this many loop checks in time. */
const CALM_BEATS = 30;

/** Kafka is asked of this many reads at once: an outage has every partition fail. */
const MAX_ASKED = 8;

/** A read that is well is not kept. */
type Failing =
  | { readonly kind: "failing"; readonly sinceMs: number; reason: string }
  /** It failed for long, and Kafka is asked. */
  | { readonly kind: "asked" }
  | { readonly kind: "stalled" };

export class SelfReliability implements Reliability {
  readonly #options: ReliabilityOptions;
  readonly #moving = new Set<MovingListener>();
  readonly #readinessListeners = new Set<() => void>();
  readonly #cancelBeat: { now: () => void };
  readonly #reads = new Map<LiveRead, Failing>();
  #calmBeatsLeft = 0;
  #catalogRead = false;
  #drain: { readonly deadlineMs: number } | undefined;
  #closed = false;
  #lastReady = false;

  constructor(options: ReliabilityOptions) {
    this.#options = options;
    this.#cancelBeat = { now: () => {} };
    this.#beat();
    this.#lastReady = this.readiness().ready;
  }

  get draining(): boolean {
    return this.#drain !== undefined;
  }

  readiness(): Readiness {
    if (this.#options.shape === "pod") return { ready: true, why: "ready" };
    if (this.#drain) return { ready: false, why: "draining" };
    if (this.#calmBeatsLeft > 0) return { ready: false, why: "the event loop was blocked" };
    if (this.#count("stalled") > 0) return { ready: false, why: "reads from Kafka stall" };
    if (!this.#catalogRead) return { ready: false, why: "the catalog has not been read yet" };
    return { ready: true, why: "ready" };
  }

  onReadiness(listener: () => void): () => void {
    this.#readinessListeners.add(listener);
    return () => this.#readinessListeners.delete(listener);
  }

  onMoving(listener: MovingListener): () => void {
    this.#moving.add(listener);
    // A stream that was being opened when the drain began.
    if (this.#drain) listener(DRAIN, this.#drain.deadlineMs);
    return () => this.#moving.delete(listener);
  }

  catalogRead(): void {
    this.#catalogRead = true;
    this.#tellReadiness();
  }

  drain(deadlineMs: number): void {
    if (this.#drain) return;
    this.#drain = { deadlineMs };
    this.#tellReadiness();
    this.#tellMoving(DRAIN, deadlineMs);
  }

  readOk(read: LiveRead): void {
    this.#forget(read, "reads from Kafka go on");
  }

  readFailed(read: LiveRead, reason: string): void {
    const known = this.#reads.get(read);
    if (known?.kind === "failing") known.reason = reason;
    else if (!known) this.#fails(read, reason);
  }

  readEnded(read: LiveRead): void {
    this.#forget(read, "the reads from Kafka that stalled have ended");
  }

  close(): void {
    this.#closed = true;
    this.#cancelBeat.now();
  }

  #fails(read: LiveRead, reason: string): void {
    this.#reads.set(read, { kind: "failing", sinceMs: this.#options.clock.now(), reason });
  }

  #forget(read: LiveRead, finding: string): void {
    const known = this.#reads.get(read);
    if (!known) return;
    this.#reads.delete(read);
    if (known.kind !== "stalled" || this.#count("stalled") > 0) return;
    this.#options.onFinding(finding);
    this.#tellReadiness();
  }

  #count(kind: Failing["kind"]): number {
    let count = 0;
    for (const failing of this.#reads.values()) if (failing.kind === kind) count++;
    return count;
  }

  #judgeReads(): void {
    let room = MAX_ASKED - this.#count("asked");
    const before = this.#options.clock.now() - this.#options.readsStalledMs;
    for (const [read, failing] of this.#reads) {
      if (failing.kind !== "failing" || failing.sinceMs > before) continue;
      if (room-- <= 0) return;
      void this.#judge(read, failing.reason);
    }
  }

  async #judge(read: LiveRead, reason: string): Promise<void> {
    const asked = { kind: "asked" } as const;
    this.#reads.set(read, asked);
    const answers = await this.#options.kafkaAnswers(read).catch(() => false);
    if (this.#reads.get(read) !== asked || this.#closed) return;
    if (!answers) {
      this.#fails(read, reason);
      return;
    }
    const first = this.#count("stalled") === 0;
    this.#reads.set(read, { kind: "stalled" });
    const where = `${read.topic.name}[${read.partition}]`;
    this.#options.onFinding(`reads of ${where} stall while Kafka answers otherwise: ${reason}`);
    if (!first) return;
    this.#tellReadiness();
    if (this.#options.shape === "gateway") this.#tellMoving(READS_STALLED, 0);
  }

  /** Judges the reads; a timer that fires late says that the event loop was blocked. */
  #beat(): void {
    const { clock, loopBlockedMs, readsStalledMs, shape } = this.#options;
    const everyMs = Math.min(1000, loopBlockedMs, readsStalledMs);
    const due = clock.now() + everyMs;
    this.#cancelBeat.now = clock.setTimer(everyMs, () => {
      const lateMs = clock.now() - due;
      if (lateMs > loopBlockedMs) {
        this.#calmBeatsLeft = CALM_BEATS;
        this.#options.onFinding(`the event loop was blocked for ${Math.round(lateMs)} ms`);
        this.#tellReadiness();
        if (shape === "gateway") this.#tellMoving(SERVER_BLOCKED, 0);
      } else if (this.#calmBeatsLeft > 0 && --this.#calmBeatsLeft === 0) {
        this.#tellReadiness();
      }
      this.#judgeReads();
      if (!this.#closed) this.#beat();
    });
  }

  #tellMoving(reason: MovingReason, deadlineMs: number): void {
    for (const listener of [...this.#moving]) listener(reason, deadlineMs);
  }

  #tellReadiness(): void {
    const { ready } = this.readiness();
    if (ready === this.#lastReady) return;
    this.#lastReady = ready;
    for (const listener of [...this.#readinessListeners]) listener();
  }
}
