/**
 * The simulated deployment: one partition in the in-memory log, two servers that run the product's
 * dispatchers, and clients that take, stall, lose their server and go on at the other with their token.
 *
 * Judged after every frame: an event delivered is exactly the next committed one after the client's last
 * (no gap, no repeat, no disorder); at the end: every client is at the end of the log, served by a main
 * dispatcher (none stuck).
 */
import type { TopicInfo } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { CreditBalance } from "../../sidecar/credit.ts";
import { CatchUpBudget } from "../../sidecar/dispatch/catch-up-budget.ts";
import { CatchUpLoad } from "../../sidecar/dispatch/catch-up-load.ts";
import type { DispatchHost } from "../../sidecar/dispatch/dispatch-host.ts";
import { SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import type { PlanningPace } from "../../sidecar/dispatch/plan-catch-up.ts";
import type { DispatchRules } from "../../sidecar/dispatch/rules.ts";
import { SegmentMemory } from "../../sidecar/dispatch/segment-memory.ts";
import { Dispatch } from "../../sidecar/dispatch/topic-dispatch.ts";
import { Turns } from "../../sidecar/dispatch/turns.ts";
import type { Frame } from "../../sidecar/frame.ts";
import { InFlightBudget } from "../../sidecar/in-flight-budget.ts";
import { SubscriberStream } from "../../sidecar/stream.ts";
import { decodeToken, type TokenIdentity } from "../../sidecar/token.ts";
import { offsetsOf } from "./offsets-of.ts";
import { Random } from "./random.ts";
import { VirtualClock } from "./virtual-clock.ts";

export interface Counts {
  delivered: number;
  catchUps: number;
  shared: number;
  merges: number;
  demotions: number;
  queued: number;
  takeovers: number;
}

export class Harm extends Error {}

interface Server {
  readonly dispatch: Dispatch;
  readonly budget: InFlightBudget;
}

class Client {
  stream: SubscriberStream | undefined;
  credit = new CreditBalance({ events: 1n, bytes: 0n });
  token: Buffer = Buffer.alloc(0);
  /** Index in the list of committed offsets of the event that must come next. */
  expected = 0;
  stalledUntil = 0;
  busyUntil = 0;
}

const PAYLOAD_BYTES = 40;
/** So small that nearly every segment's memory is used again. */
export const MEMORY_STEP_BYTES = 64;
/** An interleaving lasts some hundred milliseconds. */
const PACE: PlanningPace = { youngMs: 10, soonMs: 20, againMs: 5, busyBytesPerSecond: 20_000 };

export class World {
  readonly counts: Counts;
  readonly #random: Random;
  readonly #clock: VirtualClock;
  readonly #log: MemoryLog;
  readonly #topic: TopicInfo;
  readonly #identity: TokenIdentity;
  readonly #committed: number[] = [];
  readonly #servers: Server[];
  readonly #clients: Client[];
  #harm: Harm | undefined;

  /** @param memory makes that of a server's segments. */
  constructor(
    seed: number,
    rules: DispatchRules,
    counts: Counts,
    memory = (): SegmentMemory => new SegmentMemory({ stepBytes: MEMORY_STEP_BYTES }),
  ) {
    this.counts = counts;
    this.#random = new Random(seed);
    this.#clock = new VirtualClock(this.#random);
    this.#log = new MemoryLog({
      schedule: (deliver) => {
        // Now and then one answer is late: a catch-up may then be ahead of its main dispatcher.
        const late = this.#random.chance(0.03);
        this.#clock.setTimer(late ? this.#random.int(10, 60) : this.#random.int(0, 3), deliver);
      },
      setTimer: this.#clock.setTimer,
    });
    this.#topic = this.#log.createTopicNow("shop.orders", 1);
    this.#identity = { deploymentId: "sim", topic: "shop/orders", topicId: this.#topic.id };
    this.#servers = [this.#server(rules, memory()), this.#server(rules, memory())];
    this.#clients = Array.from({ length: this.#random.int(2, 6) }, () => new Client());
  }

  /** One interleaving. @throws Harm */
  async run(batches: number): Promise<void> {
    for (let i = 0; i < 10; i++) this.#publish();
    for (const client of this.#clients)
      this.#clock.setTimer(this.#random.int(0, 50), () => this.#join(client));
    let left = batches;
    const publish = (): void => {
      this.#publish();
      if (--left > 0) this.#clock.setTimer(this.#random.int(0, 6), publish);
    };
    this.#clock.setTimer(0, publish);
    // Some after the last event too: who waits for a dispatcher whose clients go then has no other help.
    let later = 10;
    const disturb = (): void => {
      const client = this.#pick();
      if (this.#random.chance(0.4)) this.#takeOver(client);
      else client.stalledUntil = this.#clock.now() + this.#random.int(10, 400);
      if (left > 0 || --later > 0) this.#clock.setTimer(this.#random.int(5, 60), disturb);
    };
    this.#clock.setTimer(20, disturb);
    await this.#clock.run(1e6, () => this.#harm !== undefined || left <= 0);
    const end = this.#clock.now() + 20_000;
    const done = await this.#clock.run(end, () => this.#harm !== undefined || this.#quiet());
    for (const server of this.#servers) server.dispatch.close();
    if (this.#harm) throw this.#harm;
    if (!done) throw new Harm(`stuck: ${this.#stuck()}`);
  }

  #publish(): void {
    const records = Array.from({ length: this.#random.int(1, 12) }, () => ({
      key: null,
      value: Buffer.alloc(this.#random.int(0, PAYLOAD_BYTES), 120),
      headers: [],
      timeMs: this.#clock.now(),
    }));
    if (this.#random.chance(0.1)) {
      this.#log.appendAbortedNow(this.#topic.name, 0, records);
      return;
    }
    const first = this.#log.appendNow(this.#topic.name, 0, records);
    for (let i = 0; i < records.length; i++) this.#committed.push(first + i);
  }

  #join(client: Client): void {
    if (client.token.length === 0) {
      client.expected = this.#random.int(0, Math.max(0, this.#committed.length - 1));
      this.#open(client, { offset: this.#committed[client.expected] ?? 0, epoch: -1 });
      return;
    }
    const read = decodeToken(client.token, this.#identity, 1);
    this.#open(client, read.positions[0] ?? { offset: 0, epoch: -1 });
  }

  #open(client: Client, at: { offset: number; epoch: number }): void {
    const server = this.#servers[this.#random.int(0, 1)] as Server;
    client.credit = new CreditBalance({ events: BigInt(this.#random.int(1, 40)), bytes: 0n });
    const dispatch = server.dispatch.topic(this.#topic);
    const stream: SubscriberStream = new SubscriberStream({
      identity: this.#identity,
      dispatch,
      credit: client.credit,
      admits: undefined,
      recovery: 1,
      maxFrameBytes: 1 << 20,
      targetFrameBytes: this.#random.int(100, 1000),
      budget: server.budget,
      delivered: (events) => {
        this.counts.delivered += events;
      },
      wire: {
        write: (frame, taken) => this.#receive(client, stream, frame, taken),
        end: (failure) => this.#fail(`stream ended: ${failure.message}`),
        spent: () => this.#fail("a stream with credit to come ended as spent"),
        lost: (_cursor, loss) => this.#fail(`lost: ${loss.kind}`),
      },
    });
    client.stream = stream;
    client.busyUntil = 0;
    stream.addCursor(0, at, false);
    stream.start();
    this.#giveCredit(client, stream);
  }

  /** The client takes a frame after a while; a killed one never does. */
  #receive(client: Client, stream: SubscriberStream, frame: Frame, taken: () => void): void {
    const now = this.#clock.now();
    // A connection keeps the order of its frames.
    client.busyUntil =
      Math.max(client.busyUntil + 0.001, client.stalledUntil, now) + this.#random.int(0, 4);
    this.#clock.setTimer(client.busyUntil - now, () => {
      if (client.stream !== stream) return;
      // The transport reads a frame's memory until it has taken it.
      const bytes = Buffer.alloc(frame.byteLength);
      frame.copy(bytes, 0);
      this.#judge(client, bytes);
      taken();
    });
  }

  #judge(client: Client, bytes: Buffer): void {
    const { offsets, token } = offsetsOf(bytes);
    for (const offset of offsets) {
      const wanted = this.#committed[client.expected++];
      if (offset === wanted) continue;
      const what = wanted === undefined || offset < wanted ? "repeat or disorder" : "gap";
      this.#fail(`${what}: got offset ${offset}, wanted ${wanted}`);
      return;
    }
    client.token = token;
  }

  #giveCredit(client: Client, stream: SubscriberStream): void {
    this.#clock.setTimer(this.#random.int(1, 30), () => {
      if (client.stream !== stream || !stream.open) return;
      if (client.credit.events < 40 && client.stalledUntil <= this.#clock.now()) {
        client.credit.add({ events: BigInt(this.#random.int(1, 60)), bytes: 0n });
        stream.pump();
      }
      this.#giveCredit(client, stream);
    });
  }

  /** The client's server is lost to it; it goes on at a server with its last token. */
  #takeOver(client: Client): void {
    if (client.stream === undefined) return;
    client.stream.close();
    client.stream.options.dispatch.leave({ gone: () => {} });
    client.stream = undefined;
    this.counts.takeovers++;
    if (client.token.length === 0) {
      client.expected = 0;
    }
    this.#clock.setTimer(this.#random.int(0, 100), () => this.#join(client));
  }

  #quiet(): boolean {
    return this.#clients.every((client) => {
      const cursor = client.stream?.cursors.get(0);
      return client.expected >= this.#committed.length && cursor?.place.at === "live";
    });
  }

  #stuck(): string {
    return this.#clients
      .map((client) => {
        const cursor = client.stream?.cursors.get(0);
        return `${client.expected}/${this.#committed.length} ${cursor?.place.at ?? "no stream"}`;
      })
      .join(", ");
  }

  #pick(): Client {
    return this.#clients[this.#random.int(0, this.#clients.length - 1)] as Client;
  }

  #fail(what: string): void {
    this.#harm ??= new Harm(what);
  }

  #server(rules: DispatchRules, memory: SegmentMemory): Server {
    const count = this.counts;
    const host: DispatchHost = {
      log: this.#log,
      clock: this.#clock,
      encoder: new SegmentEncoder(memory),
      rules,
      budget: new CatchUpBudget(3),
      turns: new Turns(this.#clock, 1000, (begin) => void this.#clock.setTimer(0, begin)),
      pace: PACE,
      load: new CatchUpLoad(() => this.#random.chance(0.3), PACE, 0),
      limits: {
        tailPartitionBytes: 3000,
        catchUpWindowBytes: 2500,
        fetchBytes: 1000,
        shareDistanceBytes: 20_000,
        sharedStallMs: 20,
        aloneStallMs: 100,
        pollMs: 50,
      },
      metrics: {
        catchUpsMade: () => count.catchUps++,
        catchUpShared: () => count.shared++,
        eventsQueuedDuringCatchUp: (events) => {
          count.queued += events;
        },
        merges: () => count.merges++,
        demotions: () => count.demotions++,
        logBytesRead: () => {},
      },
      tailBytesAllowed: () => Number.POSITIVE_INFINITY,
      tailBytes: () => {},
      catchUpBytes: () => {},
      reads: { readOk: () => {}, readFailed: () => {}, readEnded: () => {} },
    };
    return { dispatch: new Dispatch(host), budget: new InFlightBudget(4000) };
  }
}
