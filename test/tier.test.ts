/** What a tier of tests adds to the sum: what it says, and a failure where it does not end as it should. */
import { expect, test } from "@jest/globals";
import { startTier } from "./tier.ts";

const SAYS = "console.log('some line'); console.log('3 passed, 0 failed');";
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
  ["that hangs", NEVER, [0, 1]],
  ["that leaves a process running", `${LEAVES} ${SAYS}`, [3, 1]],
])("a tier %s", async (_, program, wanted) => {
  const limits = { runMs: program === NEVER ? 1000 : 60_000, graceMs: 1000 };
  const { passed, failed } = await startTier("a tier", ["-e", program], limits).counts;
  expect([passed, failed]).toEqual(wanted);
});
