/**
 * `npm run test:all`: every tier of tests, one after the other; ends with one line that adds all up. One that fails
 * keeps no other from running, and one that is skipped is told again at the end; with `CI=true` a skip is a failure.
 * Nothing is left running, also when it is stopped (SIGINT, SIGTERM, SIGHUP).
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
/** Each far above what it takes. */
const LIMITS = { runMs: 30 * 60_000, graceMs: 10_000 };
const BUILD_LIMIT_MS = 45 * 60_000;

const TIERS = [
  { name: "npm test", program: "test/run.ts", needsBuild: false },
  { name: "npm run test:cluster", program: "test/cluster/run.ts", needsBuild: true },
  { name: "npm run test:pods", program: "test/pods/run.ts", needsBuild: true },
];

const building = build();
let running: Tier | undefined;
let stopping: Promise<unknown> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => {
    console.log(`# Stopping (${signal})`);
    stopping ??= Promise.all([building.stop(), running?.stop()]);
  });

/** Builds in the background. `over` resolves when nothing of it runs: why it failed, the tier says that needs it. */
function build(): { readonly over: Promise<unknown>; stop(): Promise<unknown> } {
  const mark = `THROUGHLINE_BUILD=${randomUUID()}`;
  const [name = "", value] = mark.split("=");
  const program = [process.execPath, ...process.execArgv, "test/cluster/build.ts"];
  const child = spawn("nice", ["-n", "19", ...program], {
    ...{ cwd: ROOT, env: { ...process.env, [name]: value } },
    ...{ stdio: ["ignore", "inherit", "inherit"], timeout: BUILD_LIMIT_MS, killSignal: "SIGKILL" },
  });
  const stop = (): Promise<unknown> => endMarked(mark, 0);
  return { over: once(child, "exit").catch(console.error).then(stop), stop };
}

let [passed, failed] = [0, 0];
const lines: string[] = [];
for (const { name, program, needsBuild } of TIERS) {
  if (needsBuild) await building.over;
  if (stopping) break;
  console.log(`# ${name}`);
  const begunMs = performance.now();
  running = startTier(name, [...process.execArgv, program], LIMITS);
  const counts = await running.counts;
  const seconds = Math.round((performance.now() - begunMs) / 1000);
  const { skipped = "" } = counts;
  const words = `# ${name}: ${counts.passed} passed, ${counts.failed} failed, ${seconds} s`;
  lines.push(skipped === "" ? words : `${words}; SKIPPED: ${skipped}`);
  console.log(words);
  passed += counts.passed;
  failed += counts.failed;
}
await stopping;
if (lines.length < TIERS.length) failed++;
for (const line of lines) console.log(line);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
