/** A child process that is loaded with it ends when it must, and not later than it would without. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "@jest/globals";

const LOADED = join(import.meta.dirname, "..", "..", "local", "end-with-parent.ts");

function run(program: string): ChildProcess {
  const flags = ["--disable-warning=ExperimentalWarning", "--import", LOADED, "-e", program];
  return spawn(process.execPath, flags, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
}

test("a program that has done its work ends, while its parent is there", async () => {
  expect(await once(run("0"), "exit")).toEqual([0, null]);
}, 60_000);

test("a program that goes on ends when its parent is gone", async () => {
  const child = run("setInterval(() => {}, 1000); process.send('on')");
  await once(child, "message");
  const ended = once(child, "exit");
  child.disconnect();
  expect(await ended).toEqual([0, null]);
}, 60_000);
