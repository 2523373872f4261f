/** A transaction that is begun ahead: what its coordinator is asked, and when, in virtual time. */
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { TransactionBegin } from "../../kafka/transaction-begin.ts";
import { ANEW, type TransactionCoordinator } from "../../kafka/transaction-coordinator.ts";

const [A, B] = ["a", "b"].map((name) => ({ topic: { name }, partition: 0 })) as [Part, Part];
type Part = { topic: { name: string }; partition: number };

let asked: string[];
let refuse: Error | undefined;
let begin: TransactionBegin;

beforeEach(() => {
  jest.useFakeTimers();
  asked = [];
  refuse = undefined;
  const coordinator: Pick<TransactionCoordinator, "addPartitions" | "end"> = {
    addPartitions: async (_identity, topics) => {
      if (refuse) throw refuse;
      asked.push(`add ${topics.map(({ name, partitions }) => `${name}[${partitions}]`)}`);
    },
    end: async (_identity, how) => void asked.push(how),
  };
  begin = new TransactionBegin(coordinator as TransactionCoordinator, ANEW, () =>
    Promise.resolve(),
  );
});

afterEach(() => {
  jest.useRealTimers();
});

test("what was told ahead is not told again", async () => {
  const ahead = begin.ahead([A]);
  await jest.advanceTimersByTimeAsync(10);
  await ahead;
  await begin.begin([A, B]);
  expect(asked).toEqual(["add a[0]", "add b[0]"]);
  // It is used: it lasts.
  await jest.advanceTimersByTimeAsync(5000);
  await begin.begin([A]);
  expect(asked).toEqual(["add a[0]", "add b[0]", "add a[0]"]);
});

test("one that is not used is ended long before Kafka ends it; the next begins after that", async () => {
  void begin.ahead([A]);
  await jest.advanceTimersByTimeAsync(1000);
  expect(asked).toEqual(["add a[0]", "abort"]);
  await begin.begin([A]);
  expect(asked).toEqual(["add a[0]", "abort", "add a[0]"]);
});

test("its time of Kafka's counts from when it was begun ahead", async () => {
  const sinceMs = performance.now();
  void begin.ahead([A]);
  await jest.advanceTimersByTimeAsync(500);
  expect(begin.sinceMs).toBe(sinceMs);
  await begin.begin([A]);
  expect(begin.sinceMs).toBe(sinceMs + 500);
});

test("why it did not begin is said by the transaction that was to be in it", async () => {
  refuse = new Error("fenced");
  const ahead = begin.ahead([A]);
  await jest.advanceTimersByTimeAsync(10);
  await ahead;
  await expect(begin.begin([A])).rejects.toThrow("fenced");
});
