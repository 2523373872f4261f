/** What a session's client has acknowledged: A1 to A3 of acks.ts, on segments with holes, filters and epochs. */
import { expect, test } from "@jest/globals";
import { Cursor, type CursorOwner } from "../../sidecar/dispatch/cursor.ts";
import type { Segment } from "../../sidecar/dispatch/segment.ts";
import { Lease } from "../../sidecar/dispatch/segment-memory.ts";
import { type AckMode, Acks } from "../../sidecar/sessions/acks.ts";

const EVENT_BYTES = 10;

/** Events at these offsets, ten bytes each. */
function segment(offsets: readonly number[], epoch = 0): Segment {
  const base = offsets[0] as number;
  const bytes = Buffer.alloc(offsets.length * EVENT_BYTES);
  return {
    ...{ bytes, lease: new Lease(bytes) },
    ...{ from: base, next: (offsets.at(-1) as number) + 1, epoch, base, count: offsets.length },
    starts: Uint32Array.from({ length: offsets.length + 1 }, (_, i) => i * EVENT_BYTES),
    deltas: Uint32Array.from(offsets, (offset) => offset - base),
  };
}

function bed(mode: AckMode, partitions = 1) {
  const cursors = Array.from(
    { length: partitions },
    (_, partition) => new Cursor({} as CursorOwner, partition, 0, -1),
  );
  const acks = new Acks(mode);
  for (const cursor of cursors) acks.hold(cursor);
  return {
    acks,
    cursors,
    /** Sends the events with these indexes, all by default. */
    send: (of: Segment, partition = 0, indexes = [...of.deltas.keys()]): void => {
      const cursor = cursors[partition] as Cursor;
      const before = { offset: cursor.next, epoch: cursor.epoch };
      cursor.moveTo(of.next, of.epoch);
      const ranges = indexes.flatMap((i) => [i * EVENT_BYTES, (i + 1) * EVENT_BYTES]);
      const { length: count } = indexes;
      acks.sent(partition, { segment: of, ranges, count, bytes: 0, end: of.count, before });
    },
    at: () => [...acks.positions().values()].map(({ offset, epoch }) => [offset, epoch]),
    ack: (offset: number, partition = 0) => acks.ack([{ partition, offset: BigInt(offset) }]),
  };
}

test("A1: with something out the position is behind it, with nothing out it is the scan's", () => {
  const b = bed("explicit");
  b.send(segment([0, 1, 2, 7]));
  expect(b.at()).toEqual([[0, -1]]);
  b.ack(1);
  expect(b.at()).toEqual([[2, 0]]);
  b.ack(7);
  expect(b.at()).toEqual([[8, 0]]);
  // Nothing admitted up to 50, then two events.
  b.cursors[0]?.moveTo(50, 0);
  expect(b.at()).toEqual([[50, 0]]);
  b.send(segment([60, 61]));
  expect(b.at()).toEqual([[50, 0]]);
});

test("the epoch of a position is that of the batch before it", () => {
  const b = bed("explicit");
  b.send(segment([0, 1], 3));
  b.send(segment([2, 3], 4));
  b.send(segment([4, 5], 6));
  b.ack(1);
  expect(b.at()).toEqual([[2, 3]]);
  b.ack(2);
  expect(b.at()).toEqual([[3, 4]]);
  b.ack(4);
  expect(b.at()).toEqual([[5, 6]]);
});

test("by credits: exact in a frame with holes, and behind a filter", () => {
  const b = bed("credits");
  b.send(segment([0, 5, 9, 20]));
  b.send(segment([30, 31, 32, 33]), 0, [1, 3]);
  b.acks.returned(2);
  expect(b.at()).toEqual([[6, 0]]);
  b.acks.returned(2);
  expect(b.at()).toEqual([[21, 0]]);
  b.acks.returned(1);
  expect(b.at()).toEqual([[32, 0]]);
  expect(() => b.acks.returned(2)).toThrow("2 came back, 1 are out");
  expect(b.at()).toEqual([[32, 0]]);
  b.acks.returned(1);
  expect(b.at()).toEqual([[34, 0]]);
});

test("by credits: events of several partitions come back in the order in which they were sent", () => {
  const b = bed("credits", 2);
  b.send(segment([0, 1]), 0);
  b.send(segment([0, 1]), 1);
  b.acks.returned(3);
  expect(b.at()).toEqual([
    [2, 0],
    [1, 0],
  ]);
});

test("an ack that was sent again moves nothing; one that goes back is refused, and nothing moved (A2)", () => {
  const b = bed("explicit", 2);
  b.send(segment([0, 1, 2]));
  b.ack(2);
  b.ack(2);
  expect(() => b.ack(1)).toThrow("1 of partition 0 is before 2");
  expect(() =>
    b.acks.ack([
      { partition: 0, offset: 2n },
      { partition: 1, offset: 0n },
    ]),
  ).toThrow("ack.positions[1].offset: 0 of partition 1 was not sent yet");
  expect(b.at()).toEqual([
    [3, 0],
    [0, -1],
  ]);
});

test("recovery forward: what is out moves nothing any more, and is no mistake", () => {
  const b = bed("explicit");
  b.send(segment([0, 1, 2]));
  b.cursors[0]?.moveTo(100, -1);
  expect(b.acks.recovered(0)).toBe(false);
  b.ack(2);
  expect(b.at()).toEqual([[100, -1]]);
});

test("recovery back: the partition begins anew, and who hears of it must say so", () => {
  const b = bed("credits");
  b.send(segment([0, 1, 2]));
  b.cursors[0]?.moveTo(1, 0);
  expect(b.acks.recovered(0)).toBe(true);
  b.send(segment([1, 8]));
  b.acks.returned(3);
  expect(b.at()).toEqual([[1, 0]]);
  b.acks.returned(1);
  expect(b.at()).toEqual([[2, 0]]);
});
