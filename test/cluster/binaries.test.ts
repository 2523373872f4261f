/** Whose programs of Kubernetes are run: those of KUBEBUILDER_ASSETS, when it has all that are asked for. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ensureBinaries } from "./binaries.ts";

const before = { ...process.env };
let assets: string;

beforeEach(() => {
  assets = mkdtempSync(join(tmpdir(), "throughline-assets-"));
  process.env["KUBEBUILDER_ASSETS"] = assets;
  // Nothing is built here.
  process.env["PATH"] = assets;
});

afterEach(() => {
  process.env = { ...before };
  rmSync(assets, { recursive: true });
});

const have = (...programs: string[]): void => {
  for (const program of programs) writeFileSync(join(assets, program), "");
};

test("a complete folder is taken as it is", async () => {
  have("this", "that");
  expect(await ensureBinaries(["this", "that"], () => {})).toBe(assets);
});

test("an incomplete one is not, and without Go the next step is told", async () => {
  have("this");
  const told: string[] = [];
  await expect(ensureBinaries(["this", "that"], (line) => told.push(line))).rejects.toThrow(
    /^Go cannot be run \(spawn go ENOENT\): install Go .* or name a folder with this in KUBEBUILDER_ASSETS/,
  );
  expect(told).toEqual([expect.stringMatching(/^Building this v[\d.]+ from source; once/)]);
});
