/**
 * `npm run test:cluster`: the operator against a real kube-apiserver and etcd with a real Kafka. Builds what
 * is missing (KUBEBUILDER_ASSETS is used when it has all). Ends with one line that adds all up.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONTROL, ensureBinaries } from "./binaries.ts";

const root = join(import.meta.dirname, "../..");
const scratch = mkdtempSync(join(tmpdir(), "throughline-test-"));
const report = join(scratch, "report.json");
let passed = 0;
let failed = 0;
try {
  await ensureBinaries(CONTROL, console.log);
  spawnSync(
    process.execPath,
    [
      ...["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"],
      ...[
        join(root, "node_modules/jest/bin/jest.js"),
        "--testMatch",
        "**/test/cluster/*.cluster.ts",
      ],
      ...["--runInBand", "--forceExit", "--json", `--outputFile=${report}`],
      ...process.argv.slice(2),
    ],
    { cwd: root, stdio: ["ignore", "ignore", "inherit"] },
  );
  const result = JSON.parse(readFileSync(report, "utf8")) as {
    numPassedTests: number;
    numFailedTests: number;
    numRuntimeErrorTestSuites: number;
  };
  passed = result.numPassedTests;
  failed = result.numFailedTests + result.numRuntimeErrorTestSuites;
} catch (error) {
  console.error((error as Error).message);
  failed++;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
if (passed === 0 && failed === 0) failed++;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
