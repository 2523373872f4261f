/**
 * Control groups of a run: what a kubelet has on a machine that no namespace keeps to itself. All are below one
 * that has the run's name, in each hierarchy; whoever finds a name whose process is gone removes them.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../story/waits.ts";

const PREFIX = "throughline-pods-";
const REMOVE_MS = 10_000;
/** Of the run that this process is. */
export const RUN_NAME = `${PREFIX}${process.pid}`;

export function makeCgroups(name: string): void {
  for (const hierarchy of hierarchies()) mkdirSync(join(hierarchy, name), { recursive: true });
}

/** Resolves when they are gone; the kernel needs a moment after the end of the last process. @throws */
export async function removeCgroups(name: string): Promise<void> {
  const deadlineMs = performance.now() + REMOVE_MS;
  await until(async () => {
    const left = hierarchies().map((hierarchy) => join(hierarchy, name));
    const kept = left.filter((group) => !isRemoved(group));
    if (kept.length > 0 && performance.now() > deadlineMs)
      throw new Error(`These control groups cannot be removed: ${kept.join(", ")}`);
    return kept.length === 0;
  });
}

/** What earlier runs left that were killed: control groups, and logs. */
export function removeOrphanedCgroups(): void {
  for (const place of [...hierarchies(), tmpdir()]) {
    for (const name of readdirSync(place)) {
      const pid = Number(name.slice(PREFIX.length));
      if (!name.startsWith(PREFIX) || isOurs(pid)) continue;
      if (place === tmpdir()) rmSync(join(place, name), { recursive: true, force: true });
      else isRemoved(join(place, name));
    }
  }
}

/** Of both versions, as this machine has them mounted. */
function hierarchies(): string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  return mounts.flatMap((line) => {
    const [, place = "", type = ""] = line.split(" ");
    return type.startsWith("cgroup") ? [place] : [];
  });
}

/** Deepest first. A group with processes stays. */
function isRemoved(group: string): boolean {
  try {
    for (const entry of readdirSync(group, { withFileTypes: true }))
      if (entry.isDirectory()) isRemoved(join(group, entry.name));
    rmdirSync(group);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** Not just any process that has the number now. */
function isOurs(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("test/pods/run.ts");
  } catch {
    return false;
  }
}
