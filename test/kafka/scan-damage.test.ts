/**
 * The scanner against damage of any kind: cuts, flipped bits, bytes twice. `SEED=n` replays a seed.
 * Damage by name is in scan.test.ts.
 */
import { expect, test } from "@jest/globals";
import { forEachHeader, scan, scanNext } from "../../kafka/scan.ts";
import { Random } from "../sim/random.ts";
import { type BatchBytes, batchBytes } from "./batch-bytes.ts";
import { CODECS, type Codec, read } from "./read-batches.ts";

const SEED = Number(process.env["SEED"] ?? 5);
const ROUNDS = 8000;
const HEADER_BYTES = 61;

/** A log of every kind of batch, and what it says. */
function anyLog(random: Random): Buffer {
  const batches: Buffer[] = [];
  let base = random.int(0, 2 ** 33);
  for (let left = random.int(1, 4); left > 0; left--) {
    const bytes = (max: number): Buffer => Buffer.alloc(random.int(0, max), random.int(0, 255));
    const some = (max: number): Buffer | null => (random.chance(0.2) ? null : bytes(max));
    const records = Array.from({ length: random.int(1, 5) }, (_, i) => ({
      offsetDelta: i * 2,
      timeDelta: random.int(-1000, 1000),
      key: some(20),
      value: some(90),
      headers: Array.from(
        { length: random.int(0, 3) },
        () => [bytes(9), some(9)] as [Buffer, Buffer | null],
      ),
    }));
    const batch: BatchBytes = {
      base,
      epoch: random.int(0, 9),
      lastOffsetDelta: records.length * 2,
      producer: BigInt(random.int(0, 2)),
      transactional: random.chance(0.4),
      control: random.chance(0.1),
      appendTime: random.chance(0.1),
    };
    const [, codec, compress] = CODECS[random.int(0, CODECS.length - 1)] as Codec;
    batches.push(batchBytes(records, random.chance(0.4) ? { ...batch, codec, compress } : batch));
    base += random.int(records.length * 2 + 1, 2 ** 20);
  }
  return Buffer.concat(batches);
}

function damaged(random: Random, log: Buffer): Buffer {
  const length = random.chance(0.3) ? random.int(0, log.length) : log.length;
  let bytes = Buffer.from(log.subarray(0, length));
  if (random.chance(0.1)) bytes = Buffer.concat([bytes, log.subarray(random.int(0, log.length))]);
  for (let flips = random.int(0, 4); flips > 0 && bytes.length > 0; flips--) {
    // Headers are where a flip does most.
    const at = random.int(0, (random.chance(0.5) ? Math.min(80, bytes.length) : bytes.length) - 1);
    bytes[at] = random.chance(0.3)
      ? random.int(0, 255)
      : (bytes[at] as number) ^ (1 << random.int(0, 7));
  }
  return bytes;
}

/** Where each batch begins and ends, as far as lengths go. */
function spans(bytes: Buffer): [start: number, end: number][] {
  const found: [number, number][] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const end = at + 12 + bytes.readInt32BE(at + 8);
    if (end < at + HEADER_BYTES || end > bytes.length) break;
    found.push([at + HEADER_BYTES, end]);
    at = end;
  }
  return found;
}

test("a scan ends, in `end` with a new position or in `corrupt`; throws nothing; gives nothing from outside a batch", () => {
  const ends = { end: 0, corrupt: 0 };
  for (let seed = SEED; seed < SEED + ROUNDS; seed++) {
    const random = new Random(seed);
    const log = anyLog(random);
    const bytes = damaged(random, log);
    const whole = spans(bytes);
    const first = log.readUInt32BE(0) * 2 ** 32 + log.readUInt32BE(4);
    const from = random.chance(0.5) ? 0 : first + random.int(0, 10);
    const aborted = [0, 1].map((id) => ({
      producerId: BigInt(id),
      firstOffset: random.int(0, 2 ** 33),
    }));
    const wrong = (what: string): never => {
      throw new Error(`SEED=${seed}: ${what}`);
    };
    // The next fetch is sent before this one is judged.
    const early = scanNext(bytes, from);
    let last = from - 1;
    const end = scan(bytes, { from, aborted, checksums: false }, (cursor) => {
      if (cursor.offset <= last) wrong(`offset ${cursor.offset} comes after ${last}`);
      last = cursor.offset;
      const { keyStart, valueStart, headersStart } = cursor;
      const inside = ([start, limit]: readonly [number, number]): boolean =>
        keyStart > start && cursor.end <= limit;
      const compressed = cursor.buf !== bytes;
      if (!compressed && !whole.some(inside)) wrong("a record is outside of its batch");
      if (cursor.end > cursor.buf.length) wrong("a record is outside of its bytes");
      if (
        keyStart + Math.max(0, cursor.keyLength) > valueStart ||
        valueStart + Math.max(0, cursor.valueLength) > headersStart ||
        headersStart >= cursor.end
      ) {
        wrong("a field is outside of its record");
      }
      forEachHeader(cursor, (key, keyLength, value, valueLength) => {
        if (
          key <= headersStart ||
          key + keyLength > value ||
          value + Math.max(0, valueLength) > cursor.end
        ) {
          wrong("a header is outside of its record");
        }
      });
    });
    ends[end.kind]++;
    if (end.kind === "corrupt") continue;
    if (bytes.length > 0 && end.next <= from) wrong("no progress, and no word of it");
    if (end.next <= last) wrong("the next position is not after the last record");
    const { kind: _, ...position } = end;
    expect([seed, early]).toEqual([seed, position]);
  }
  expect(Math.min(ends.end, ends.corrupt)).toBeGreaterThan(ROUNDS / 10);
});

test("with checksums, what is given is what was written, as far as it goes", () => {
  for (let seed = SEED; seed < SEED + ROUNDS / 4; seed++) {
    const random = new Random(seed);
    const log = anyLog(random);
    const bytes = Buffer.from(log);
    for (let flips = random.int(1, 3); flips > 0; flips--) {
      const spansOf = spans(log);
      const [start, end] = spansOf[random.int(0, spansOf.length - 1)] as [number, number];
      // From the attributes on: what lies before is not under the checksum.
      const at = random.int(start - HEADER_BYTES + 21, end - 1);
      bytes[at] = (bytes[at] as number) ^ (1 << random.int(0, 7));
    }
    const before = read(log).seen;
    const after = read(bytes);
    if (!bytes.equals(log) && after.end.kind !== "corrupt")
      throw new Error(`SEED=${seed}: not found`);
    expect([seed, after.seen]).toEqual([seed, before.slice(0, after.seen.length)]);
  }
});
