/** The pods tier, from inside of its namespaces (run.ts makes them): the machine, then the tests on it. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { runJest } from "../jest-run.ts";
import { makeMachine, SCRATCH } from "./machine.ts";

const [, , logs = "", ...args] = process.argv;
makeMachine();
const temporary = join(SCRATCH, "tmp");
mkdirSync(temporary);
process.env["TMPDIR"] = temporary;
const match = ["--testMatch", "**/test/pods/*.pods.ts", "--runInBand"];
const { passed, failed } = runJest([...match, ...args], { THROUGHLINE_PODS_LOGS: logs });
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
