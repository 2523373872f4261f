/**
 * Snappy and LZ4 against another implementation (the Kafka client's), and against bytes that are wrong:
 * an exception, never more than the bound, never what another call left behind.
 */
import { describe, expect, test } from "@jest/globals";
import { compressionsAlgorithms } from "@platformatic/kafka";
import { lz4Decoded, snappyDecoded } from "../../kafka/lz-decoders.ts";
import { Random } from "../sim/random.ts";

const SEED = Number(process.env["SEED"] ?? 11);
const MAX_BYTES = 1 << 20;
const ROUNDS = 3000;

/** Bytes of any compressibility: runs, words, noise. */
function anyBytes(random: Random, max: number): Buffer {
  const bytes = Buffer.alloc(random.int(0, max));
  const noise = random.next() ** 2;
  for (let i = 0; i < bytes.length; ) {
    const run = Math.min(random.int(1, random.chance(0.1) ? 5000 : 40), bytes.length - i);
    if (random.chance(noise) || i < 10) {
      for (let j = 0; j < run; j++) bytes[i + j] = random.int(0, 255);
    } else {
      const distance = random.chance(0.2) ? random.int(1, 5) : random.int(1, i);
      for (let j = 0; j < run; j++) bytes[i + j] = bytes[i + j - Math.min(distance, i)] as number;
    }
    i += run;
  }
  return bytes;
}

function xerial(data: Buffer, chunkBytes: number): Buffer {
  const parts: Buffer[] = [
    Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
  ];
  for (let i = 0; i < data.length; i += chunkBytes) {
    const chunk = compressionsAlgorithms.snappy.compressSync(data.subarray(i, i + chunkBytes));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(chunk.length);
    parts.push(length, chunk);
  }
  return Buffer.concat(parts);
}

/** An LZ4 frame of stored blocks, with every optional field that a producer may write. */
function lz4Stored(data: Buffer, blockBytes: number): Buffer {
  const head = Buffer.alloc(15);
  head.writeUInt32LE(0x184d2204, 0);
  head[4] = 0x7c;
  head[5] = 0x40;
  head.writeBigUInt64LE(BigInt(data.length), 6);
  const parts: Buffer[] = [head];
  for (let i = 0; i < data.length; i += blockBytes) {
    const block = data.subarray(i, i + blockBytes);
    const length = Buffer.alloc(4);
    length.writeUInt32LE((block.length | 0x80000000) >>> 0);
    parts.push(length, block, Buffer.from("chk1"));
  }
  return Buffer.concat([...parts, Buffer.alloc(4), Buffer.from("chk2")]);
}

/** Nothing when it throws; an exception of the language would be a mistake in the decoder. */
function decoded(decode: (bytes: Buffer, maxBytes: number) => Buffer, bytes: Buffer): Buffer {
  try {
    return decode(bytes, MAX_BYTES);
  } catch (error) {
    if (error instanceof TypeError) throw error;
    return Buffer.alloc(0);
  }
}

const FORMATS = {
  snappy: {
    encode: (data: Buffer) => compressionsAlgorithms.snappy.compressSync(data) as Buffer,
    decode: snappyDecoded,
  },
  "snappy in snappy-java's chunks": {
    encode: (data: Buffer) => xerial(data, 1000),
    decode: snappyDecoded,
  },
  lz4: {
    encode: (data: Buffer) => compressionsAlgorithms.lz4.compressSync(data) as Buffer,
    decode: lz4Decoded,
  },
  "lz4 of stored blocks with checksums and size": {
    encode: (data: Buffer) => lz4Stored(data, 1000),
    decode: lz4Decoded,
  },
};

describe.each(Object.entries(FORMATS))("%s", (_name, { encode, decode }) => {
  test("what another implementation made of any bytes is read back", () => {
    const random = new Random(SEED);
    for (let round = 0; round < 400; round++) {
      const data = anyBytes(random, random.chance(0.05) ? 300_000 : 3000);
      if (!decode(encode(data), MAX_BYTES).equals(data)) {
        throw new Error(`seed ${SEED}, round ${round}: ${data.length} bytes are not read back`);
      }
    }
  });

  test("exactly the bound is taken, one byte more is refused", () => {
    const data = Buffer.alloc(5000, "abc");
    expect(decode(encode(data), 5000)).toHaveLength(5000);
    expect(() => decode(encode(data), 4999)).toThrow("more than 4999 bytes");
  });

  test("a cut or a flipped bit is an exception or other bytes within the bound, and the next call is right", () => {
    const random = new Random(SEED);
    const data = anyBytes(random, 3000);
    const good = encode(data);
    for (let round = 0; round < ROUNDS; round++) {
      const length = random.chance(0.3) ? random.int(0, 99) : good.length;
      const bad = Buffer.from(good.subarray(0, length));
      for (let flips = random.int(0, 3); flips > 0 && bad.length > 0; flips--) {
        const at = random.int(0, bad.length - 1);
        bad[at] = (bad[at] as number) ^ (1 << random.int(0, 7));
      }
      const before = Buffer.from(bad);
      const made = decoded(decode, bad);
      if (made.length > MAX_BYTES || !bad.equals(before)) {
        throw new Error(`seed ${SEED}, round ${round}: ${made.length} bytes, or the input changed`);
      }
    }
    expect(decode(good, MAX_BYTES).equals(data)).toBe(true);
  });

  test("every cut is an exception, or a beginning of what was encoded", () => {
    const data = Buffer.from("a cut stream is not another stream ".repeat(60));
    const good = encode(data);
    for (let length = 0; length < good.length; length++) {
      const made = decoded(decode, good.subarray(0, length));
      expect([length, data.subarray(0, made.length).equals(made)]).toEqual([length, true]);
    }
  });
});

/** One byte, then 70,000 copies of it, where a block may become 65,536 bytes. */
const LONG_COPY = `04224d18604000190100001f610100${"ff".repeat(274)}6f106200000000`;

test.each([
  ["snappy of four gigabytes in seven bytes", snappyDecoded, "ffffffff0f0000", /more than/],
  ["snappy whose length does not end", snappyDecoded, "ffffffffff01", /does not end/],
  ["snappy that copies from before its start", snappyDecoded, "0500610104", /before its start/],
  ["snappy that copies from no distance", snappyDecoded, "0500610100", /before its start/],
  ["snappy that is shorter than it says", snappyDecoded, "050061", /not the 5/],
  ["snappy that is longer than it says", snappyDecoded, "0108616263", /longer than it says/],
  ["a literal that is cut off", snappyDecoded, "0af0", /cut off/],
  ["no LZ4 frame", lz4Decoded, "00000000000000", /no LZ4 frame/],
  ["an LZ4 frame of version 2", lz4Decoded, "04224d18a04000", /unknown kind/],
  ["an LZ4 frame of undefined block size", lz4Decoded, "04224d18600000", /unknown kind/],
  ["an LZ4 frame with a dictionary", lz4Decoded, "04224d1861400000000000", /dictionary/],
  ["an LZ4 frame without end", lz4Decoded, "04224d18604000", /cut off/],
  [
    "an LZ4 block larger than its frame allows",
    lz4Decoded,
    "04224d18604000010001000000",
    /cut off/,
  ],
  [
    "an LZ4 copy from before its start",
    lz4Decoded,
    "04224d18604000040000001061ffff00000000",
    /before/,
  ],
  ["an LZ4 block that becomes longer than its frame allows", lz4Decoded, LONG_COPY, /longer than/],
])("%s is refused", (_name, decode, hex, message) => {
  expect(() => decode(Buffer.from(hex, "hex"), MAX_BYTES)).toThrow(message);
});
