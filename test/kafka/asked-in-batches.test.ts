/** Questions that travel together. */
import { expect, test } from "@jest/globals";
import { AskedInBatches } from "../../kafka/asked-in-batches.ts";

class Bed {
  readonly sent: string[] = [];
  readonly answers: (() => void)[] = [];
  failure: Error | undefined;
  readonly questions = new AskedInBatches<string, string>(
    {
      most: 3,
      keyOf: (question) => question.slice(0, 1),
      groupOf: (question) => question.split("/")[1] ?? "",
    },
    async (questions) => {
      this.sent.push(questions.join());
      await new Promise<void>((resolve) => this.answers.push(resolve));
      if (this.failure) throw this.failure;
      return (question) => `${question}!`;
    },
  );

  /** Answers the request under way, and lets the next one be sent. */
  async answer(): Promise<void> {
    this.answers.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("those of one turn travel together; what comes meanwhile goes next, so many at most, the latest too", async () => {
  const bed = new Bed();
  const first = ["a", "b"].map((one) => bed.questions.ask(one));
  await turn();
  const next = ["c", "d", "e", "f"].map((one) => bed.questions.ask(one));
  await turn();
  expect(bed.sent).toEqual(["a,b"]);
  await bed.answer();
  expect(await Promise.all(first)).toEqual(["a!", "b!"]);
  expect(bed.sent).toEqual(["a,b", "c,f,d"]);
  await bed.answer();
  await bed.answer();
  expect(await Promise.all(next)).toEqual(["c!", "d!", "e!", "f!"]);
  expect(bed.sent).toEqual(["a,b", "c,f,d", "e"]);
});

test("each group has its turn in a request: one of another is in the next, however many wait", async () => {
  const bed = new Bed();
  const all = ["a", "b", "c", "d", "e/other", "f", "g"].map((one) => bed.questions.ask(one));
  for (let i = 0; i < 3; i++) {
    await turn();
    await bed.answer();
  }
  expect(bed.sent).toEqual(["a,e/other,g", "b,f,c", "d"]);
  expect(await Promise.all(all)).toContain("e/other!");
});

test("two of one key go one after the other, and each has its own answer", async () => {
  const bed = new Bed();
  const both = ["a1", "a2", "b"].map((one) => bed.questions.ask(one));
  await turn();
  await bed.answer();
  await bed.answer();
  expect(await Promise.all(both)).toEqual(["a1!", "a2!", "b!"]);
  expect(bed.sent).toEqual(["a1,b", "a2"]);
});

test("a request that fails fails those that were in it, and no other", async () => {
  const bed = new Bed();
  const failing = ["a", "b"].map((one) => bed.questions.ask(one).catch((e: Error) => e.message));
  await turn();
  const later = bed.questions.ask("c");
  bed.failure = new Error("down");
  await bed.answer();
  expect(await Promise.all(failing)).toEqual(["down", "down"]);
  bed.failure = undefined;
  await bed.answer();
  expect(await later).toBe("c!");
});
