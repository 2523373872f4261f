/** Committed records only: control batches and aborted transactions, in any order. `SEED=n` replays a seed. */
import { expect, test } from "@jest/globals";
import type { AbortedTransaction } from "../../kafka/log.ts";
import { Random } from "../sim/random.ts";
import { batchBytes, markerBytes } from "./batch-bytes.ts";
import { listed, read, values } from "./read-batches.ts";

const SEED = Number(process.env["SEED"] ?? 5);

const A = 7n;
const B = 2n ** 62n;
const open = (base: number, producer: bigint, ...all: string[]): Buffer =>
  batchBytes(values(...all), { base, producer, transactional: true });

test("control records are never visited, and their offsets are passed", () => {
  const log = Buffer.concat([
    open(0, A, "a"),
    markerBytes(1, A, "commit"),
    batchBytes(values("leader change"), { base: 2, control: true }),
  ]);
  const some = read(log);
  expect(listed(some)).toEqual(["0:a"]);
  expect(some.end).toEqual({ kind: "end", next: 3, epoch: 0 });
});

test("of interleaved transactions only the aborted one is left out", () => {
  const log = Buffer.concat([
    open(0, A, "a1"),
    open(1, B, "b1", "b2"),
    batchBytes(values("plain"), { base: 3 }),
    open(4, A, "a2"),
    markerBytes(5, B, "abort"),
    open(6, B, "b3"),
    markerBytes(7, A, "commit"),
    markerBytes(8, B, "commit"),
  ]);
  const some = read(log, 0, [{ producerId: B, firstOffset: 1 }]);
  expect(listed(some)).toEqual(["0:a1", "3:plain", "4:a2", "6:b3"]);
  expect(some.end).toEqual({ kind: "end", next: 9, epoch: 0 });
});

test("an aborted transaction that began before the fetch is left out to its marker", () => {
  const log = Buffer.concat([
    open(50, A, "a"),
    markerBytes(51, A, "abort"),
    open(52, A, "b"),
    markerBytes(53, A, "commit"),
  ]);
  expect(listed(read(log, 50, [{ producerId: A, firstOffset: 3 }]))).toEqual(["52:b"]);
});

test("several aborted transactions of one producer, listed in any order, with a committed one between", () => {
  const log = Buffer.concat([
    open(0, A, "x"),
    markerBytes(1, A, "abort"),
    open(2, A, "kept"),
    markerBytes(3, A, "commit"),
    open(4, A, "y"),
    markerBytes(5, A, "abort"),
  ]);
  const aborted = [
    { producerId: A, firstOffset: 4 },
    { producerId: A, firstOffset: 0 },
  ];
  expect(listed(read(log, 0, aborted))).toEqual(["2:kept"]);
  expect(aborted.map(({ firstOffset }) => firstOffset)).toEqual([4, 0]);
});

test("what an aborted producer writes outside of a transaction is kept", () => {
  const log = Buffer.concat([
    batchBytes(values("plain"), { base: 0, producer: A }),
    open(1, A, "x"),
    markerBytes(2, A, "abort"),
  ]);
  expect(listed(read(log, 0, [{ producerId: A, firstOffset: 1 }]))).toEqual(["0:plain"]);
});

test("whatever the interleaving, from wherever the read begins: exactly the committed records", () => {
  for (let seed = SEED; seed < SEED + 500; seed++) {
    const log = anyTransactions(new Random(seed));
    const random = new Random(seed);
    const from = random.int(0, log.next - 1);
    // As a broker does it: from the batch that holds the offset on, with what overlaps it.
    const batches = log.batches.filter(({ last }) => last >= from);
    const aborted = log.aborted.filter(({ end }) => end >= from);
    aborted.sort(() => random.next() - 0.5);
    const some = read(Buffer.concat(batches.map(({ bytes }) => bytes)), from, aborted);
    const wanted = log.committed.filter(({ offset }) => offset >= from);
    expect([seed, ...listed(some)]).toEqual([
      seed,
      ...wanted.map(({ offset, value }) => `${offset}:${value}`),
    ]);
    expect(some.end).toMatchObject({ kind: "end", next: log.next });
  }
});

interface Transactions {
  readonly batches: { readonly bytes: Buffer; readonly last: number }[];
  readonly aborted: (AbortedTransaction & { readonly end: number })[];
  readonly committed: { readonly offset: number; readonly value: string }[];
  next: number;
}

/** Four producers, one of them plain, that write, commit and abort in any order. */
function anyTransactions(random: Random): Transactions {
  const log: Transactions = { batches: [], aborted: [], committed: [], next: 0 };
  const begun = new Map<number, { first: number; own: { offset: number; value: string }[] }>();
  const append = (bytes: Buffer, count: number): void => {
    log.next += count;
    log.batches.push({ bytes, last: log.next - 1 });
  };
  const end = (producer: number): void => {
    const transaction = begun.get(producer);
    if (!transaction) return;
    begun.delete(producer);
    const kind = random.chance(0.5) ? "commit" : "abort";
    if (kind === "commit") log.committed.push(...transaction.own);
    else {
      const { first: firstOffset } = transaction;
      log.aborted.push({ producerId: BigInt(producer), firstOffset, end: log.next });
    }
    append(markerBytes(log.next, BigInt(producer), kind), 1);
  };
  append(batchBytes(values("first"), {}), 1);
  log.committed.push({ offset: 0, value: "first" });
  for (let step = random.int(1, 40); step > 0; step--) {
    const producer = random.int(0, 3);
    if (random.chance(0.4)) {
      end(producer);
      continue;
    }
    const own = Array.from({ length: random.int(1, 4) }, (_, i) => ({
      offset: log.next + i,
      value: `${producer}-${step}-${i}`,
    }));
    const transactional = producer > 0;
    if (!transactional) log.committed.push(...own);
    else {
      const first = begun.get(producer)?.first ?? log.next;
      begun.set(producer, { first, own: [...(begun.get(producer)?.own ?? []), ...own] });
    }
    const of = { base: log.next, producer: BigInt(producer), transactional };
    append(batchBytes(values(...own.map(({ value }) => value)), of), own.length);
  }
  // Read committed ends before the first open transaction: none is left open here.
  for (const producer of [...begun.keys()]) end(producer);
  log.committed.sort((a, b) => a.offset - b.offset);
  return log;
}
