/** Generated code is what a fresh generation makes of proto/. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";

const root = join(import.meta.dirname, "..");

test("proto/gen equals a fresh generation; run npm run gen after a change of proto/", () => {
  const fresh = mkdtempSync(join(tmpdir(), "throughline-generated-"));
  try {
    execFileSync(process.execPath, [join(root, "tools/generate.ts"), fresh], { cwd: root });
    const files = (folder: string): string[] =>
      (readdirSync(join(folder, "proto/gen"), { recursive: true }) as string[])
        .filter((file) => file.endsWith(".ts"))
        .sort();
    expect(files(root)).toEqual(files(fresh));
    for (const file of files(fresh)) {
      const made = readFileSync(join(fresh, "proto/gen", file), "utf8");
      expect([file, readFileSync(join(root, "proto/gen", file), "utf8") === made]).toEqual([
        file,
        true,
      ]);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
});
