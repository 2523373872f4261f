/** Under root the embedded PostgreSQL runs as another user, who must reach its data. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { postgresFolder } from "../../local/outbox.ts";

test("data is in the data directory, and among temporary files where root's folder is closed to others", () => {
  // Made for its owner alone.
  const home = mkdtempSync(join(tmpdir(), "throughline-home-"));
  const directory = join(home, "start");
  mkdirSync(directory);
  try {
    const isRoot = process.getuid?.() === 0;
    expect(postgresFolder(directory).startsWith(directory)).toBe(!isRoot);
    expect(postgresFolder(directory)).toBe(postgresFolder(directory));
    chmodSync(home, 0o755);
    expect(postgresFolder(directory)).toBe(join(directory, "postgres"));
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
