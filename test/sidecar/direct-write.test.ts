/** Messages straight to the HTTP/2 stream: that grpc-js has it where we look, and what when it has not. */
import { Duplex } from "node:stream";
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
} from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { http2StreamOf, writerOf } from "../../sidecar/direct-write.ts";
import { BatchFrame, type Frame } from "../../sidecar/frame.ts";

const pass = (bytes: Buffer): Buffer => bytes;
const METHOD = {
  ...{ path: "/t.T/S", requestStream: true as const, responseStream: true as const },
  ...{ requestSerialize: pass, requestDeserialize: pass },
  ...{ responseSerialize: (frame: Frame) => frame as Buffer, responseDeserialize: pass },
};
/** Half of a segment of 100,000 bytes and more is shared, less is copied. */
const SEGMENT = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251));

let server: Server;
let client: Client;
let serve: (call: ServerDuplexStream<Buffer, Frame>) => void;

beforeEach(async () => {
  server = new Server();
  server.addService({ S: METHOD }, { S: (call: ServerDuplexStream<Buffer, Frame>) => serve(call) });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
});

afterEach(() => {
  client.close();
  server.forceShutdown();
});

function framesOf(): Frame[] {
  const end = { maybeRedelivered: false, token: Buffer.from("token") };
  const whole = [0, SEGMENT.length];
  const pieces = Array.from({ length: 40 }, (_, i) => i * 2000).flatMap((at) => [at, at + 1500]);
  return [
    Buffer.from("a control message"),
    new BatchFrame(SEGMENT, whole, SEGMENT.length, { partition: 3, ...end }),
    new BatchFrame(SEGMENT, [10, 20], 10, { partition: 0, ...end }),
    new BatchFrame(SEGMENT, pieces, 60_000, { partition: 1, ...end }),
    new BatchFrame(SEGMENT, [0, 30_000, 40_000, 90_000], 80_000, { partition: 2, ...end }),
  ];
}

function joined(frame: Frame): string {
  const bytes = Buffer.alloc(frame.byteLength);
  frame.copy(bytes, 0);
  return bytes.toString("hex");
}

/** What a client gets of a call, and how it ends. */
function received(): Promise<{ messages: string[]; code: number }> {
  const call = client.makeBidiStreamRequest(METHOD.path, pass, pass, new Metadata());
  const messages: string[] = [];
  return new Promise((resolve) => {
    call.on("data", (message: Buffer) => messages.push(message.toString("hex")));
    call.on("error", () => {});
    call.on("status", ({ code }) => resolve({ messages, code }));
  });
}

test("the pinned grpc-js gives its stream; frames shared and copied arrive whole and in order, then the status", async () => {
  let found = false;
  serve = (call) => {
    found = http2StreamOf(call) !== undefined;
    const write = writerOf(call);
    let left = framesOf().length;
    for (const frame of framesOf()) write(frame, () => --left === 0 && call.end());
  };
  const { messages, code } = await received();
  expect(found).toBe(true);
  expect(messages).toEqual(framesOf().map(joined));
  expect(code).toBe(0);
});

test("a frame's memory is not read any more once it is taken, however late the client takes it (M1)", async () => {
  const FRAMES = 50;
  const token = Buffer.from("token");
  const frameOf = (memory: Buffer): Frame =>
    new BatchFrame(memory, [0, memory.length], memory.length, {
      ...{ partition: 0, maybeRedelivered: false, token },
    });
  let bothWritten = (): void => {};
  const written = new Promise<void>((resolve) => {
    bothWritten = resolve;
  });
  serve = (call) => {
    const write = writerOf(call);
    const memories = [Buffer.alloc(200_000), Buffer.alloc(200_000)];
    let next = 0;
    const send = (memory: Buffer): void => {
      if (next === FRAMES) return;
      memory.fill(next++);
      write(frameOf(memory), () => (next === FRAMES ? call.end() : send(memory)));
    };
    for (const memory of memories) send(memory);
    setImmediate(bothWritten);
  };
  const call = client.makeBidiStreamRequest(METHOD.path, pass, pass, new Metadata());
  await written;
  let at = 0;
  for await (const message of call as AsyncIterable<Buffer>) {
    expect(message.equals(Buffer.from(joined(frameOf(Buffer.alloc(200_000, at))), "hex"))).toBe(
      true,
    );
    at++;
  }
  expect(at).toBe(FRAMES);
});

test("an error's status comes behind what was written", async () => {
  serve = (call) => {
    const write = writerOf(call);
    for (const frame of framesOf()) write(frame, () => {});
    call.emit("error", { code: 9, details: "why" });
  };
  const { messages, code } = await received();
  expect(messages).toEqual(framesOf().map(joined));
  expect(code).toBe(9);
});

test("without the stream frames go through grpc-js, which copies them by byteLength and copy alone", async () => {
  serve = (call) => {
    const write = writerOf({
      sendMetadata: () => {},
      write: (frame, taken) => call.write(frame as Frame, taken),
    });
    let left = framesOf().length;
    for (const frame of framesOf()) write(frame, () => --left === 0 && call.end());
  };
  expect((await received()).messages).toEqual(framesOf().map(joined));
});

test("what looks otherwise than grpc-js as we know it is left alone", () => {
  expect(http2StreamOf({})).toBeUndefined();
  expect(http2StreamOf({ call: { stream: new Duplex() } })).toBeUndefined();
  expect(http2StreamOf({ call: { nextCall: { stream: { write: () => {} } } } })).toBeUndefined();
});
