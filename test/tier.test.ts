/** What a tier of tests adds to the sum: what it says, and a failure where it does not end as it should. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "@jest/globals";
import { until } from "./story/waits.ts";
import { startTier } from "./tier.ts";

const SAYS = "console.log('some line'); console.log('3 passed, 0 failed');";
const SKIPPED = "console.log('SKIPPED: It needs root.');";
const NEVER = "setInterval(() => {}, 1000);";
const LEAVES = `require("node:child_process").spawn(process.execPath, ["-e", "${NEVER}"], { detached: true, stdio: ["ignore", "inherit", "ignore"] }).unref();`;

test.each([
  ["that is well: its counts", SAYS, [3, 0]],
  ["with failures: their number", "console.log('3 passed, 2 failed'); process.exit(1);", [3, 2]],
  ["that ends otherwise than it said", `${SAYS} process.exit(1);`, [3, 1]],
  ["that crashes", "throw new Error('as it should here');", [0, 1]],
  ["that is killed in the middle", "process.kill(process.pid, 'SIGKILL');", [0, 1]],
  ["that says nothing", "", [0, 1]],
  ["in which nothing ran", "console.log('0 passed, 0 failed');", [0, 1]],
  ["that was skipped, and says why", `${SKIPPED} console.log('0 passed, 0 failed');`, [0, 0]],
  [
    "that was skipped where that is a failure",
    `${SKIPPED} console.log('0 passed, 1 failed'); process.exit(1);`,
    [0, 1],
  ],
  ["that was skipped and crashed", `${SKIPPED} throw new Error('as it should here');`, [0, 1]],
  ["that hangs", NEVER, [0, 1]],
  ["that leaves a process running", `${LEAVES} ${SAYS}`, [3, 1]],
])("a tier %s", async (_, program, wanted) => {
  const limits = { runMs: program === NEVER ? 1000 : 60_000, graceMs: 1000 };
  const { passed, failed } = await startTier("a tier", ["-e", program], limits).counts;
  expect([passed, failed]).toEqual(wanted);
});

test("a tier that is skipped hands on why", async () => {
  const program = `${SKIPPED} console.log('0 passed, 0 failed');`;
  const limits = { runMs: 60_000, graceMs: 1000 };
  expect((await startTier("a tier", ["-e", program], limits).counts).skipped).toBe(
    "It needs root.",
  );
});

test("a tier that is stopped ends at once with what it started, and has failed", async () => {
  const file = join(mkdtempSync(join(tmpdir(), "throughline-tier-")), "pid");
  const tell = `require("node:fs").writeFileSync(${JSON.stringify(file)}, String(left.pid));`;
  const program = `const left = ${LEAVES.replace(".unref()", "")} ${tell} ${NEVER}`;
  const tier = startTier("a tier", ["-e", program], { runMs: 600_000, graceMs: 600_000 });
  await until(async () => existsSync(file) && readFileSync(file, "utf8") !== "");
  await tier.stop();
  expect((await tier.counts).failed).toBe(1);
  expect(commandOf(readFileSync(file, "utf8"))).toBe("");
  rmSync(dirname(file), { recursive: true });
});

/** Nothing when it has ended, also while nobody has asked how. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
