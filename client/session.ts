/**
 * The client's side of a session: what the app was given and has acknowledged, over all the streams that
 * serve it one after the other.
 *
 * Invariants:
 * - L1 The app is given an event once: what a later stream sends again is dropped up to what it has, until
 *   someone sought the session, or recovery went back.
 *   Of a shared session's partition that holds as long as the app's stream has it: what others may have done
 *   with it since begins anew.
 * - L2 A stream hears only of events that it sent itself, so an ack that came before their second delivery
 *   waits for it.
 */
import type {
  Ack,
  Batch,
  Event,
  Opened,
  SessionOpen,
  SubscribeResponse,
} from "../proto/gen/throughline/v1/throughline.ts";

export interface SessionOptions {
  readonly name: string;
  /**
   * `exclusive`, the default: the newest stream has the session. `shared`: all that open it split the
   * topic's partitions.
   */
  readonly mode?: "exclusive" | "shared";
  /**
   * `taken`, the default: a batch is acknowledged when the app asks for the next one. `explicit`: only by
   * `ack()`.
   */
  readonly acks?: "taken" | "explicit";
  /** End the stream rather than go on unverified while the session store is down. */
  readonly strict?: boolean;
}

const EXPLICIT = 1;
const MODES = { exclusive: 1, shared: 2 } as const;

interface Progress {
  /** Last offset that the app was given. */
  given: number;
  acked: number;
  /** Of this stream: last offset that it sent, and that it was told to be acknowledged. */
  sent: number;
  told: number;
  /** Others may have had the partition since. */
  isOver: boolean;
}

export class ClientSession {
  readonly #options: SessionOptions;
  readonly #instance: string;
  #attempt = 0n;
  #progress = new Map<number, Progress>();
  #saved: Buffer = Buffer.alloc(0);
  #seeks: bigint | undefined;
  #isAssigned = false;
  #send: (ack: Ack) => void = () => {};

  /** @param instance random per process. */
  constructor(options: SessionOptions, instance: string) {
    this.#options = options;
    this.#instance = instance;
  }

  get isShared(): boolean {
    return this.#options.mode === "shared";
  }

  get explicit(): boolean {
    return this.#options.acks === "explicit";
  }

  /** Position that the store had when it was last heard of; empty when never. */
  get savedToken(): Buffer {
    return this.#saved;
  }

  /** A new stream. @param send to it. */
  open(send: (ack: Ack) => void): SessionOpen {
    this.#send = send;
    for (const progress of this.#progress.values()) {
      progress.sent = -1;
      progress.told = -1;
    }
    this.#isAssigned = false;
    const { name, strict = false, mode = "exclusive" } = this.#options;
    const attempt = ++this.#attempt;
    const known = { knownToken: this.#saved, knownSeeks: this.#seeks ?? 0n };
    const by = { instance: this.#instance, attempt };
    return { name, mode: MODES[mode], ...by, strict, acks: EXPLICIT, ...known };
  }

  /** The stream has ended: what is acknowledged now is told to the next one. */
  close(): void {
    this.#send = () => {};
  }

  /** All that the app was given is acknowledged, and the stream knows it. */
  get isSettled(): boolean {
    for (const { given, told } of this.#progress.values()) if (told < given) return false;
    return true;
  }

  /** Events that the app was not given yet. */
  fresh({ partition, events }: Batch): Event[] {
    const progress = this.#of(partition);
    const last = Number(events.at(-1)?.offset ?? -1);
    progress.sent = Math.max(progress.sent, last);
    const { given } = progress;
    const fresh = given < 0 ? events : events.filter(({ offset }) => Number(offset) > given);
    progress.given = Math.max(given, last);
    this.#tell(partition, progress);
    return fresh;
  }

  ack(partition: number, offset: number): void {
    const progress = this.#of(partition);
    progress.acked = Math.max(progress.acked, offset);
    this.#tell(partition, progress);
  }

  /** What a response says beside its events. */
  heard({ kind }: SubscribeResponse): void {
    switch (kind?.$case) {
      case "opened":
        this.#opened(kind.value);
        return;
      case "heartbeat":
        this.#save(kind.value.savedToken);
        return;
      case "repositioned":
        this.#progress = new Map();
        this.#seeks = kind.value.seeks;
        this.#saved = kind.value.token;
        this.#send({ positions: [], token: kind.value.token });
        return;
      case "assigned":
        this.#assigned(kind.value.partitions);
        return;
      case "revoked":
        // What the app has taken is acknowledged already, or it does so until the deadline.
        for (const partition of kind.value.partitions) this.#of(partition).isOver = true;
        return;
      case "restarted":
        this.#restarted(kind.value.partition, Number(kind.value.toOffset), kind.value.token);
    }
  }

  #opened({ token, session }: Opened): void {
    // Not what was stored before: nothing of a new session, and another place where a token moved it.
    this.#save(token);
    // Detached: nothing is known of the session.
    if (!session || session.generation === 0n) return;
    const { seeks } = session;
    if (this.#seeks !== undefined && this.#seeks !== seeks) this.#progress = new Map();
    this.#seeks = seeks;
  }

  /** The first one after a break tells what came back at once. */
  #assigned(partitions: readonly number[]): void {
    if (!this.#isAssigned) {
      for (const [partition, progress] of this.#progress)
        if (!partitions.includes(partition)) progress.isOver = true;
    }
    this.#isAssigned = true;
    for (const partition of partitions)
      if (this.#progress.get(partition)?.isOver) this.#progress.delete(partition);
  }

  #restarted(partition: number, to: number, token: Buffer): void {
    const { given, sent } = this.#of(partition);
    if (to > given) return;
    // What the app has is of what was cut, or of the topic before it was recreated.
    this.#progress.delete(partition);
    if (to <= sent) this.#send({ positions: [], token });
  }

  #save(token: Buffer | undefined): void {
    if (token && token.length > 0) this.#saved = token;
  }

  #tell(partition: number, progress: Progress): void {
    const through = Math.min(progress.acked, progress.sent);
    if (through <= progress.told) return;
    progress.told = through;
    this.#send({ positions: [{ partition, offset: BigInt(through) }], token: Buffer.alloc(0) });
  }

  #of(partition: number): Progress {
    let progress = this.#progress.get(partition);
    if (!progress) {
      progress = { given: -1, acked: -1, sent: -1, told: -1, isOver: false };
      this.#progress.set(partition, progress);
    }
    return progress;
  }
}
