// Runs a TypeScript file under Node 24, installing the project's packages first when they are missing or
// older than the lock file. Needs only a system Node 20 with npm: `node tools/ensure.mjs <file> [args]`.
// Signals are passed on, and the program ends when this process or the npm that runs it is gone.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const root = join(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "..");
const stamp = join(root, "node_modules", ".installed");
const lock = createHash("sha256")
  .update(readFileSync(join(root, "package-lock.json")))
  .digest("hex");

/** Resolves with the exit code, as a shell has it. */
function run(command, args, stdio) {
  const child = spawn(command, args, { cwd: root, stdio });
  const pass = (signal) => child.kill(signal);
  for (const signal of SIGNALS) process.on(signal, pass);
  const parent = process.ppid;
  // npm killed outright passes nothing on; only its death can be seen.
  const orphaned = setInterval(() => {
    if (process.env.npm_lifecycle_event && process.ppid !== parent) child.kill("SIGTERM");
  }, 500);
  return new Promise((resolve) => {
    child.once("error", () => resolve(127));
    child.once("exit", (code, signal) => {
      clearInterval(orphaned);
      for (const name of SIGNALS) process.removeListener(name, pass);
      resolve(code ?? 128 + (constants.signals[signal] ?? 0));
    });
  });
}

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
  console.log("Installing packages (npm ci); the first time takes up to a minute");
  const begun = Date.now();
  const progress = setInterval(() => {
    console.log(`  still installing, ${Math.round((Date.now() - begun) / 1000)} s`);
  }, 10_000);
  const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
  const code = await run("npm", args, ["ignore", "inherit", "inherit"]);
  clearInterval(progress);
  if (code !== 0) {
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
// kafkajs, the demo's witness, asks for timeouts below 0: Node 24 warns of each.
const quiet = ["ExperimentalWarning", "TimeoutNegativeWarning"].map(
  (w) => `--disable-warning=${w}`,
);
process.exit(
  await run(node, [...quiet, ...process.argv.slice(2)], ["inherit", "inherit", "inherit", "ipc"]),
);
