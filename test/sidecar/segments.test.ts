/** How fetched batches become segments: S1 (nothing missing in [from, next)) and S2 (one leader epoch). */
import { zstdCompressSync } from "node:zlib";
import { expect, test } from "@jest/globals";
import type { Fetched } from "../../kafka/log.ts";
import { type Encoded, SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import { firstAt, fitting, type Segment } from "../../sidecar/dispatch/segment.ts";
import { batchBytes, markerBytes } from "../kafka/batch-bytes.ts";
import { values } from "../kafka/read-batches.ts";
import { offsetsOf } from "../sim/offsets-of.ts";

const ABORTED = 9n;

function fetched(batches: readonly Buffer[], aborted: Fetched["aborted"] = []): Fetched {
  const records = Buffer.concat(batches);
  const ends = { highWatermark: 0, lastStable: 0, logStart: 0 };
  return { kind: "fetched", records, aborted, ...ends, release: () => {} };
}

/** `[from, next) of its epoch: offsets`, as the segment's index says and as its bytes say. */
function described(segment: Segment): string {
  const { from, next, epoch, base, deltas, bytes, starts, count } = segment;
  const offsets = Array.from(deltas, (delta) => base + delta);
  const prefix = Buffer.from([0x12, 0x00]);
  expect(offsetsOf(Buffer.concat([prefix, bytes])).offsets).toEqual(offsets);
  expect([starts.length, starts[0], starts[count]]).toEqual([count + 1, 0, bytes.length]);
  return `[${from}, ${next}) of ${epoch}: ${offsets.join(" ")}`.trim();
}

function segmentsOf(encoded: Encoded): string[] {
  return encoded.segments.map(described);
}

function encode(batches: readonly Buffer[], from = 0, aborted: Fetched["aborted"] = []): Encoded {
  return new SegmentEncoder().encode(fetched(batches, aborted), from);
}

test("batches of one epoch are one segment, which begins where the fetch did", () => {
  const batches = [
    batchBytes(values("a", "b", "c"), { base: 10, epoch: 4 }),
    batchBytes(values("d"), { base: 20, epoch: 4 }),
  ];
  expect(segmentsOf(encode(batches, 8))).toEqual(["[8, 21) of 4: 10 11 12 20"]);
  expect(segmentsOf(encode(batches, 11))).toEqual(["[11, 21) of 4: 11 12 20"]);
  expect(encode(batches, 11)).toMatchObject({ kind: "segments", next: 21 });
});

test("a segment ends with the batch that makes it 200 KiB large, without a hole between them", () => {
  const large = "x".repeat(120 << 10);
  const batches = [0, 2, 5, 6].map((base) => batchBytes(values(large), { base, epoch: 1 }));
  expect(segmentsOf(encode(batches))).toEqual(["[0, 3) of 1: 0 2", "[3, 7) of 1: 5 6"]);
});

test("each leader epoch begins a segment, without a hole between them", () => {
  const batches = [
    batchBytes(values("a", "b"), { base: 0, epoch: 1 }),
    batchBytes(values("c"), { base: 2, epoch: 3 }),
    batchBytes(values("d"), { base: 5, epoch: 3 }),
    batchBytes(values("e"), { base: 6, epoch: 7, lastOffsetDelta: 3 }),
  ];
  expect(segmentsOf(encode(batches))).toEqual([
    "[0, 2) of 1: 0 1",
    "[2, 6) of 3: 2 5",
    "[6, 10) of 7: 6",
  ]);
});

test("what is not delivered still moves the position on, with its own epoch", () => {
  const aborted = [{ producerId: ABORTED, firstOffset: 2 }];
  const of = { producer: ABORTED, transactional: true };
  const middle = [
    batchBytes(values("x", "y"), { ...of, base: 2, epoch: 2 }),
    markerBytes(4, ABORTED, "abort"),
  ];
  expect(segmentsOf(encode(middle, 2, aborted))).toEqual(["[2, 5) of 0:"]);
  const all = [
    batchBytes(values("a"), { base: 0, epoch: 1 }),
    ...middle.slice(0, 1),
    batchBytes(values("b"), { base: 6, epoch: 2 }),
  ];
  expect(segmentsOf(encode(all, 0, aborted))).toEqual(["[0, 1) of 1: 0", "[1, 7) of 2: 6"]);
  expect(segmentsOf(encode(all.slice(0, 2), 0, aborted))).toEqual([
    "[0, 1) of 1: 0",
    "[1, 4) of 2:",
  ]);
});

test("an empty fetch has no segments", () => {
  expect(encode([], 5)).toEqual({ kind: "segments", segments: [], next: 5 });
});

test("offsets and holes beyond 32 bits are exact", () => {
  const far = 2 ** 52;
  const most = 2 ** 31 - 1;
  const batches = [
    batchBytes(values("a"), { base: 7 }),
    batchBytes([{ value: Buffer.from("b") }, { value: Buffer.from("c"), offsetDelta: most }], {
      ...{ base: 7 + most, lastOffsetDelta: most },
    }),
    batchBytes(values("d"), { base: far }),
  ];
  const { segments } = encode(batches, 7);
  const last = 7 + 2 * most;
  expect(segments.map(described)).toEqual([
    `[7, ${last + 1}) of 0: 7 ${7 + most} ${last}`,
    `[${last + 1}, ${far + 1}) of 0: ${far}`,
  ]);
  const first = segments[0] as Segment;
  const found = [0, 7 + most, 8 + most, last + 1].map((offset) => firstAt(first, offset));
  expect(found).toEqual([0, 1, 2, 3]);
});

test("a batch that begins farther away than a batch may be long is a segment of its own", () => {
  const most = 2 ** 31 - 1;
  const after = (distance: number): string[] =>
    segmentsOf(
      encode(
        [batchBytes(values("a"), { base: 7 }), batchBytes(values("b"), { base: 7 + distance })],
        7,
      ),
    );
  expect(after(most)).toEqual([`[7, ${8 + most}) of 0: 7 ${7 + most}`]);
  expect(after(most + 1)).toEqual(["[7, 8) of 0: 7", `[8, ${9 + most}) of 0: ${8 + most}`]);
});

test.each([
  ["as they are", {}],
  ["from compressed batches", { codec: 4, compress: zstdCompressSync }],
])(
  "more and larger events than there was room for, %s, and small ones after them",
  (_name, batch) => {
    const encoder = new SegmentEncoder();
    const large = Array.from("abcdefghijklmnop", (letter) => letter.repeat(1 << 20));
    const many = Array.from({ length: 40_000 }, (_, i) => `<${i}>`);
    for (const texts of [["small"], large, many, ["small"]]) {
      const records = texts.map((text, i) =>
        i % 2 === 0
          ? { headers: [[Buffer.from("text"), Buffer.from(text)] as const] }
          : { value: Buffer.from(text) },
      );
      const { segments } = encoder.encode(fetched([batchBytes(records, batch)]), 0);
      expect(segments).toHaveLength(1);
      const segment = segments[0] as Segment;
      const whole = texts.filter((text, i) =>
        segment.bytes.subarray(segment.starts[i], segment.starts[i + 1]).includes(text),
      );
      expect([segment.count, whole.length]).toEqual([texts.length, texts.length]);
      expect(fitting(segment, 0, texts.length, segment.bytes.length)).toBe(texts.length);
    }
  },
);

test("a segment has its own bytes: the next encoding does not change it", () => {
  const encoder = new SegmentEncoder();
  const [first] = encoder.encode(fetched([batchBytes(values("first"))]), 0).segments;
  const before = Buffer.from(first?.bytes ?? []);
  encoder.encode(fetched([batchBytes(values("other", "others"))]), 0);
  expect(first?.bytes).toEqual(before);
});

test.each([
  ["of the same epoch", 1, ["[3, 9) of 1: 3 4 6"]],
  ["of another epoch", 2, ["[3, 7) of 1: 3 4 6", "[7, 9) of 1:"]],
])(
  "P2: what comes before a damaged batch %s is encoded, and none of its own records",
  (_name, epoch, before) => {
    const good = [
      batchBytes(values("a", "b"), { base: 3, epoch: 1 }),
      batchBytes(values("c"), { base: 6, epoch: 1, lastOffsetDelta: 2 }),
    ];
    const lying = batchBytes(values("x", "y"), { base: 9, epoch, count: 3 });
    const encoder = new SegmentEncoder();
    const some = encoder.encode(fetched([...good, lying]), 3);
    expect(some).toMatchObject({ kind: "corrupt", offset: 9 });
    expect(segmentsOf(some)).toEqual(before);
    const alone = encoder.encode(fetched([lying]), 9);
    expect(alone).toMatchObject({ kind: "corrupt", offset: 9, segments: [] });
    expect(segmentsOf(encoder.encode(fetched(good), 3))).toEqual(["[3, 9) of 1: 3 4 6"]);
  },
);

test("a header that overruns its record damages only its batch", () => {
  const headers = [[Buffer.from("name"), Buffer.from("value")]] as const;
  const batches = [
    batchBytes(values("a"), { base: 0 }),
    batchBytes([...values("b"), { headers, headerCount: 2 }], { base: 1 }),
  ];
  const some = encode(batches);
  expect(some).toMatchObject({ kind: "corrupt", offset: 1 });
  expect(segmentsOf(some)).toEqual(["[0, 1) of 0: 0"]);
});

test("with checksums a flipped bit is corrupt", () => {
  const bytes = batchBytes(values("a", "b"));
  bytes[70] = (bytes[70] as number) ^ 1;
  expect(encode([bytes])).toMatchObject({ kind: "corrupt", offset: 0, segments: [] });
});
