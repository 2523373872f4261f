/**
 * A server's judgement of itself: draining, blocked, or unable to read while Kafka is well. Streams are
 * told to move; a gateway says that it is not ready.
 *
 * - An unreachable Kafka makes no server unreliable: another would see the same (DESIGN: Readiness).
 *   Hence `kafkaAnswers` is asked before reads that stall are held against this server.
 * - A pod door moves nobody but for drain, and stays ready: its app has no other server.
 */
import type { MovingReason } from "../proto/gen/throughline/v1/throughline.ts";
import type { Clock } from "./server-context.ts";

export type MovingListener = (reason: MovingReason, deadlineMs: number) => void;

export interface Reliability {
  /** True once a drain has begun: new streams are refused. */
  readonly draining: boolean;
  /** Calls when streams should move; `deadlineMs` is 0 when the server will not end them by itself. */
  onMoving(listener: MovingListener): () => void;
  /** A live read answered. */
  readOk(): void;
  /** A live read failed. */
  readStalled(reason: string): void;
}

export interface Readiness {
  readonly ready: boolean;
  /** For people: why not, or "ready". */
  readonly why: string;
}

export interface ReliabilityOptions {
  readonly shape: "gateway" | "pod";
  readonly clock: Clock;
  readonly loopBlockedMs: number;
  readonly readsStalledMs: number;
  /** Whether Kafka answers on other connections, for the partitions that are read. */
  readonly kafkaAnswers: () => Promise<boolean>;
  readonly onFinding: (message: string) => void;
}

const DRAIN = 1;
const SERVER_BLOCKED = 3;
const READS_STALLED = 4;
/** A server that was blocked is trusted again after this many loop checks in time. */
const CALM_BEATS = 30;

type Reads =
  | { readonly kind: "well" }
  | { readonly kind: "failing"; readonly cancel: () => void; reason: string }
  | { readonly kind: "stalled" };

export class SelfReliability implements Reliability {
  readonly #options: ReliabilityOptions;
  readonly #moving = new Set<MovingListener>();
  readonly #readinessListeners = new Set<() => void>();
  readonly #cancelBeat: { now: () => void };
  #reads: Reads = { kind: "well" };
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
    if (this.#reads.kind === "stalled") return { ready: false, why: "reads from Kafka stall" };
    if (!this.#catalogRead) return { ready: false, why: "the catalog has not been read yet" };
    return { ready: true, why: "ready" };
  }

  onReadiness(listener: () => void): () => void {
    this.#readinessListeners.add(listener);
    return () => this.#readinessListeners.delete(listener);
  }

  onMoving(listener: MovingListener): () => void {
    this.#moving.add(listener);
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

  readOk(): void {
    if (this.#reads.kind === "well") return;
    if (this.#reads.kind === "failing") this.#reads.cancel();
    else this.#options.onFinding("reads from Kafka go on");
    this.#reads = { kind: "well" };
    this.#tellReadiness();
  }

  readStalled(reason: string): void {
    if (this.#reads.kind === "failing") this.#reads.reason = reason;
    if (this.#reads.kind !== "well" || this.#closed) return;
    this.#awaitStall(reason);
  }

  close(): void {
    this.#closed = true;
    this.#cancelBeat.now();
    if (this.#reads.kind === "failing") this.#reads.cancel();
  }

  #awaitStall(reason: string): void {
    const { clock, readsStalledMs } = this.#options;
    const cancel = clock.setTimer(readsStalledMs, () => void this.#judgeReads());
    this.#reads = { kind: "failing", cancel, reason };
  }

  async #judgeReads(): Promise<void> {
    const failing = this.#reads;
    if (failing.kind !== "failing") return;
    const answers = await this.#options.kafkaAnswers().catch(() => false);
    if (this.#reads !== failing || this.#closed) return;
    if (!answers) {
      this.#awaitStall(failing.reason);
      return;
    }
    this.#reads = { kind: "stalled" };
    this.#options.onFinding(`reads stall while Kafka answers otherwise: ${failing.reason}`);
    this.#tellReadiness();
    if (this.#options.shape === "gateway") this.#tellMoving(READS_STALLED, 0);
  }

  /** A timer that fires late says that the event loop was blocked. */
  #beat(): void {
    const { clock, loopBlockedMs, shape } = this.#options;
    const everyMs = Math.min(1000, loopBlockedMs);
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
