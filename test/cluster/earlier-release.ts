/** The programs of an earlier commit of this repository, bundled and started as that commit has it. */
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { type Launch, shipped } from "../shipped.ts";

const ROOT = join(import.meta.dirname, "../..");
const CHECKOUT_BYTES = 1 << 28;

/**
 * Puts the commit's files into the folder, and the bundle beside them. Packages are those of this checkout.
 * @throws with the next step when the commit is not here.
 */
export function earlierRelease(commit: string, folder: string): Launch {
  const files = filesOf(commit);
  mkdirSync(folder, { recursive: true });
  execFileSync("tar", ["-x", "-C", folder], { input: files });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return shipped(folder, folder);
}

function filesOf(commit: string): Buffer {
  try {
    return execFileSync("git", ["archive", commit], {
      ...{ cwd: ROOT, maxBuffer: CHECKOUT_BYTES, stdio: ["ignore", "pipe", "pipe"] },
    });
  } catch (error) {
    throw new Error(
      `The earlier release is built from commit ${commit}, which this checkout does not have (${(error as Error).message.trim()}). It needs the whole history: git fetch --unshallow.`,
    );
  }
}
