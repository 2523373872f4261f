/** Jest as a part of a larger run: its counts, as it reports them itself. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");

export interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** Nothing that ran is a failure. @throws when Jest reports nothing. */
export function runJest(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Counts {
  const scratch = mkdtempSync(join(tmpdir(), "throughline-jest-"));
  const report = join(scratch, "report.json");
  try {
    spawnSync(
      process.execPath,
      [
        ...["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"],
        ...[join(ROOT, "node_modules/jest/bin/jest.js"), "--testTimeout=120000", "--forceExit"],
        ...["--json", `--outputFile=${report}`, ...args],
      ],
      {
        ...{ cwd: ROOT, env: { ...process.env, ...environment } },
        stdio: ["ignore", "ignore", "inherit"],
      },
    );
    const result = JSON.parse(readFileSync(report, "utf8")) as {
      numPassedTests: number;
      numFailedTests: number;
      numRuntimeErrorTestSuites: number;
    };
    const passed = result.numPassedTests;
    // A suite that cannot even start has no failed test of its own.
    const failed = result.numFailedTests + result.numRuntimeErrorTestSuites;
    return { passed, failed: passed + failed === 0 ? 1 : failed };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
