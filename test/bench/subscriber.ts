/**
 * Subscribers as a process of their own (the server's CPU time must be the server's alone). Told by its
 * parent what to receive, tells when all is there.
 *
 * `walk` counts events and checks that every token is exactly the number of events further, without
 * decoding them; `decode` takes them through the TypeScript client.
 */
import { Client, type ClientDuplexStream, credentials, type MethodDefinition } from "@grpc/grpc-js";
import { ThroughlineClient } from "../../client/client.ts";
import { TokenBody } from "../../proto/gen/throughline/stored/v1/stored.ts";
import {
  type SubscribeRequest,
  ThroughlineServiceService,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { answer } from "./child.ts";

export interface Order {
  readonly address: string;
  readonly topic: string;
  /** Events that each client receives. */
  readonly events: number;
  readonly clients: number;
  readonly mode: "walk" | "decode";
  /** Events the server may send ahead; undefined: all. */
  readonly credit?: number;
  /** This many of the clients take nothing while the others receive. */
  readonly slow?: number;
  /** PEM of the door's certificate. */
  readonly ca?: string;
}

export interface Report {
  /** From the first frame of the first client to the last of the last. */
  readonly seconds: number;
  readonly events: number;
  readonly frames: number;
  readonly wrongTokens: number;
  readonly clientCpuSeconds: number;
}

const WINDOW_BYTES = 1 << 20;
const HUGE_CREDIT = 1_000_000_000;

answer(receive);

async function receive(order: Order): Promise<Report> {
  const cpu = process.cpuUsage();
  const tallies = Array.from({ length: order.clients }, () => new Tally());
  const slow = order.slow ?? 0;
  const stops: (() => void)[] = [];
  const all = tallies.map((tally, i) =>
    order.mode === "walk" ? walk(order, tally, i < slow, stops) : decode(order, tally),
  );
  await Promise.all(all.slice(slow));
  for (const stop of stops) stop();
  const done = tallies.slice(slow);
  const used = process.cpuUsage(cpu);
  const first = Math.min(...done.map((tally) => tally.firstMs));
  const last = Math.max(...done.map((tally) => tally.lastMs));
  return {
    seconds: (last - first) / 1000,
    events: done.reduce((sum, tally) => sum + tally.events, 0),
    frames: done.reduce((sum, tally) => sum + tally.frames, 0),
    wrongTokens: tallies.reduce((sum, tally) => sum + tally.wrongTokens, 0),
    clientCpuSeconds: (used.user + used.system) / 1e6,
  };
}

class Tally {
  events = 0;
  frames = 0;
  wrongTokens = 0;
  firstMs = 0;
  lastMs = 0;
  #at = -1;

  /** @param at sum of the token's offsets. */
  took(events: number, at: number): void {
    this.lastMs = performance.now();
    if (this.frames++ === 0) this.firstMs = this.lastMs;
    this.events += events;
    if (this.#at >= 0 && at !== this.#at + events) this.wrongTokens++;
    this.#at = at;
  }
}

async function decode(order: Order, tally: Tally): Promise<void> {
  const client = new ThroughlineClient([order.address]);
  const start = { $case: "earliest", value: {} } as const;
  const creditEvents = order.credit ?? 1_000_000;
  for await (const { events, token } of client.subscribe({
    topic: order.topic,
    start,
    creditEvents,
  })) {
    tally.took(events.length, sumOf(token));
    if (tally.events >= order.events) break;
  }
  client.close();
}

const pass = (bytes: Buffer): Buffer => bytes;
const method: MethodDefinition<SubscribeRequest, Buffer> = {
  ...ThroughlineServiceService.subscribe,
  responseSerialize: pass,
  responseDeserialize: pass,
};

function walk(order: Order, tally: Tally, slow: boolean, stops: (() => void)[]): Promise<void> {
  const client = new Client(
    order.address,
    order.ca ? credentials.createSsl(Buffer.from(order.ca)) : credentials.createInsecure(),
    {
      "grpc-node.flow_control_window": WINDOW_BYTES,
      "grpc.max_receive_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
    },
  );
  const call: ClientDuplexStream<SubscribeRequest, Buffer> = client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    pass,
  );
  const credit = order.credit ?? HUGE_CREDIT;
  call.write(open(order.topic, credit));
  let owed = 0;
  const stop = (): void => {
    call.cancel();
    client.close();
  };
  return new Promise((resolve, reject) => {
    call.on("error", (error) => {
      if (tally.events < order.events && !slow) reject(error);
    });
    if (slow) {
      stops.push(stop);
      return;
    }
    call.on("data", (frame: Buffer) => {
      const events = count(frame, tally);
      if (order.credit !== undefined) {
        owed += events;
        if (owed >= order.credit / 2) {
          call.write({ kind: { $case: "credit", value: { events: BigInt(owed), bytes: 0n } } });
          owed = 0;
        }
      }
      if (tally.events < order.events) return;
      stop();
      resolve();
    });
  });
}

function open(topic: string, credit: number): SubscribeRequest {
  return {
    kind: {
      $case: "open",
      value: {
        topic,
        start: { at: { $case: "earliest", value: {} } },
        filter: undefined,
        credit: { events: BigInt(credit), bytes: 0n },
        recovery: 0,
        session: undefined,
        maxFrameBytes: 0,
        heartbeatMs: 0,
      },
    },
  };
}

/** Counts the events of a Batch frame and checks its token; other messages count nothing. */
function count(frame: Buffer, tally: Tally): number {
  if (frame[0] !== 0x12) return 0;
  let at = 1;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = frame[at++] as number;
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  };
  varint();
  let events = 0;
  let token: Buffer | undefined;
  while (at < frame.length) {
    const tag = frame[at++];
    const length = varint();
    if (tag === 0x0a) events++;
    else if (tag === 0x7a) token = frame.subarray(at, at + length);
    if (tag !== 0x10) at += length;
  }
  tally.took(events, sumOf(token as Buffer));
  return events;
}

function sumOf(token: Buffer): number {
  const { nextOffsets } = TokenBody.decode(token.subarray(1, token.length - 4));
  let sum = 0;
  for (const offset of nextOffsets) sum += Number(offset);
  return sum;
}
