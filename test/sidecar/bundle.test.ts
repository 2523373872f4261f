/** The bundle that the image ships runs with nothing beside it. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";

const ROOT = join(import.meta.dirname, "../..");

let folder: string;
let server: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "throughline-bundle-"));
  // The Kafka client looks for its WebAssembly in a folder of this name.
  const dist = join(folder, "dist");
  execFileSync(process.execPath, [join(ROOT, "tools/build.ts"), dist], { stdio: "pipe" });
  server = join(dist, "sidecar.mjs");
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args: string[]) =>
  spawnSync(process.execPath, [server, ...args], { cwd: folder, encoding: "utf8" });

test("it tells its flags", () => {
  const { status, stdout, stderr } = run("--help");
  expect([status, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("--kafka");
});

test("it says what is missing, and ends with code 1", () => {
  const { status, stderr } = run();
  expect(status).toBe(1);
  expect(stderr).toMatch(/^throughline: --kafka/m);
});
