/**
 * One Subscribe call after its open: keeps the stream's heartbeats and notices, adds credit, follows the
 * Topic in the catalog, and recovers or ends when a position is lost (P2).
 */
import type { LogLoss, TopicInfo } from "../kafka/log.ts";
import {
  type Ack,
  type Loss,
  type MovingReason,
  SubscribeResponse,
  type WaitsFor,
} from "../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "./catalog.ts";
import type { Cursor } from "./dispatch/cursor.ts";
import type { TopicUser } from "./dispatch/topic-dispatch.ts";
import { Failure, toFailure } from "./failure.ts";
import {
  earliestOf,
  LOSSES,
  lookUpOne,
  type OpenOptions,
  RECOVERY_EARLIEST,
  RECOVERY_LATEST,
  type ResolvedStart,
} from "./open.ts";
import type { ServerContext } from "./server-context.ts";
import type { SessionOfStream, SessionOwner } from "./sessions/stream-session.ts";
import { type StreamOptions, type StreamWire, SubscriberStream } from "./stream.ts";
import { resolveTopic } from "./topics.ts";

const WRITE_BLOCKED = 2;

/** Makes the session of a stream that is about to start. */
export type SessionMaker = (owner: SessionOwner) => SessionOfStream;

/** A member of a shared session has its partitions later, one by one. */
export type SubscriptionStart = ResolvedStart | { readonly kind: "member" };

export class Subscription implements TopicUser {
  readonly #server: ServerContext;
  readonly #stream: SubscriberStream;
  readonly #options: OpenOptions;
  readonly #topicName: string;
  readonly #spent: () => void;
  #session: SessionOfStream | undefined;
  #info: TopicInfo;
  #framesAtLastBeat = 0;
  #takenAtLastBeat = 0;
  #blockedMs = 0;
  /** The client has yet to take what tells it that it takes nothing. */
  #blockedTold = false;
  #cancelBeat: (() => void) | undefined;
  readonly #stops: (() => void)[] = [];

  constructor(
    server: ServerContext,
    topic: CatalogTopic,
    info: TopicInfo,
    options: OpenOptions,
    stream: Omit<StreamOptions, "wire">,
    wire: Omit<StreamWire, "lost">,
  ) {
    this.#server = server;
    this.#options = options;
    this.#topicName = topic.name;
    this.#spent = () => wire.spent();
    this.#info = info;
    this.#stream = new SubscriberStream({
      ...stream,
      wire: {
        write: (frame, taken) => wire.write(frame, taken),
        end: (failure) => {
          this.close();
          wire.end(failure);
        },
        spent: () => {
          this.close();
          wire.spent();
        },
        lost: (cursor, loss) => void this.#lost(cursor, loss),
      },
    });
  }

  /** Sends Opened, then events. @throws Failure */
  async start(start: SubscriptionStart, session?: SessionMaker): Promise<void> {
    const { dispatch } = this.#stream.options;
    dispatch.enter(this);
    this.#stops.push(() => dispatch.leave(this));
    const recreated = start.kind === "recreated";
    this.#session = session?.({
      cursors: this.#stream.cursors,
      send: (kind) => this.#send(kind),
      fail: (failure) => this.#stream.fail(failure),
      reposition: (to) => this.#stream.reposition(to),
      goOn: () => this.#stream.pump(),
      token: () => this.#stream.token(),
      now: () => this.#server.clock.now(),
      deliver: (partition, position) =>
        this.#stream.ready(this.#stream.addCursor(partition, position, position.epoch === -1)),
      withdraw: (partition) => this.#stream.removeCursor(partition),
      elsewhere: (to) => {
        this.#stream.elsewhere = to;
      },
    });
    this.#stream.session = this.#session;
    if (start.kind !== "member") this.#addCursors(start);
    await this.#session?.begin();
    if (!this.#stream.open) return;
    this.#send({
      $case: "opened",
      value: {
        token: this.#stream.token(),
        partitions: this.#info.partitions,
        server: this.#server.serverName,
        session: this.#session?.opened,
      },
    });
    this.#session?.openedSent();
    if (recreated) {
      for (const cursor of this.#stream.cursors.values()) {
        const from = start.positions[cursor.partition]?.offset ?? 0;
        this.#restarted(cursor, from, LOSSES.gone);
      }
    }
    this.#stops.push(this.#server.catalog.onChange((name) => this.#catalogChanged(name)));
    this.#stops.push(this.#server.reliability.onMoving((reason, at) => this.#moving(reason, at)));
    this.#beat();
    this.#stream.start();
    // What changed since the Topic was looked up was told to nobody.
    this.#catalogChanged(this.#topicName);
  }

  #addCursors(start: ResolvedStart): void {
    const recreated = start.kind === "recreated";
    const positions = recreated ? start.to : start.positions;
    for (const [partition, position] of positions.entries()) {
      const cursor = this.#stream.addCursor(partition, position, recreated || start.verified);
      if (!recreated) cursor.dropThrough = start.after.get(partition) ?? -1;
    }
  }

  addCredit(credit: { events: bigint; bytes: bigint }): void {
    try {
      this.#options.credit.add(credit);
      this.#session?.returned(Number(credit.events));
      this.#stream.pump();
    } catch (error) {
      this.#stream.fail(toFailure(error));
    }
  }

  ack(ack: Ack): void {
    try {
      if (!this.#session) {
        throw new Failure("INVALID_REQUEST", "ack: this stream has no session.");
      }
      this.#session.ack(ack);
    } catch (error) {
      this.#stream.fail(toFailure(error));
    }
  }

  /** The client leaves its session in order: the stream ends when that is saved. */
  leave(): void {
    if (!this.#session) {
      this.fail(new Failure("INVALID_REQUEST", "leave: this stream has no session."));
    } else if (this.#stream.open) {
      const left = this.#session.close(true);
      this.close();
      void left.then(() => this.#spent());
    }
  }

  /** The client has closed its side: the stream ends when its credit is used up. */
  noMoreCredit(): void {
    this.#stream.noMoreCredit();
  }

  fail(failure: Failure): void {
    this.#stream.fail(failure);
  }

  /**
   * TopicUser: the Kafka topic is no more under the id that this stream counts in, as its token, acks and
   * session do. So a recovery preset is applied to the next stream, which the client opens with the token;
   * by then, or soon, the catalog names the new topic.
   */
  gone(): void {
    const { catalog, namespace } = this.#server;
    const name = this.#topicName;
    try {
      if (this.#recovers) resolveTopic(catalog, namespace, name, "subscribe");
      throw new Failure(
        this.#recovers ? "TOPIC_GONE" : "POSITION_LOST",
        `Topic "${name}" was deleted, recreated, or is no longer served.`,
        { token: this.#stream.token(), loss: LOSSES.gone },
      );
    } catch (error) {
      this.#stream.fail(toFailure(error));
    }
  }

  close(): void {
    this.#cancelBeat?.();
    for (const stop of this.#stops.splice(0)) stop();
    void this.#session?.close(false);
    this.#stream.close();
  }

  get #recovers(): boolean {
    const { recovery } = this.#options;
    return recovery === RECOVERY_EARLIEST || recovery === RECOVERY_LATEST;
  }

  async #lost(cursor: Cursor, loss: LogLoss): Promise<void> {
    if (loss.kind === "gone") return this.gone();
    try {
      if (!this.#recovers) {
        const earliest = await earliestOf(this.#server.log, this.#info);
        if (!this.#stream.has(cursor)) return;
        this.#stream.fail(
          new Failure("POSITION_LOST", describe(cursor, loss), {
            token: this.#stream.token(),
            loss: LOSSES[loss.kind],
            earliest,
          }),
        );
        return;
      }
      const spec = this.#options.recovery === RECOVERY_EARLIEST ? "earliest" : "latest";
      const to = await lookUpOne(this.#server.log, this.#info, cursor.partition, spec);
      if (!this.#stream.open || !this.#stream.has(cursor)) return;
      const from = cursor.next;
      // Truncation keeps what lies below the cut: earliest would repeat it (P3).
      const next =
        loss.kind === "truncated" && spec === "earliest"
          ? { offset: Math.max(to.offset, loss.endOffset), epoch: loss.epoch }
          : to;
      cursor.moveTo(next.offset, next.epoch);
      this.#restarted(cursor, from, LOSSES[loss.kind]);
      this.#session?.recovered(cursor, this.#stream.token());
      this.#stream.recover(cursor, next.offset, next.epoch);
    } catch (error) {
      this.#stream.fail(toFailure(error));
    }
  }

  #restarted(cursor: Cursor, from: number, loss: Loss): void {
    this.#send({
      $case: "restarted",
      value: {
        partition: cursor.partition,
        fromOffset: BigInt(from),
        toOffset: BigInt(cursor.next),
        loss,
        token: this.#stream.token(),
      },
    });
  }

  #moving(reason: MovingReason, deadlineMs: number, taken?: () => void): void {
    const token = this.#stream.token();
    const value = { reason, deadlineMs: BigInt(deadlineMs), token };
    this.#send({ $case: "moving", value }, taken);
  }

  #catalogChanged(name: string): void {
    if (name !== this.#topicName) return;
    const now = this.#server.catalog.get(name);
    if (now?.state !== "Ready" || now.topicId !== this.#info.id) {
      this.#stream.options.dispatch.gone();
      return;
    }
    const { partitions } = this.#info;
    if (now.partitions <= partitions) return;
    // New partitions are read from their first event: whoever publishes there is not missed (P2).
    this.#info = { ...this.#info, partitions: now.partitions };
    if (this.#session?.grown(now.partitions)) return;
    for (let partition = partitions; partition < now.partitions; partition++) {
      this.#stream.ready(this.#stream.addCursor(partition, { offset: 0, epoch: -1 }, true));
    }
  }

  #beat(): void {
    this.#cancelBeat = this.#server.clock.setTimer(this.#options.heartbeatMs, () => {
      const stream = this.#stream;
      // A client that does not read gets no pile of heartbeats (P6).
      if (stream.framesSent === this.#framesAtLastBeat && !stream.waitsForClient) {
        this.#send({
          $case: "heartbeat",
          value: {
            token: stream.token(),
            lag: BigInt(this.#lag()),
            waitsFor: this.#waitsFor(),
            savedToken: this.#session?.savedToken ?? Buffer.alloc(0),
          },
        });
      }
      this.#session?.scanned();
      this.#framesAtLastBeat = stream.framesSent;
      this.#judgeWrites();
      this.#beat();
    });
  }

  /**
   * A client that takes nothing of what was written is told to move, once: it hears it, with the token
   * after all that was written before, when it takes again. A pod door moves nobody but for drain.
   */
  #judgeWrites(): void {
    const stream = this.#stream;
    const blocked = stream.waitsForClient && stream.framesTaken === this.#takenAtLastBeat;
    this.#blockedMs = blocked ? this.#blockedMs + this.#options.heartbeatMs : 0;
    this.#takenAtLastBeat = stream.framesTaken;
    if (this.#blockedTold || this.#server.shape === "pod") return;
    if (this.#blockedMs < this.#server.limits.writeBlockedMs) return;
    this.#blockedTold = true;
    this.#moving(WRITE_BLOCKED, 0, () => {
      this.#blockedTold = false;
    });
  }

  #lag(): number {
    let lag = 0;
    for (const { partition, next } of this.#stream.cursors.values()) {
      const { lastStable } = this.#stream.options.dispatch.partition(partition).main.end;
      if (lastStable < 0) return -1;
      lag += Math.max(0, lastStable - next);
    }
    return lag;
  }

  #waitsFor(): WaitsFor {
    const { dispatch } = this.#stream.options;
    const mains = Array.from(this.#stream.cursors.values(), (c) => ({
      c,
      main: dispatch.partition(c.partition).main,
    }));
    if (mains.some(({ main }) => main.stalled !== undefined)) return 2;
    if (this.#options.credit.none && this.#lag() !== 0) return 1;
    const held = mains.some(
      ({ c, main }) =>
        main.end.highWatermark > main.end.lastStable && c.next >= main.end.lastStable,
    );
    return held ? 3 : 0;
  }

  #send(kind: NonNullable<SubscribeResponse["kind"]>, taken?: () => void): void {
    this.#stream.write(Buffer.from(SubscribeResponse.encode({ kind }).finish()), taken);
  }
}

function describe(cursor: Cursor, loss: Exclude<LogLoss, { kind: "gone" }>): string {
  const at = `Partition ${cursor.partition}, offset ${cursor.next}`;
  switch (loss.kind) {
    case "before-earliest":
      return `${at}: retention removed it; the earliest event there is at ${loss.earliest}.`;
    case "truncated":
      return `${at}: the log was cut at offset ${loss.endOffset} of leader epoch ${loss.epoch}.`;
    default:
      return `${at}: lies past the end of the log.`;
  }
}
