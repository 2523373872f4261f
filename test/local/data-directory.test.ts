import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { claimDirectory } from "../../local/data-directory.ts";

let scratch: string;
let directory: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "throughline-claim-"));
  directory = join(scratch, "data");
});

afterEach(() => rmSync(scratch, { recursive: true, force: true }));

test("a directory in use is refused by the process that has it, and free when that lets go", async () => {
  const release = await claimDirectory(directory, 0, () => {});
  await expect(claimDirectory(directory, 0, () => {})).rejects.toThrow(
    `${directory} is in use by process ${process.pid}; end that one, or use another data directory.`,
  );
  release();
  (await claimDirectory(directory, 0, () => {}))();
});

test("who waits says for whom, and goes on when the directory is free", async () => {
  const release = await claimDirectory(directory, 0, () => {});
  const waitedFor: string[] = [];
  const next = await claimDirectory(directory, 60_000, (holder) => {
    waitedFor.push(holder);
    release();
  });
  expect(waitedFor).toEqual([`process ${process.pid}`]);
  next();
});

test("another directory is nobody's business", async () => {
  const one = await claimDirectory(directory, 0, () => {});
  const two = await claimDirectory(`${directory}2`, 0, () => {});
  one();
  two();
});
