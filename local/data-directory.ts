/**
 * One process per data directory: two Kafkas on one data directory would destroy it. The lock is the
 * operating system's, taken by SQLite, so it is free the moment its process is gone, however it went.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

const LOOK_AGAIN_MS = 100;

/**
 * @param waitMs how long an earlier process may take to end.
 * @returns the release.
 * @throws naming the process that has it.
 */
export async function claimDirectory(
  directory: string,
  waitMs: number,
  onWait: (holder: string) => void,
): Promise<() => void> {
  // Beside the directory, so that emptying it does not take the lock away.
  const lock = `${directory}.lock`;
  const note = `${directory}.pid`;
  mkdirSync(dirname(lock), { recursive: true });
  const deadline = performance.now() + waitMs;
  for (let said = false; ; ) {
    const database = new DatabaseSync(lock);
    try {
      database.exec("BEGIN EXCLUSIVE");
      writeFileSync(note, String(process.pid));
      return () => database.close();
    } catch (error) {
      database.close();
      const { errcode } = error as { errcode?: number };
      // SQLITE_BUSY
      if (errcode !== 5) throw error;
    }
    const holder = readNote(note);
    if (performance.now() >= deadline) {
      throw new Error(
        `${directory} is in use by ${holder}; end that one, or use another data directory.`,
      );
    }
    if (!said) onWait(holder);
    said = true;
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

function readNote(note: string): string {
  try {
    return `process ${readFileSync(note, "utf8")}`;
  } catch {
    return "another process";
  }
}
