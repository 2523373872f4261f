/** Memory for responses: what is used again, and what must never be. */
import { expect, test } from "@jest/globals";
import { ReceiveBuffers } from "../../kafka/receive-buffers.ts";

const KIB = 1 << 10;

test("a large buffer that was given back is used again, also for a somewhat smaller response", () => {
  const buffers = new ReceiveBuffers();
  const first = buffers.take(500 * KIB);
  buffers.give(first.subarray(0, 500 * KIB));
  expect(buffers.take(400 * KIB).buffer).toBe(first.buffer);
  expect(buffers.take(400 * KIB).buffer).not.toBe(first.buffer);
});

test("a small one, which shares its memory with others, is never used again", () => {
  const buffers = new ReceiveBuffers();
  for (const length of [1, 4 * KIB, 31 * KIB, 32 * KIB - 1]) {
    const small = buffers.take(length);
    buffers.give(small);
    expect(buffers.take(64 * KIB).buffer).not.toBe(small.buffer);
  }
});

test("no more than 8 MiB are kept, and nothing that is larger than half of that", () => {
  const buffers = new ReceiveBuffers();
  const taken = Array.from({ length: 20 }, () => buffers.take(1024 * KIB));
  for (const buffer of taken) buffers.give(buffer);
  const known = new Set(taken.map(({ buffer }) => buffer));
  const again = Array.from({ length: 20 }, () => buffers.take(1024 * KIB));
  expect(again.filter(({ buffer }) => known.has(buffer))).toHaveLength(8);
  const huge = buffers.take(5 << 20);
  buffers.give(huge);
  expect(buffers.take(5 << 20).buffer).not.toBe(huge.buffer);
});
