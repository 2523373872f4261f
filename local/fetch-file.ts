/**
 * One file of a package repository, checked by its checksum. It lands whole or not at all, so a broken
 * download goes on where it stopped and two starts at once do no harm.
 */
import { createHash } from "node:crypto";
import { mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";

const ATTEMPTS = 3;
const ATTEMPT_MS = 120_000;

export interface PinnedFile {
  /** Below the repository. */
  readonly path: string;
  readonly sha256: string;
}

/** Ends the sentence when it cannot be had. */
export interface Need {
  readonly for: string;
  /** The variable that names a mirror of the repository. */
  readonly mirror: string;
  /** What else would do. */
  readonly instead: string;
}

export async function fetchFile(
  repository: string,
  { path, sha256 }: PinnedFile,
  target: string,
  need: Need,
  stop = new AbortController().signal,
): Promise<void> {
  const url = `${repository}/${path}`;
  let last: unknown;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      const response = await fetch(url, {
        signal: AbortSignal.any([stop, AbortSignal.timeout(ATTEMPT_MS)]),
      });
      if (!response.ok) throw new Error(`HTTP status ${response.status}`);
      const bytes = Buffer.from(await response.arrayBuffer());
      const found = createHash("sha256").update(bytes).digest("hex");
      if (found !== sha256) throw new Error(`checksum is ${found}, expected ${sha256}`);
      placeWhole(target, bytes);
      return;
    } catch (error) {
      last = error;
      if (stop.aborted) break;
    }
  }
  const cause = (last as { cause?: Error }).cause?.message ?? (last as Error).message;
  throw new Error(
    `Cannot fetch ${url} for ${need.for}: ${cause}. Connect to the network once, or name a ` +
      `mirror in ${need.mirror}, or ${need.instead}.`,
  );
}

/** @throws with the next step */
export function makeCacheFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new Error(
      `The cache ${folder} cannot be made: ${(error as Error).message}. Name another in XDG_CACHE_HOME.`,
    );
  }
}

export function placeWhole(target: string, bytes: Buffer, mode = 0o644): void {
  const part = `${target}.${process.pid}.part`;
  writeFileSync(part, bytes, { mode });
  renameSync(part, target);
}

export function isPresent(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
