/**
 * Which partition a key belongs to: murmur2 as in Kafka's Java client, so that every Kafka client agrees.
 * Source: org.apache.kafka.common.utils.Utils#murmur2 and #toPositive.
 */
export function partitionOf(key: Buffer, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

function murmur2(data: Buffer): number {
  const m = 0x5bd1e995;
  const length = data.length;
  let h = 0x9747b28c ^ length;
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    let k = Math.imul(data.readInt32LE(i), m);
    k ^= k >>> 24;
    h = Math.imul(h, m) ^ Math.imul(k, m);
  }
  const rest = length & 3;
  if (rest >= 3) h ^= (data[i + 2] as number) << 16;
  if (rest >= 2) h ^= (data[i + 1] as number) << 8;
  if (rest >= 1) h = Math.imul(h ^ (data[i] as number), m);
  h = Math.imul(h ^ (h >>> 13), m);
  return h ^ (h >>> 15);
}

/** By key; without one, each partition in turn. */
export class Partitioner {
  #turn: number;

  constructor(random: () => number) {
    this.#turn = Math.floor(random() * 65536);
  }

  choose(key: Buffer | null, partitions: number): number {
    if (key !== null) return partitionOf(key, partitions);
    this.#turn = (this.#turn + 1) % (1 << 30);
    return this.#turn % partitions;
  }
}
