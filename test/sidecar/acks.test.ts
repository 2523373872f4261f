/** What is acknowledged of partitions that come and go: nothing on its way is taken for a mistake. */
import { expect, test } from "@jest/globals";
import { Cursor, type CursorOwner } from "../../sidecar/dispatch/cursor.ts";
import type { Slice } from "../../sidecar/dispatch/partition-dispatch.ts";
import { Acks } from "../../sidecar/sessions/acks.ts";

const cursorAt = (partition: number, next: number): Cursor =>
  new Cursor({} as CursorOwner, partition, next, 1);

/** Offsets `from` to the one before `next` go out. */
function send(acks: Acks, cursor: Cursor, next: number): void {
  const from = cursor.next;
  const deltas = Uint32Array.from({ length: next - from }, (_none, i) => i);
  const starts = Uint32Array.from({ length: next - from + 1 }, (_none, i) => i);
  const segment = { epoch: 1, base: from, count: next - from, deltas, starts, next };
  const before = { offset: from, epoch: 1 };
  const ranges = [0, next - from];
  cursor.moveTo(next, 1);
  acks.sent(cursor.partition, { segment, ranges, count: next - from, before } as unknown as Slice);
}

const ack = (acks: Acks, partition: number, offset: number): void =>
  acks.ack([{ partition, offset: BigInt(offset) }]);

test("of a partition that was dropped, what was sent moves nothing; more than that is a mistake", () => {
  const acks = new Acks("explicit", true);
  const cursor = cursorAt(3, 10);
  acks.hold(cursor);
  send(acks, cursor, 20);
  acks.drop(3);
  ack(acks, 3, 19);
  expect(() => ack(acks, 3, 20)).toThrow("holds no partition 3");
  expect(() => ack(acks, 4, 0)).toThrow("holds no partition 4");
  expect(acks.positions().size).toBe(0);
});

test("when it comes back further back, an ack on its way counts as far as it was sent again", () => {
  const acks = new Acks("explicit", true);
  const first = cursorAt(0, 10);
  acks.hold(first);
  send(acks, first, 20);
  acks.drop(0);
  const again = cursorAt(0, 12);
  acks.hold(again);
  ack(acks, 0, 19);
  expect(acks.position(0).offset).toBe(12);
  send(acks, again, 15);
  ack(acks, 0, 19);
  expect(acks.position(0).offset).toBe(15);
  expect(() => ack(acks, 0, 20)).toThrow("was not sent yet");
});

test("a token from before the partition came says nothing of it; one of an older frame is backward", () => {
  const acks = new Acks("explicit", true);
  const held = cursorAt(1, 5);
  acks.hold(held);
  send(acks, held, 9);
  ack(acks, 1, 7);
  acks.ack(
    [],
    [
      { offset: 3, epoch: 1 },
      { offset: 5, epoch: 1 },
    ],
  );
  expect(acks.position(1).offset).toBe(8);
  expect(() =>
    acks.ack(
      [],
      [
        { offset: 0, epoch: 1 },
        { offset: 7, epoch: 1 },
      ],
    ),
  ).toThrow("before 7");
  // Who has all partitions from the start has no such tokens.
  const alone = new Acks("explicit");
  const all = cursorAt(0, 5);
  alone.hold(all);
  send(alone, all, 9);
  ack(alone, 0, 7);
  expect(() => alone.ack([], [{ offset: 5, epoch: 1 }])).toThrow("before 7");
});
