/** What no other test starts is loaded by Node itself, which is stricter than Jest about what a package exports. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";

const root = join(import.meta.dirname, "..");
const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly scripts: Readonly<Record<string, string>>;
};
const names = Object.keys(scripts).filter((name) => /^(bench|check|demo)/.test(name));

test.each(names)("npm run %s -- --help says what it does, and does nothing", (name) => {
  const [, , program = ""] = (scripts[name] ?? "").split(" ");
  const args = ["--disable-warning=ExperimentalWarning", join(root, program), "--help"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
  expect(stdout).toContain(`npm run ${name}`);
});
