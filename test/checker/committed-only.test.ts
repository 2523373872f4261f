import { expect, test } from "@jest/globals";
import { committedOnly, type FetchedMessage } from "./committed-only.ts";

const ABORT = Buffer.from([0, 0, 0, 0]);

function message(offset: number, producerId: string, key: Buffer | null = null): FetchedMessage {
  return { offset: String(offset), key, batchContext: { producerId, inTransaction: true } };
}

function aborted(producerId: string, firstOffset: number) {
  return { producerId, firstOffset: String(firstOffset) };
}

const offsets = (messages: readonly FetchedMessage[]): number[] =>
  messages.map(({ offset }) => Number(offset));

test("of several transactions that were open before the fetch began none shows an aborted event", () => {
  const fetched = [message(50, "2"), message(51, "1"), message(52, "3")];
  expect(offsets(committedOnly(fetched, [aborted("1", 10), aborted("2", 20)]))).toEqual([52]);
});

test("aborted transactions are taken by where they begin, not in the order of their ends", () => {
  const fetched = [message(10, "1"), message(11, "2"), message(12, "2", ABORT), message(13, "1")];
  expect(offsets(committedOnly(fetched, [aborted("2", 11), aborted("1", 10)]))).toEqual([12]);
});

test("a producer's events after its abort are committed", () => {
  const fetched = [message(10, "1"), message(11, "1", ABORT), message(12, "1")];
  expect(offsets(committedOnly(fetched, [aborted("1", 10)]))).toEqual([11, 12]);
});
