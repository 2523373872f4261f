/**
 * Writes a call's messages to its HTTP/2 stream, so that the bytes that clients share are sent from where
 * they lie. Through grpc-js each message is copied into memory of its own first: with ten clients that
 * cost more than all else together.
 *
 * grpc-js keeps the stream to itself. So it is looked for with care: where it is not found as the pinned
 * release has it (a test says so), messages go through `call.write`, which asks a frame for its bytes.
 * Status and trailers stay grpc-js's own: they end the same stream, behind what was written to it.
 */
import type { Writable } from "node:stream";
import { Metadata } from "@grpc/grpc-js";
import type { Frame } from "./frame.ts";

const HEAD_BYTES = 5;

export type WriteFrame = (frame: Frame, taken: () => void) => void;

/** What is used of a call. */
export interface WritableCall {
  sendMetadata(metadata: Metadata): void;
  write(frame: unknown, taken: () => void): unknown;
}

/** @param allocated hears of bytes that were copied. */
export function writerOf(
  call: WritableCall,
  allocated: (bytes: number) => void = () => {},
): WriteFrame {
  const stream = http2StreamOf(call);
  if (stream === undefined) {
    return (frame, taken) => {
      allocated(frame.byteLength);
      call.write(frame, taken);
    };
  }
  let begun = false;
  return (frame, taken) => {
    if (stream.destroyed || stream.writableEnded) return;
    if (!begun) call.sendMetadata(new Metadata());
    begun = true;
    const done = (error?: Error | null): void => {
      if (!error) taken();
    };
    const parts = frame.parts?.();
    const head = Buffer.allocUnsafe(HEAD_BYTES + (parts ? 0 : frame.byteLength));
    // Not compressed, and how long it is: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
    head[0] = 0;
    head.writeUInt32BE(frame.byteLength, 1);
    if (parts === undefined) {
      allocated(head.length);
      frame.copy(head, HEAD_BYTES);
      stream.write(head, done);
      return;
    }
    stream.cork();
    stream.write(head);
    const last = parts.length - 1;
    for (const [i, part] of parts.entries()) stream.write(part, i === last ? done : undefined);
    stream.uncork();
  };
}

/** The HTTP/2 stream under a call; undefined when grpc-js is not as we know it. */
export function http2StreamOf(call: object): Writable | undefined {
  type Layer = { nextCall?: Layer; stream?: unknown } | undefined;
  let layer = (call as { call?: Layer }).call;
  while (layer?.nextCall) layer = layer.nextCall;
  const stream = layer?.stream as (Partial<Writable> & { respond?: unknown }) | undefined;
  const known = [stream?.write, stream?.cork, stream?.uncork, stream?.respond];
  return known.every((method) => typeof method === "function") ? (stream as Writable) : undefined;
}
