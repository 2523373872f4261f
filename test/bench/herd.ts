/** The herd's process: resumes every stream by a token of its own, and checks how each goes on. */
import { Client, credentials } from "@grpc/grpc-js";
import { TokenBody } from "../../proto/gen/throughline/stored/v1/stored.ts";
import {
  SubscribeRequest,
  ThroughlineServiceService,
} from "../../proto/gen/throughline/v1/throughline.ts";
import { encodeToken } from "../../sidecar/token.ts";
import { answer } from "./child.ts";

export interface HerdOrder {
  readonly address: string;
  readonly topic: string;
  readonly topicId: string;
  readonly events: number;
  readonly streams: number;
  readonly connections: number;
}

export interface HerdReport {
  /** From the first open until the last stream has all events. */
  readonly seconds: number;
}

const CREDIT = 1_000_000_000n;

answer(resume);

async function resume(order: HerdOrder): Promise<HerdReport> {
  const clients = Array.from(
    { length: order.connections },
    () =>
      new Client(order.address, credentials.createInsecure(), {
        "grpc-node.flow_control_window": 1 << 20,
        "grpc.max_receive_message_length": -1,
        "grpc.use_local_subchannel_pool": 1,
      }),
  );
  const started = performance.now();
  await Promise.all(
    Array.from({ length: order.streams }, (_, i) => {
      const from = Math.floor((order.events * i) / order.streams);
      return one(clients[i % order.connections] as Client, order, from);
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  for (const client of clients) client.close();
  return { seconds };
}

/** Resolves when the stream's token is the end of the log. */
function one(client: Client, order: HerdOrder, from: number): Promise<void> {
  const identity = {
    ...{ deploymentId: "bench", topic: `bench/${order.topic}`, topicId: order.topicId },
  };
  const token = encodeToken(identity, [{ offset: from, epoch: 0 }]);
  const pass = (bytes: Buffer): Buffer => bytes;
  const call = client.makeBidiStreamRequest(ThroughlineServiceService.subscribe.path, pass, pass);
  const open = {
    ...{ topic: order.topic, filter: undefined, session: undefined, maxFrameBytes: 0 },
    start: { at: { $case: "token" as const, value: { token, after: [] } } },
    ...{ credit: { events: CREDIT, bytes: 0n }, recovery: 0 as const, heartbeatMs: 60_000 },
  };
  const request = SubscribeRequest.encode({ kind: { $case: "open", value: open } }).finish();
  call.write(Buffer.from(request));
  let at = from;
  return new Promise((resolve, reject) => {
    call.on("error", reject);
    call.on("data", (frame: Buffer) => {
      if (frame[0] !== 0x12) return;
      const next = nextOffset(frame);
      if (next <= at) reject(new Error(`a token went from ${at} to ${next}`));
      at = next;
      if (at === order.events) resolve();
    });
  });
}

/** The token is the last field of a frame: a body of this size, with its tag and length before it. */
function nextOffset(frame: Buffer): number {
  const tag = frame.lastIndexOf(0x7a, frame.length - 40);
  for (let at = tag; at > frame.length - 200; at = frame.lastIndexOf(0x7a, at - 1)) {
    if ((frame[at + 1] as number) !== frame.length - at - 2) continue;
    const body = frame.subarray(at + 3, frame.length - 4);
    return Number(TokenBody.decode(body).nextOffsets[0]);
  }
  throw new Error("a frame without a token");
}
