/** The scanner against batches built byte by byte: what it gives, and that wrong bytes are a value. */
import { describe, expect, test } from "@jest/globals";
import { scan, scanNext } from "../../kafka/scan.ts";
import { batchBytes, varint } from "./batch-bytes.ts";
import { CODECS, listed, read, reasonOf, values } from "./read-batches.ts";

const HEADER_BYTES = 61;

describe("positions", () => {
  test("a batch that begins before the wanted offset gives only what comes at or after it", () => {
    const read2 = read(batchBytes(values("a", "b", "c"), { base: 10 }), 11);
    expect(listed(read2)).toEqual(["11:b", "12:c"]);
    expect(read2.end).toEqual({ kind: "end", next: 13, epoch: 0 });
  });

  test("a batch that ends before it is passed over, its checksum unread", () => {
    const old = batchBytes(values("a", "b"), { base: 4, epoch: 1 });
    old[20] = (old[20] as number) ^ 1;
    const some = read(Buffer.concat([old, batchBytes(values("c"), { base: 6, epoch: 2 })]), 6);
    expect(listed(some)).toEqual(["6:c"]);
    expect(some.end).toEqual({ kind: "end", next: 7, epoch: 2 });
  });

  test("offsets may have holes; what comes next is said by the batch, not by its last record", () => {
    const sparse = batchBytes(
      [
        { offsetDelta: 2, value: Buffer.from("a") },
        { offsetDelta: 7, value: Buffer.from("b") },
      ],
      { base: 100, lastOffsetDelta: 9 },
    );
    const log = Buffer.concat([sparse, batchBytes(values("c"), { base: 2 ** 40, epoch: 3 })]);
    expect(listed(read(log, 90))).toEqual(["102:a", "107:b", `${2 ** 40}:c`]);
    expect(read(sparse, 90).end).toEqual({ kind: "end", next: 110, epoch: 0 });
    expect(read(log, 90).end).toEqual({ kind: "end", next: 2 ** 40 + 1, epoch: 3 });
  });

  test("a batch that lost all its records still moves the position on", () => {
    const empty = batchBytes([], { base: 5, lastOffsetDelta: 4, epoch: 6 });
    expect(read(empty, 3)).toEqual({ seen: [], end: { kind: "end", next: 10, epoch: 6 } });
  });

  test("no bytes are the end of what there is, at the position asked for", () => {
    expect(read(Buffer.alloc(0), 7)).toEqual({
      seen: [],
      end: { kind: "end", next: 7, epoch: -1 },
    });
  });

  test("a last batch that is cut off is left for the next fetch, wherever the cut is", () => {
    const first = batchBytes(values("a", "b"), { base: 0, epoch: 1 });
    const second = batchBytes(values("c", "d"), { base: 2, epoch: 2 });
    for (let cut = 0; cut < second.length; cut++) {
      const some = Buffer.concat([first, second.subarray(0, cut)]);
      expect([cut, ...listed(read(some)), read(some).end]).toEqual([
        ...[cut, "0:a", "1:b"],
        { kind: "end", next: 2, epoch: 1 },
      ]);
      expect(scanNext(some, 0)).toEqual({ next: 2, epoch: 1 });
    }
  });
});

describe("fields", () => {
  test("each record has the leader epoch of its batch", () => {
    const log = Buffer.concat([
      batchBytes(values("a"), { base: 0, epoch: 3 }),
      batchBytes(values("b", "c"), { base: 1, epoch: 5 }),
    ]);
    expect(read(log).seen.map(({ epoch }) => epoch)).toEqual([3, 5, 5]);
  });

  test("a time is the batch's first plus the record's delta, also a negative one", () => {
    const firstTime = 1_700_000_000_000;
    const deltas = [0, 5, -86_400_000, 2 ** 40, -1];
    const records = deltas.map((timeDelta) => ({ timeDelta }));
    const log = batchBytes(records, { firstTime, maxTime: 7 });
    expect(read(log).seen.map(({ timeMs }) => timeMs - firstTime)).toEqual(deltas);
    expect(read(batchBytes([{}], { firstTime: -1 })).seen[0]?.timeMs).toBe(-1);
  });

  test("with log-append time every record has the batch's last time", () => {
    const records = [{ timeDelta: 0 }, { timeDelta: 50 }];
    const log = batchBytes(records, { firstTime: 1000, maxTime: 2 ** 41, appendTime: true });
    expect(read(log).seen.map(({ timeMs }) => timeMs)).toEqual([2 ** 41, 2 ** 41]);
  });

  test("null and empty are told apart in key, value and header value", () => {
    const empty = Buffer.alloc(0);
    const key = Buffer.from("k");
    const headers = [
      [key, null],
      [key, empty],
      [empty, key],
    ] as const;
    const log = batchBytes([
      { key: null, value: null },
      { key: empty, value: empty, headers },
      { key, value: key },
    ]);
    expect(read(log).seen.map(({ key, value, headers }) => ({ key, value, headers }))).toEqual([
      { key: null, value: null, headers: [] },
      {
        key: "",
        value: "",
        headers: [
          ["k", null],
          ["k", ""],
          ["", "k"],
        ],
      },
      { key: "k", value: "k", headers: [] },
    ]);
  });

  test("lengths of every width are read", () => {
    for (const size of [0, 63, 64, 8191, 8192, 1048575, 1048576]) {
      const key = Buffer.alloc(size, "k");
      const headers = [[Buffer.from("h"), key]] as const;
      const [record] = read(batchBytes([{ key, value: key, headers }])).seen;
      expect([record?.key?.length, record?.value?.length, record?.headers[0]?.[1]?.length]).toEqual(
        [size, size, size],
      );
    }
  });
});

describe("compression", () => {
  test.each(CODECS)("%s is read, beside uncompressed batches", (_name, codec, compress) => {
    const records = Array.from({ length: 100 }, (_, i) => ({
      key: Buffer.from(`key ${i % 7}`),
      value: Buffer.from(`value ${i} `.repeat(i)),
      headers: [[Buffer.from("h"), Buffer.from("x".repeat(i))]] as const,
      timeDelta: i,
    }));
    const plain = read(batchBytes(records, { base: 3 })).seen;
    const log = Buffer.concat([
      batchBytes(values("a", "b", "c"), { base: 0 }),
      batchBytes(records, { base: 3, codec, compress }),
      batchBytes(values("z"), { base: 103 }),
    ]);
    const some = read(log, 2);
    expect(some.seen.slice(1, -1)).toEqual(plain);
    expect([listed(some)[0], listed(some).at(-1)]).toEqual(["2:c", "103:z"]);
  });

  test.each([5, 6, 7])("codec %i is unknown: corrupt", (codec) => {
    expect(reasonOf(read(batchBytes(values("a"), { codec })).end)).toMatch(/codec \d is unknown/);
  });

  test.each(CODECS)(
    "P6: %s that would become gigabytes ends at its bound",
    (_name, codec, compress) => {
      const bomb = compress(Buffer.alloc(65 << 20));
      const log = batchBytes(values("a"), { codec, compress: () => bomb });
      expect(bomb.length).toBeLessThan(6 << 20);
      expect(reasonOf(read(log).end)).toMatch(/cannot be decompressed: .*more|larger/);
    },
  );

  test.each(CODECS)("%s that is damaged is corrupt", (_name, codec, compress) => {
    const cut = (bytes: Buffer): Buffer => compress(bytes).subarray(0, -4);
    const log = batchBytes(values("a".repeat(1000), "b".repeat(99)), { codec, compress: cut });
    expect(reasonOf(read(log).end)).toMatch(/cannot be decompressed|overruns|does not end/);
  });
});

describe("what is wrong is corrupt, at the offset of its batch and with the position before it", () => {
  const good = batchBytes(values("a", "b"), { base: 5, epoch: 4 });
  const header = [[Buffer.from("name"), Buffer.from("value")]] as const;
  const never = Buffer.alloc(12, 0xff);

  const cases: Record<string, [bytes: Buffer, reason: string | RegExp]> = {
    "message format 0": [batchBytes(values("a"), { base: 7, magic: 0 }), "format 0 is not 2"],
    "message format 3": [batchBytes(values("a"), { base: 7, magic: 3 }), "format 3 is not 2"],
    "a length below the header's": [batchBytes(values("a"), { base: 7, length: 48 }), "length"],
    "a length of zero": [batchBytes(values("a"), { base: 7, length: 0 }), "length is impossible"],
    "a negative length": [batchBytes(values("a"), { base: 7, length: -50 }), "length"],
    "a last offset before the first": [
      batchBytes(values("a"), { base: 7, lastOffsetDelta: -1 }),
      "offsets are impossible",
    ],
    "more records than there are": [batchBytes(values("a"), { base: 7, count: 2 }), "record 1"],
    "fewer records than there are": [
      batchBytes(values("a", "b"), { base: 7, count: 1 }),
      "does not end with record 0",
    ],
    "fewer than no records": [batchBytes(values("a"), { base: 7, count: -1 }), "does not end"],
    "two billion records": [batchBytes(values("a"), { base: 7, count: 2 ** 31 - 1 }), "record 1"],
    "bytes behind the last record": [
      batchBytes(values("a"), { base: 7, after: Buffer.from([0]) }),
      "does not end with record 0",
    ],
    "a record longer than the batch": [batchBytes([{ length: 5000 }], { base: 7 }), "overruns"],
    "a record of no length": [batchBytes([{ length: 0 }], { base: 7 }), "overruns"],
    "a record of negative length": [batchBytes([{ length: -9 }], { base: 7 }), "overruns"],
    "a record longer than its fields": [
      batchBytes([{ after: Buffer.from([0]) }], { base: 7 }),
      "longer than its fields",
    ],
    "a key that overruns": [
      batchBytes([{ key: Buffer.from("k"), keyLength: 50 }], { base: 7 }),
      /overruns|not end/,
    ],
    "a key of two gigabytes": [
      batchBytes([{ keyLength: 2 ** 31 - 1 }], { base: 7 }),
      /not end|over/,
    ],
    "a value that overruns": [
      batchBytes([{ value: Buffer.from("v"), valueLength: 2 }], { base: 7 }),
      /overruns/,
    ],
    "a number of 32 bits without end": [
      batchBytes([], { base: 7, count: 1, after: never }),
      "number",
    ],
    "a number of 64 bits without end": [
      batchBytes([], {
        base: 7,
        count: 1,
        after: Buffer.concat([varint(12), Buffer.of(0), never]),
      }),
      "a number does not end",
    ],
    "records out of order": [
      batchBytes([{ offsetDelta: 1 }, { offsetDelta: 0 }], { base: 7 }),
      "record 1 is out of order",
    ],
    "two records of one offset": [
      batchBytes([{ offsetDelta: 0 }, { offsetDelta: 0 }], { base: 7 }),
      "record 1 is out of order",
    ],
    "a record before its batch": [batchBytes([{ offsetDelta: -1 }], { base: 7 }), "out of order"],
    "a record after its batch": [
      batchBytes([{ offsetDelta: 2 }], { base: 7, lastOffsetDelta: 1 }),
      "record 0 is out of order",
    ],
    "more headers than there are": [
      batchBytes([{ headers: header, headerCount: 2 }], { base: 7 }),
      "a header overruns its record",
    ],
    "two billion headers": [
      batchBytes([{ headers: header, headerCount: 2 ** 31 - 1 }], { base: 7 }),
      "a header overruns its record",
    ],
    "fewer headers than there are": [
      batchBytes([{ headers: [...header, ...header], headerCount: 1 }], { base: 7 }),
      "longer than its headers",
    ],
    "fewer than no headers": [
      batchBytes([{ headers: header, headerCount: -1 }], { base: 7 }),
      "fewer than no headers",
    ],
  };

  // A header that reaches into the next record, and a batch that reaches into the next batch.
  const next = batchBytes(values("next".repeat(50)), { base: 9 });

  test.each(Object.entries(cases))("%s", (_name, [bytes, reason]) => {
    const some = read(Buffer.concat([good, bytes, next]), 5);
    expect(some.end).toMatchObject({ kind: "corrupt", offset: 7, next: 7, epoch: 4 });
    expect(reasonOf(some.end)).toMatch(reason);
    expect(listed(some).slice(0, 2)).toEqual(["5:a", "6:b"]);
    for (const { value } of some.seen) expect(value ?? "").not.toMatch(/next/);
  });

  test("a header without a name's length, or one that reaches into the next record", () => {
    const record = (fields: Buffer): Buffer =>
      batchBytes([{ headerCount: 1, after: fields }, ...values("next")], { base: 7 });
    for (const fields of [
      Buffer.concat([varint(-1), varint(-1)]),
      Buffer.concat([varint(1), Buffer.from("n"), varint(3), Buffer.from("v")]),
      Buffer.concat([varint(9), Buffer.from("n"), varint(-1)]),
    ]) {
      expect(reasonOf(read(record(fields), 7).end)).toMatch(/a header overruns its record/);
    }
  });

  test("a checksum that does not match, when it is asked for", () => {
    for (const at of [17, 21, 30, 57, HEADER_BYTES, good.length - 1]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] as number) ^ 0x10;
      expect(reasonOf(read(bad, 5).end)).toMatch(/checksum does not match/);
    }
    const bad = Buffer.from(good);
    bad[20] = (bad[20] as number) ^ 1;
    expect(scan(bad, { from: 5, aborted: [], checksums: false }, () => {}).kind).toBe("end");
  });

  test.each([
    ["backwards", 3],
    ["into the one before it", 6],
    ["to a negative offset", -1],
    ["past what a number holds", 2n ** 53n],
    ["to the largest offset there is", 2n ** 63n - 1n],
  ])("a base offset that leads %s: the checksum does not cover it", (_name, base) => {
    const some = read(Buffer.concat([good, batchBytes(values("c", "d"), { base }), next]), 5);
    expect(some.end.kind).toBe("corrupt");
    expect(listed(some)).toEqual(["5:a", "6:b"]);
  });

  test("a first batch that is not whole, or none that reaches the position: no fetch would ever bring more", () => {
    for (const cut of [1, 60, 61, good.length - 1]) {
      expect(read(good.subarray(0, cut), 5).end).toEqual({
        kind: "corrupt",
        offset: 5,
        reason: "no whole batch reaches offset 5",
        next: 5,
        epoch: -1,
      });
    }
    expect(read(good, 7).end).toMatchObject({ kind: "corrupt", offset: 7 });
    expect(read(batchBytes(values("a", "b"), { base: -1 }), 0).end.kind).toBe("corrupt");
    const huge = batchBytes(values("a"), { base: 5, length: 2 ** 31 - 1 });
    expect(read(huge, 5).end).toMatchObject({ kind: "corrupt", offset: 5 });
  });
});
