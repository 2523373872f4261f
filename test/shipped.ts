/** The server as the image ships it: the bundle, and the Dockerfile's way to start it. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");

/** How to start a server: arguments of Node before the server's own, from this folder. */
export interface Launch {
  readonly folder: string;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Where a run of all tests has its bundle. */
const BUNDLED = "THROUGHLINE_TEST_BUNDLE";

/** Makes the bundle of a run. @returns what its tests need in their environment to start servers from it. */
export function bundled(folder: string): Record<string, string> {
  bundle(folder);
  return { [BUNDLED]: folder };
}

const SOURCES = {
  operator: "operator/main.ts",
  injector: "operator/inject/main.ts",
  sequencer: "sequencer/main.ts",
};

/** What Node is to run, from the root: of this run's bundle; of the source where a file runs alone. */
export function programOf(name: keyof typeof SOURCES): string {
  const made = process.env[BUNDLED];
  return made === undefined ? SOURCES[name] : join(made, "dist", `${name}.mjs`);
}

/** The server of this run's bundle; a file that runs alone makes it in `<folder>/dist`. */
export function shippedOnce(folder: string): Launch {
  const made = process.env[BUNDLED];
  return made === undefined ? shipped(folder) : launchFrom(made);
}

/** Bundles `root` into `<folder>/dist`, and reads flags of Node and environment from its Dockerfile. */
export function shipped(folder: string, root = ROOT): Launch {
  bundle(folder, root);
  return launchFrom(folder, root);
}

function bundle(folder: string, root = ROOT): void {
  execFileSync(process.execPath, [join(root, "tools/build.ts"), join(folder, "dist")], {
    stdio: "pipe",
  });
}

function launchFrom(folder: string, root = ROOT): Launch {
  const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
  const entry = /^ENTRYPOINT (.*)$/m.exec(dockerfile)?.[1] ?? "[]";
  const set = [...dockerfile.matchAll(/^ENV (\w+)=(\S+)$/gm)];
  return {
    folder,
    command: (JSON.parse(entry) as string[]).slice(1),
    environment: Object.fromEntries(set.map(([, name, value]) => [name, value])),
  };
}
