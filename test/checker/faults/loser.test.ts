/** Whose server is frozen: told from what the store answers to a join, as the store's scripts say it. */
import { expect, test } from "@jest/globals";
import { loserIn } from "./loser.ts";

/** The answer of a join, as it passes. */
function answerOf(...words: readonly string[]): string {
  const texts = ["joined", "9", "0", "topic", "5", "5", "3", ...words];
  return `*${texts.length}\r\n${texts.map((text) => `$${text.length}\r\n${text}\r\n`).join("")}`;
}

const MEMBERS = [
  ...["a1", "5000 1 7 member-1-f00 server-2"],
  ...["b2", "5000 3 -1 member-6-f01 server-1"],
  ...["c3", "5000 1 9  server-3"],
];

test("the server of the member that has what the joining one is to have", () => {
  const kept = "3 a1 a1 0 1 0 12 -1";
  const moves = "4 c3 b2 5500 1 0 40 7";
  expect(loserIn(answerOf(kept, moves, kept, ...MEMBERS), "member-6")).toBe("server-3");
});

test("nobody: nothing moves, it moves to another, or it was free", () => {
  const kept = "3 a1 a1 0 1 0 12 -1";
  const toOther = "4 c3 a1 5500 1 0 40 7";
  const given = "5 b2 b2 0 1 1 40 7";
  expect(loserIn(answerOf(kept, toOther, given, ...MEMBERS), "member-6")).toBeUndefined();
  expect(loserIn(answerOf(kept, toOther, given, ...MEMBERS), "member-1")).toBe("server-3");
});
