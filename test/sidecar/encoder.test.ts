/** The hand-written encoder and frame equal the generated ones. */
import { expect, test } from "@jest/globals";
import type { NewRecord } from "../../kafka/log.ts";
import { encodeBatch, NO_PRODUCER } from "../../kafka/record-batch.ts";
import { SubscribeResponse } from "../../proto/gen/throughline/v1/throughline.ts";
import { SegmentEncoder } from "../../sidecar/dispatch/encoder.ts";
import { BatchFrame } from "../../sidecar/frame.ts";
import { Random } from "../sim/random.ts";

const SEED = 7;

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

function int64(value: number): Buffer {
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
    const frame = new BatchFrame(
      segment.bytes,
      [0, segment.bytes.length],
      segment.bytes.length,
      5,
      token,
    );
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
        headers.filter(([name]) => name === "trace").map(([name, bytes2]) => [name, text(bytes2)]),
      ]),
    );
  }
});
