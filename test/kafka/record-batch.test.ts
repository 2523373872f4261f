/** Batches that we write are, byte for byte, what the format's own page says. */
import { expect, test } from "@jest/globals";
import type { NewRecord } from "../../kafka/log.ts";
import { BatchEncoder, encodeBatch, NO_PRODUCER, recordBytes } from "../../kafka/record-batch.ts";
import { Random } from "../sim/random.ts";
import { batchBytes } from "./batch-bytes.ts";

const SEED = Number(process.env["SEED"] ?? 11);
const NAMES = ["a", "tl-sequence", "grün", "n".repeat(63), "n".repeat(64), "語".repeat(40)];

function records(random: Random): NewRecord[] {
  const bytes = (max: number): Buffer => Buffer.alloc(random.int(0, max), random.int(0, 255));
  return Array.from({ length: random.int(1, 200) }, () => ({
    key: random.chance(0.3) ? null : bytes(40),
    value: random.chance(0.1) ? null : bytes(random.chance(0.1) ? 20_000 : 200),
    headers: Array.from({ length: random.int(0, 4) }, () => {
      const name = NAMES[random.int(0, NAMES.length - 1)] as string;
      return [name, random.chance(0.5) ? bytes(70) : BigInt(random.int(-5, 2 ** 40))] as const;
    }),
    timeMs: random.chance(0.1) ? 0 : random.int(1, 2 ** 31) * 1000,
  }));
}

function expected(of: readonly NewRecord[]): Buffer {
  const firstTime = of[0]?.timeMs ?? 0;
  return batchBytes(
    of.map(({ key, value, headers, timeMs }) => ({
      ...{ key, value, timeDelta: timeMs - firstTime },
      headers: headers.map(([name, of]) => [Buffer.from(name), int64OrBytes(of)] as const),
    })),
    { firstTime, maxTime: Math.max(...of.map(({ timeMs }) => timeMs)), epoch: -1 },
  );
}

function int64OrBytes(value: Buffer | bigint): Buffer {
  if (typeof value !== "bigint") return value;
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}

test("whatever the records, also where there was too little room for them", () => {
  const random = new Random(SEED);
  for (let round = 0; round < 200; round++) {
    const of = records(random);
    const wanted = expected(of).toString("latin1");
    expect(encodeBatch(of, NO_PRODUCER).toString("latin1")).toBe(wanted);
    const encoder = new BatchEncoder(random.int(0, 100));
    for (const one of of) encoder.add(one);
    expect(encoder.finish(NO_PRODUCER).toString("latin1")).toBe(wanted);
    for (const one of of) expect(expected([one]).length).toBeLessThanOrEqual(61 + recordBytes(one));
  }
});
