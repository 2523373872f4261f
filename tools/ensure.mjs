// Runs a TypeScript file under Node 24, installing the project's packages first when they are missing or
// older than the lock file. Needs only a system Node 20 with npm: `node tools/ensure.mjs <file> [args]`.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "..");
const stamp = join(root, "node_modules", ".installed");
const lock = createHash("sha256")
  .update(readFileSync(join(root, "package-lock.json")))
  .digest("hex");

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
  console.log("Installing packages (npm ci)");
  const made = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (made.status !== 0) {
    console.error(
      "npm ci failed. Connect to the npm registry once, then run the same command again.",
    );
    process.exit(1);
  }
  writeFileSync(stamp, lock);
}

const own = join(root, "node_modules", ".bin", "node");
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const fits = major > 24 || (major === 24 && minor >= 9);
const node = existsSync(own) ? own : fits ? process.execPath : undefined;
if (node === undefined) {
  console.error(
    `Node 24.9 or newer is needed on ${process.platform}-${process.arch}; this is ${process.version}.`,
  );
  process.exit(1);
}
const child = spawnSync(node, ["--disable-warning=ExperimentalWarning", ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});
process.exit(child.status ?? 1);
