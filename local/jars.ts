/** Jars of a Maven repository, by fixed coordinates and checksums, in a folder of the cache outside the checkout. */
import { join } from "node:path";
import { fetchFile, isPresent, makeCacheFolder, type Need, type PinnedFile } from "./fetch-file.ts";

const PARALLEL = 6;

export interface Jars {
  /** As progress names them. */
  readonly what: string;
  readonly folder: string;
  readonly files: readonly PinnedFile[];
  readonly need: Need;
}

/** Each whole or not at all. @throws with the next step when they cannot be had. */
export async function ensureJars(
  { what, folder, files, need }: Jars,
  repository: string,
  onProgress: (line: string) => void,
): Promise<void> {
  makeCacheFolder(folder);
  const missing = files.filter((jar) => !isPresent(join(folder, nameOf(jar.path))));
  if (missing.length === 0) return;
  onProgress(`Fetching ${what}: ${missing.length} of ${files.length} jars`);
  let done = 0;
  const next = [...missing];
  // The first that cannot be had ends the others.
  const failed = new AbortController();
  const work = async (): Promise<void> => {
    for (let jar = next.shift(); jar && !failed.signal.aborted; jar = next.shift()) {
      const target = join(folder, nameOf(jar.path));
      try {
        await fetchFile(repository, jar, target, need, failed.signal);
      } catch (error) {
        failed.abort();
        throw error;
      }
      done++;
      if (done % 10 === 0 || done === missing.length)
        onProgress(`  ${done} of ${missing.length} jars`);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
