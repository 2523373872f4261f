import { expect, test } from "@jest/globals";
import { restarting } from "../../local/restarts.ts";

function bed(start: () => Promise<void> = async () => {}) {
  const lines: string[] = [];
  const clock = { nowMs: 0 };
  const ended = restarting(
    "Server A",
    start,
    (line) => lines.push(line),
    () => clock.nowMs,
  );
  return { lines, clock, ended };
}

test("what ends by itself is said and started again", async () => {
  const { lines, ended } = bed();
  await ended("SIGKILL");
  expect(lines).toEqual([
    "Server A ended by itself (SIGKILL); starting it again",
    "Server A is back",
  ]);
});

test("what ends a fourth time within a minute is left down, with the next step", async () => {
  let starts = 0;
  const { lines, ended } = bed(async () => void starts++);
  for (let i = 0; i < 4; i++) await ended("exit code 2");
  expect(starts).toBe(3);
  expect(lines.at(-1)).toMatch(
    /exit code 2\) for the 4th time within a minute and is left down\. End/,
  );
});

test("what ends now and then is always started again", async () => {
  let starts = 0;
  const { clock, ended } = bed(async () => void starts++);
  for (let i = 0; i < 9; i++) {
    await ended("SIGKILL");
    clock.nowMs += 30_000;
  }
  expect(starts).toBe(9);
});

test("what does not start again is said in its own words", async () => {
  const { lines, ended } = bed(async () => {
    throw new Error("The disk is full.");
  });
  await ended("SIGKILL");
  expect(lines.at(-1)).toMatch(/^Server A does not start again: The disk is full\. End this with/);
});
