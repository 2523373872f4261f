/**
 * `npm run test:all`: every tier of tests, one after the other; ends with one line that adds all up. One that fails
 * keeps no other from running. Nothing is left running.
 *
 * What the tiers on a cluster need built (Kubernetes, once, for minutes) is built from the beginning on, beside the
 * tests that do without, which it leaves the processor to.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { endMarked } from "./marked-processes.ts";
import { startTier, type Tier } from "./tier.ts";

const ROOT = join(import.meta.dirname, "..");
/** Far above what a tier takes. */
const LIMITS = { runMs: 30 * 60_000, graceMs: 10_000 };

const TIERS = [
  { name: "npm test", program: "test/run.ts", needsBuild: false },
  { name: "npm run test:cluster", program: "test/cluster/run.ts", needsBuild: true },
  { name: "npm run test:pods", program: "test/pods/run.ts", needsBuild: true },
];

const started = build();
let running: Tier | undefined;
let isStopped = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => {
    isStopped = true;
    void running?.stop();
    void started.stop();
  });

/** Builds in the background. `done` resolves when it is over: why it failed, the tier says that needs it. */
function build(): { readonly done: Promise<unknown>; stop(): Promise<unknown> } {
  const mark = `THROUGHLINE_BUILD=${randomUUID()}`;
  const [name = "", value] = mark.split("=");
  const program = [process.execPath, ...process.execArgv, "test/cluster/build.ts"];
  const child = spawn("nice", ["-n", "19", ...program], {
    ...{ cwd: ROOT, env: { ...process.env, [name]: value } },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return { done: once(child, "exit").catch(console.error), stop: () => endMarked(mark, 0) };
}

let [passed, failed] = [0, 0];
for (const { name, program, needsBuild } of TIERS) {
  if (needsBuild) await started.done;
  if (isStopped) break;
  console.log(`# ${name}`);
  const begunMs = performance.now();
  running = startTier(name, [...process.execArgv, program], LIMITS);
  const counts = await running.counts;
  const seconds = Math.round((performance.now() - begunMs) / 1000);
  console.log(`# ${name}: ${counts.passed} passed, ${counts.failed} failed, ${seconds} s`);
  passed += counts.passed;
  failed += counts.failed;
}
if (isStopped) failed++;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
