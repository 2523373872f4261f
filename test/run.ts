/**
 * `npm test`: house checks, then every test; ends with one line that adds all up. Exit code 0 only when
 * nothing failed and something ran.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runJest } from "./jest-run.ts";
import { kafkaClasses } from "./kafka-classes.ts";
import { bundled } from "./shipped.ts";

const root = join(import.meta.dirname, "..");
const bin = (name: string): string => join(root, "node_modules", ".bin", name);
const scratch = mkdtempSync(join(tmpdir(), "throughline-test-"));
let passed = 0;
let failed = 0;

function step(name: string, command: string, args: readonly string[]): void {
  console.log(`# ${name}`);
  const ran = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (ran.status === 0) passed++;
  else failed++;
}

try {
  step("types", bin("tsc"), ["--noEmit"]);
  step("lint and format", bin("biome"), ["ci", "."]);
  step("lint of the contract", bin("buf"), ["lint"]);
  step("no breaking change of the contract", bin("buf"), [
    "breaking",
    "--against",
    "proto/baseline.binpb",
  ]);

  console.log("# tests");
  // They wait more than they work: three at once keep two cores busy.
  const tests = runJest(["--maxWorkers=3", ...process.argv.slice(2)], {
    ...(await kafkaClasses()),
    ...bundled(scratch),
  });
  passed += tests.passed;
  failed += tests.failed;
} catch (error) {
  console.error(error);
  failed++;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
