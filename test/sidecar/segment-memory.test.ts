/** Memory of segments is used again only when neither a tail nor a frame under way needs it (M1, M2). */
import { expect, test } from "@jest/globals";
import { SegmentMemory } from "../../sidecar/dispatch/segment-memory.ts";

function bed(keptBytes = 1000) {
  const fresh: number[] = [];
  const allocated = (bytes: number): void => void fresh.push(bytes);
  return { fresh, memory: new SegmentMemory({ stepBytes: 100, keptBytes, allocated }) };
}

test("what was let go is taken again for a segment that needs as many steps", () => {
  const { fresh, memory } = bed();
  const first = memory.take(150);
  first.hold();
  first.release();
  expect(memory.take(101)).toBe(first);
  expect(fresh).toEqual([200]);
});

test("what was let go last is taken first: the processor's cache still has it", () => {
  const { memory } = bed();
  const all = [memory.take(150), memory.take(150), memory.take(150)];
  for (const lease of all) lease.hold();
  for (const lease of all) lease.release();
  expect([1, 2, 3].map(() => all.indexOf(memory.take(150)))).toEqual([2, 1, 0]);
});

test("what somebody holds is not taken", () => {
  const { memory } = bed();
  const first = memory.take(150);
  first.hold();
  first.hold();
  first.release();
  expect(memory.take(150)).not.toBe(first);
});

test("what is held again after it was let go is not taken", () => {
  const { memory } = bed();
  const first = memory.take(150);
  first.hold();
  first.release();
  first.hold();
  expect(memory.take(150)).not.toBe(first);
  first.release();
  expect(memory.take(150)).toBe(first);
});

test("what is let go twice is taken once", () => {
  const { memory } = bed();
  const first = memory.take(150);
  for (let i = 0; i < 2; i++) {
    first.hold();
    first.release();
  }
  expect(memory.take(150)).toBe(first);
  expect(memory.take(150)).not.toBe(first);
});

test("memory of another size stays for whom it fits", () => {
  const { memory } = bed();
  const first = memory.take(150);
  first.hold();
  first.release();
  expect(memory.take(250).memory.length).toBe(300);
  expect(memory.take(150)).toBe(first);
});

test("what is smaller than a step is as large as asked for, and not used again", () => {
  const { fresh, memory } = bed();
  const first = memory.take(42);
  first.hold();
  first.release();
  expect(memory.take(42)).not.toBe(first);
  expect(fresh).toEqual([42, 42]);
});

test("no more is kept than was allowed (P6)", () => {
  const { memory } = bed(400);
  const taken = [memory.take(200), memory.take(200), memory.take(200)];
  for (const lease of taken) lease.hold();
  for (const lease of taken) lease.release();
  const again = [memory.take(200), memory.take(200), memory.take(200)];
  expect(again.filter((lease) => taken.includes(lease))).toHaveLength(2);
});
