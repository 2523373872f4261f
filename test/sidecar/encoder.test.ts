/**
 * The hand-written encoder and frame equal the generated ones. How records become segments is in
 * segments.test.ts. `SEED=n` replays a seed.
 */
import { expect, test } from "@jest/globals";
import type { Fetched, NewRecord } from "../../kafka/log.ts";
import { encodeBatch, NO_PRODUCER } from "../../kafka/record-batch.ts";
import { Event, SubscribeResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import { SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import type { Segment } from "../../sidecar/dispatch/segment.ts";
import { BatchFrame } from "../../sidecar/frame.ts";
import { batchBytes, type RecordBytes } from "../kafka/batch-bytes.ts";
import { CODECS, type Codec } from "../kafka/read-batches.ts";
import { Random } from "../sim/random.ts";

const SEED = Number(process.env["SEED"] ?? 7);

function records(random: Random): NewRecord[] {
  const bytes = (max: number): Buffer => Buffer.alloc(random.int(0, max), random.int(0, 255));
  return Array.from({ length: random.int(1, 40) }, () => ({
    key: random.chance(0.2) ? null : bytes(40),
    value: random.chance(0.1) ? null : bytes(random.chance(0.1) ? 20_000 : 300),
    headers: [
      ...(random.chance(0.5) ? [["ce_type", Buffer.from("order.created")] as const] : []),
      ...(random.chance(0.5) ? [["trace", bytes(60)] as const, ["trace", bytes(3)] as const] : []),
      ...(random.chance(0.3) ? [["tl-sequence", int64(random.int(1, 2 ** 31))] as const] : []),
      ...(random.chance(0.3) ? [["tl-commit-id", int64(random.int(1, 2 ** 31))] as const] : []),
    ],
    timeMs: random.chance(0.1) ? 0 : random.int(1, 2 ** 31) * 1000,
  }));
}

/** Jest compares long strings much faster than buffers. */
function text(bytes: Buffer | null | undefined): string | null {
  return bytes ? bytes.toString("latin1") : null;
}

function int64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(value));
  return bytes;
}

test("a frame of any records is byte for byte what the generated encoder makes of them", () => {
  const random = new Random(SEED);
  const encoder = new SegmentEncoder();
  for (let round = 0; round < 300; round++) {
    const batch = records(random);
    const baseOffset = random.chance(0.5) ? 0 : random.int(1, 2 ** 40);
    const fetched = {
      kind: "fetched" as const,
      records: encodeBatch(batch, { ...NO_PRODUCER, baseOffset, leaderEpoch: 3 }),
      aborted: [],
      release: () => {},
      highWatermark: 0,
      lastStable: 0,
      logStart: 0,
    };
    const encoded = encoder.encode(fetched, baseOffset);
    if (encoded.kind !== "segments") throw new Error(encoded.reason);
    const [segment] = encoded.segments;
    if (!segment) throw new Error("no segment");
    const token = Buffer.from("token");
    const frame = new BatchFrame(segment.bytes, [0, segment.bytes.length], segment.bytes.length, {
      partition: 5,
      maybeRedelivered: true,
      token,
    });
    const bytes = Buffer.alloc(frame.byteLength);
    frame.copy(bytes, 0);
    const response = SubscribeResponse.decode(bytes);
    // The hand-written frame puts the token last; field order is the same otherwise.
    expect(Buffer.from(SubscribeResponse.encode(response).finish()).equals(bytes)).toBe(true);
    const value = response.kind?.$case === "batch" ? response.kind.value : undefined;
    expect(value?.events.map(({ offset }) => Number(offset))).toEqual(
      batch.map((_record, i) => baseOffset + i),
    );
    expect(
      value?.events.map(({ key, payload, timeMs }) => [text(key), text(payload), Number(timeMs)]),
    ).toEqual(batch.map(({ key, value: payload, timeMs }) => [text(key), text(payload), timeMs]));
    expect(
      value?.events.map(({ headers, type }) => [type, headers.map((h) => [h.key, text(h.value)])]),
    ).toEqual(
      batch.map(({ headers }) => [
        headers.find(([name]) => name === "ce_type")?.[1].toString() ?? "",
        headers
          .filter(([name]) => name === "trace")
          .map(([name, bytes2]) => [name, text(bytes2 as Buffer)]),
      ]),
    );
  }
});

/** Anything that another Kafka client may have written. */
function foreignRecord(random: Random): RecordBytes {
  const bytes = (max: number): Buffer =>
    Buffer.from(Array.from({ length: random.int(0, max) }, () => random.int(0, 255)));
  const some = (max: number): Buffer | null => (random.chance(0.2) ? null : bytes(max));
  const text = (): Buffer =>
    random.chance(0.2)
      ? bytes(6)
      : Buffer.from(["", "trace", "ü", "日本", "tl-x"][random.int(0, 4)] ?? "");
  const name = (): Buffer =>
    random.chance(0.5)
      ? text()
      : Buffer.from(
          ["ce_type", "tl-sequence", "tl-commit-id", "tl-commit-time"][random.int(0, 3)] as string,
        );
  const value = (): Buffer | null => {
    if (random.chance(0.4)) return some(12);
    if (random.chance(0.3)) return text();
    const number = [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), BigInt(random.int(0, 2 ** 50))];
    return int64(number[random.int(0, 5)] as bigint);
  };
  const header = (): [Buffer, Buffer | null] => [name(), value()];
  return {
    timeDelta: random.chance(0.2) ? random.int(-(2 ** 42), 2 ** 42) : random.int(-9, 9),
    key: some(40),
    value: random.chance(0.02) ? Buffer.alloc(random.int(0, 300_000), "large") : some(200),
    headers: Array.from({ length: random.chance(0.4) ? 0 : random.int(1, 5) }, header),
  };
}

/** What the contract says that becomes of a record. */
function expectedEvent(record: RecordBytes, offset: number, firstTime: number): Event {
  const event: Event = {
    key: record.key ?? undefined,
    payload: record.value ?? undefined,
    offset: BigInt(offset),
    timeMs: BigInt(firstTime + (record.timeDelta ?? 0)),
    headers: [],
    type: "",
    sequence: 0n,
    commitId: 0n,
    commitTimeMs: 0n,
  };
  for (const [name, value] of record.headers ?? []) {
    const key = name.toString();
    const number = value?.length === 8 ? value.readBigInt64BE() : undefined;
    if (key === "ce_type") event.type = value?.toString() ?? "";
    else if (key === "tl-sequence" && number !== undefined) event.sequence = unsigned(number);
    else if (key === "tl-commit-id" && number !== undefined) event.commitId = unsigned(number);
    else if (key === "tl-commit-time" && number !== undefined) event.commitTimeMs = number;
    else event.headers.push({ key, value: value ?? Buffer.alloc(0) });
  }
  return event;
}

function unsigned(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}

function fetchedOf(records: Buffer): Fetched {
  const ends = { highWatermark: 0, lastStable: 0, logStart: 0 };
  return { kind: "fetched", records, aborted: [], ...ends, release: () => {} };
}

/** The Event messages of a segment, each without its tag and length. */
function messagesOf({ bytes, starts, count }: Segment): Buffer[] {
  return Array.from({ length: count }, (_, i) => {
    const end = starts[i + 1] as number;
    let at = starts[i] as number;
    expect(bytes[at++]).toBe(0x0a);
    let length = 0;
    for (let scale = 1, byte = 128; byte >= 128; scale *= 128) {
      byte = bytes[at++] as number;
      length += (byte & 127) * scale;
    }
    expect(at + length).toBe(end);
    return bytes.subarray(at, end);
  });
}

test("each event is byte for byte what the generated encoder makes of the record, whoever wrote it", () => {
  const encoder = new SegmentEncoder();
  for (let seed = SEED; seed < SEED + 400; seed++) {
    const random = new Random(seed);
    const records = Array.from({ length: random.int(1, 20) }, () => foreignRecord(random));
    const base = random.chance(0.3) ? 0 : random.int(0, random.chance(0.5) ? 2 ** 33 : 2 ** 52);
    const firstTime = random.chance(0.2) ? 0 : random.int(-1, 2 ** 42);
    const [, codec, compress] = CODECS[random.int(0, CODECS.length - 1)] as Codec;
    const compression = random.chance(0.5) ? { codec, compress } : {};
    const bytes = batchBytes(records, { base, firstTime, ...compression });
    const encoded = encoder.encode(fetchedOf(bytes), base);
    const messages = encoded.segments.flatMap(messagesOf);
    expect([seed, messages.length]).toEqual([seed, records.length]);
    for (const [i, record] of records.entries()) {
      const expected = Event.encode(expectedEvent(record, base + i, firstTime)).finish();
      if (messages[i]?.equals(expected)) continue;
      const [ours, theirs] = [messages[i], Buffer.from(expected)].map((b) =>
        b?.toString("hex", 0, 400),
      );
      throw new Error(`SEED=${seed}, record ${i}: ${ours} is not ${theirs}`);
    }
  }
});

test("names and types that are no UTF-8 are mended, for clients that refuse a frame with such a string", () => {
  const wrong = Buffer.from([0x61, 0xff, 0xc3, 0x62]);
  const records = [
    { headers: [[wrong, wrong] as const, [Buffer.from("ce_type"), wrong] as const] },
  ];
  const { segments } = new SegmentEncoder().encode(fetchedOf(batchBytes(records)), 0);
  const [message] = segments.flatMap(messagesOf);
  const event = Event.decode(message as Buffer);
  const strict = new TextDecoder("utf-8", { fatal: true });
  expect(strict.decode(Event.encode(event).finish().subarray(-8))).toBe("a\ufffd\ufffdb");
  expect(event).toMatchObject({
    type: "a\ufffd\ufffdb",
    headers: [{ key: "a\ufffd\ufffdb", value: wrong }],
  });
  // Mended in the bytes, not by this decoder.
  expect((message as Buffer).includes("a\ufffd\ufffdb")).toBe(true);
  expect((message as Buffer).indexOf(wrong)).toBe((message as Buffer).lastIndexOf(wrong));
});
