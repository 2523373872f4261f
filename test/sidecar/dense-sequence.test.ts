/** P8 as the client library proves it: by default a jump in the order values ends the stream. */
import { expect, test } from "@jest/globals";
import { DenseSequence } from "../../client/dense-sequence.ts";
import type { ThroughlineError } from "../../client/errors.ts";
import type { Event } from "../../proto/gen/throughline/v1/throughline.ts";

function outcome(...batches: (number[] | "restart")[]): string {
  const dense = new DenseSequence();
  try {
    for (const batch of batches) {
      if (batch === "restart") dense.restart();
      else dense.check(batch.map((n) => ({ sequence: BigInt(n), offset: 7n }) as Event));
    }
  } catch (error) {
    return (error as ThroughlineError).message;
  }
  return "dense";
}

test("numbers that rise by one are dense, from wherever they begin", () => {
  expect(outcome([5, 6], [7], [8, 9])).toBe("dense");
});

test("a jump is told with what is missing, within a batch and between two", () => {
  expect(outcome([5, 7])).toMatch(/SEQUENCE_GAP: Event 5 is followed by 7 at offset 7/);
  expect(outcome([5], [6, 9])).toMatch(/Event 6 is followed by 9/);
});

test("a redelivery goes back and is dense from there", () => {
  expect(outcome([5, 6, 7], [6, 7, 8])).toBe("dense");
  expect(outcome([5, 6, 7], [6, 8])).toMatch(/Event 6 is followed by 8/);
});

test("after a loss that was told, or a seek, it begins anew", () => {
  expect(outcome([5], "restart", [90, 91])).toBe("dense");
});

test("events without a number are passed over", () => {
  expect(outcome([0, 0], [1], [0], [2])).toBe("dense");
});
