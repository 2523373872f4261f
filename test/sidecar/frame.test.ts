/** A frame is the same message whether it is copied from its segment or has bytes of its own. */
import { expect, test } from "@jest/globals";
import { SubscribeResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import { BatchFrame } from "../../sidecar/frame.ts";

test("a detached frame is the same message, and keeps nothing of its segment", () => {
  const event = Buffer.from([0x0a, 0x02, 0x18, 0x07]);
  const segment = Buffer.concat([Buffer.alloc(100_000, 1), event, Buffer.alloc(100_000, 1)]);
  const frame = new BatchFrame(segment, [100_000, 100_004], 4, 3, Buffer.from("token"));
  const joined = Buffer.alloc(frame.byteLength);
  frame.copy(joined, 0);
  const detached = frame.detached() as Buffer;
  expect(detached.equals(joined)).toBe(true);
  expect(detached.buffer.byteLength).toBe(frame.byteLength);
  const batch = SubscribeResponse.decode(detached).kind;
  expect(batch?.value).toMatchObject({ partition: 3, token: Buffer.from("token") });
});
