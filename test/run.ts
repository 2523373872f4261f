/**
 * `npm test`: house checks, then every test; ends with one line that adds all up. Exit code 0 only when
 * nothing failed and something ran.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { environment } from "../local/config.ts";
import { leanPackages } from "../tools/lean-packages.ts";
import { runJest } from "./jest-run.ts";
import { kafkaClasses } from "./kafka-classes.ts";
import { ALL_FILES_KAFKA, startKafkaOfAllFiles } from "./kafka-of-all-files.ts";
import { bundled } from "./shipped.ts";

const root = join(import.meta.dirname, "..");
const bin = (name: string): string => join(root, "node_modules", ".bin", name);
const scratch = mkdtempSync(join(tmpdir(), "throughline-test-"));
let passed = 0;
let failed = 0;

async function step(name: string, command: string, args: readonly string[]): Promise<void> {
  console.log(`# ${name}`);
  const [code] = await once(spawn(command, args, { cwd: root, stdio: "inherit" }), "close");
  if (code === 0) passed++;
  else failed++;
}

try {
  // Most of what a short-lived program takes is the compiling of what it loads.
  process.env["NODE_COMPILE_CACHE"] = join(scratch, "compiled");
  Object.assign(process.env, await kafkaClasses());
  // It starts beside the house checks.
  const starting = startKafkaOfAllFiles(join(scratch, "kafka"));
  starting.catch(() => {});
  await step("types", bin("tsc"), ["--noEmit"]);
  await step("lint and format", bin("biome"), ["ci", "."]);
  await step("lint of the contract", bin("buf"), ["lint"]);
  await step("no breaking change of the contract", bin("buf"), [
    "breaking",
    "--against",
    "proto/baseline.binpb",
  ]);

  console.log("# tests");
  const kafka = await starting;
  process.env[ALL_FILES_KAFKA] = kafka.brokers.join();
  Object.assign(process.env, bundled(scratch));
  // Each file loads its modules anew: of large packages that takes longer than most tests.
  const lean = Object.entries(await leanPackages(join(scratch, "packages")));
  const instead = Object.fromEntries(lean.map(([name, file]) => [`^${name}$`, file]));
  // They wait more than they work: five at once keep two cores busy.
  const tests = runJest([
    ...["--maxWorkers=5", "--moduleNameMapper", JSON.stringify(instead)],
    ...process.argv.slice(2),
  ]);
  passed += tests.passed;
  failed += tests.failed;
  await kafka.stop();
} catch (error) {
  console.error(error);
  failed++;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
// A failure is read with it.
const cached = existsSync(environment.cache) ? readdirSync(environment.cache) : ["nothing"];
console.log(
  `# on ${availableParallelism()} cores, load ${loadavg().map(Math.round).join(" ")}, uid ${process.getuid?.()}; cached: ${cached.join(", ")}`,
);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
