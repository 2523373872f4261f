import { describe, expect, test } from "@jest/globals";
import { Partitioners } from "kafkajs";
import { Partitioner, partitionOf } from "../../kafka/partitioner.ts";
import { Random } from "../sim/random.ts";

const KEYS = 20_000;

describe("the partition of a key", () => {
  test.each([
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ])("%s hashes as in Kafka's own tests (UtilsTest.testMurmur2)", (key, hash) => {
    expect(partitionOf(Buffer.from(key), 2 ** 31)).toBe(hash & 0x7fffffff);
  });

  test("is kafkajs's, for random keys of every length, text beyond ASCII and the empty key", () => {
    const seed = Date.now() % 1e9;
    const random = new Random(seed);
    const theirs = Partitioners.DefaultPartitioner();
    const texts = ["", "ü", "日本語", "🛫", "\u0000", "é".repeat(33)].map((text) =>
      Buffer.from(text),
    );
    const bytes = Array.from({ length: KEYS }, () =>
      Buffer.from(Array.from({ length: random.int(0, 40) }, () => random.int(0, 255))),
    );
    for (const key of [...texts, ...bytes]) {
      const partitions = random.int(1, 100);
      const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
        partitionErrorCode: 0,
        partitionId,
        leader: 1,
        replicas: [],
        isr: [],
      }));
      const expected = theirs({ topic: "t", partitionMetadata, message: { key, value: null } });
      const label = `seed ${seed}, key ${key.toString("hex")} of ${partitions}`;
      expect([label, partitionOf(key, partitions)]).toEqual([label, expected]);
    }
  });
});

test("events without a key take the partitions in turn", () => {
  const partitioner = new Partitioner(() => 0.3);
  const first = partitioner.choose(null, 4);
  expect([1, 2, 3, 4].map(() => partitioner.choose(null, 4))).toEqual(
    [1, 2, 3, 4].map((i) => (first + i) % 4),
  );
});

test("an empty key is a key", () => {
  const partitioner = new Partitioner(() => 0);
  const chosen = Array.from({ length: 10 }, () => partitioner.choose(Buffer.alloc(0), 7));
  expect(new Set(chosen).size).toBe(1);
});
