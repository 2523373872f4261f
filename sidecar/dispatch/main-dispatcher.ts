/**
 * Main dispatcher: reads one partition once, whatever the number of clients, and keeps the newest
 * events in a byte-capped tail. It never waits for a client: who needs more than the tail is demoted.
 *
 * It begins at the end of the log, and begins anew where the log says that its position is no more;
 * its partition then has every client's position judged again.
 */
import type { Fetched, LogLoss, PartitionReader, Position, TopicInfo } from "../../kafka/log.ts";
import { scanNext } from "../../kafka/scan.ts";
import type { DispatchHost, LiveRead } from "./dispatch-host.ts";
import { Tail } from "./tail.ts";

export interface MainEvents {
  /** The tail exists now, or grew by so much. */
  appended(events: number, bytes: number): void;
  /** The tail begins anew; positions must be judged again. */
  restarted(): void;
  gone(): void;
  failed(reason: { kind: "unauthorised" | "corrupt"; reason: string }): void;
}

/** What is known of the end of the log. */
export interface LogEnd {
  lastStable: number;
  highWatermark: number;
}

const RETRY_MS = 200;

export class MainDispatcher {
  /** Undefined until the end of the log is known. */
  tail: Tail | undefined;
  readonly end: LogEnd = { lastStable: -1, highWatermark: -1 };
  /** Why Kafka cannot be read now; undefined while it can. */
  stalled: string | undefined;
  /** How reads of this partition fare is told of this. */
  readonly read: LiveRead;
  readonly #host: DispatchHost;
  readonly #topic: TopicInfo;
  readonly #partition: number;
  readonly #reader: PartitionReader;
  readonly #events: MainEvents;
  #closed = false;

  constructor(host: DispatchHost, topic: TopicInfo, partition: number, events: MainEvents) {
    this.#host = host;
    this.#topic = topic;
    this.#partition = partition;
    this.#events = events;
    this.read = { topic, partition };
    this.#reader = host.log.openReader(topic, partition);
    void this.#run();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.tail) this.#host.tailBytes(-this.tail.bytes);
    this.#reader.close();
    this.#host.reads.readEnded(this.read);
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const start = await this.#start();
      if (start === undefined) return;
      this.#begin(start);
      const loss = await this.#follow();
      if (loss === undefined) return;
      if (loss.kind === "gone") {
        this.#events.gone();
        return;
      }
      this.#begin(await this.#restart(loss));
    }
  }

  #begin(start: Position): void {
    if (this.#closed) return;
    const first = this.tail === undefined;
    if (this.tail) this.#host.tailBytes(-this.tail.bytes);
    this.tail = new Tail(start.offset, start.epoch);
    if (first) this.#events.appended(0, 0);
    else this.#events.restarted();
  }

  async #start(): Promise<Position | undefined> {
    if (this.tail) return { offset: this.tail.from, epoch: this.tail.epoch };
    while (!this.#closed) {
      const found = await this.#host.log.offset(this.#topic, this.#partition, "latest");
      if (this.#closed) return undefined;
      if (found.kind === "offset") return { offset: found.offset, epoch: found.epoch };
      if (found.kind === "gone") {
        this.#events.gone();
        return undefined;
      }
      if (found.kind !== "unavailable") {
        this.#host.reads.readEnded(this.read);
        this.#events.failed({ kind: found.kind, reason: found.reason });
        return undefined;
      }
      this.#stall(found.reason);
      await this.#delay();
    }
    return undefined;
  }

  /** Reads on until the log loses the position; undefined when closed or failed for good. */
  async #follow(): Promise<LogLoss | undefined> {
    const { limits } = this.#host;
    let tail = this.tail as Tail;
    let from: Position = { offset: tail.next, epoch: tail.epoch };
    let pending = this.#reader.fetch(from, limits.fetchBytes, limits.pollMs);
    for (;;) {
      const outcome = await pending;
      if (this.#closed) return undefined;
      if (outcome.kind !== "unavailable") this.#host.reads.readOk(this.read);
      if (outcome.kind === "loss") return outcome.loss;
      if (outcome.kind === "unavailable") {
        this.#stall(outcome.reason);
        await this.#delay();
        pending = this.#reader.fetch(from, limits.fetchBytes, limits.pollMs);
        continue;
      }
      if (outcome.kind !== "fetched") {
        this.#events.failed({ kind: outcome.kind, reason: outcome.reason });
        return undefined;
      }
      this.#noteOk(outcome);
      const next = scanNext(outcome.records, from.offset);
      const at = from.offset;
      from = next.next > at ? { offset: next.next, epoch: next.epoch } : from;
      // Sent before this one is encoded, so that Kafka and we work at the same time.
      pending = this.#reader.fetch(from, limits.fetchBytes, limits.pollMs);
      const encoded = this.#host.encoder.encode(outcome, at);
      outcome.release();
      tail = this.tail as Tail;
      let events = 0;
      let bytes = 0;
      for (const segment of encoded.segments) {
        const before = tail.bytes;
        tail.append(segment);
        events += segment.count;
        bytes += segment.bytes.length;
        this.#host.tailBytes(tail.bytes - before);
      }
      this.#trim(tail);
      if (encoded.segments.length > 0) this.#events.appended(events, bytes);
      if (encoded.kind === "corrupt") {
        this.#events.failed({ kind: "corrupt", reason: encoded.reason });
        return undefined;
      }
    }
  }

  #trim(tail: Tail): void {
    const cap = Math.min(this.#host.limits.tailPartitionBytes, this.#host.tailBytesAllowed());
    while (tail.bytes > cap && tail.length > 1) this.#host.tailBytes(-tail.dropOldest());
  }

  async #restart(loss: Exclude<LogLoss, { kind: "gone" }>): Promise<Position> {
    if (loss.kind === "truncated") return { offset: loss.endOffset, epoch: loss.epoch };
    if (loss.kind === "before-earliest") return { offset: loss.earliest, epoch: -1 };
    for (;;) {
      const found = await this.#host.log.offset(this.#topic, this.#partition, "latest");
      if (found.kind === "offset") return { offset: found.offset, epoch: found.epoch };
      if (this.#closed) return { offset: loss.earliest, epoch: -1 };
      await this.#delay();
    }
  }

  #noteOk(outcome: Fetched): void {
    this.stalled = undefined;
    this.end.lastStable = outcome.lastStable;
    this.end.highWatermark = outcome.highWatermark;
    if (outcome.records.length > 0) this.#host.metrics.logBytesRead(outcome.records.length, "live");
  }

  #stall(reason: string): void {
    this.stalled = reason;
    this.#host.reads.readFailed(this.read, reason);
  }

  #delay(): Promise<void> {
    return new Promise((resolve) => {
      this.#host.clock.setTimer(RETRY_MS, resolve);
    });
  }
}
