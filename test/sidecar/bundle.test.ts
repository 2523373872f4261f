/** The bundles that the image ships run with nothing beside them. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { freePorts } from "../../local/free-ports.ts";
import { ServerReflectionClient } from "../../proto/gen/grpc/reflection/v1/reflection.ts";
import { shipped } from "../shipped.ts";

const PROGRAMS = ["sidecar", "operator", "injector", "sequencer"];

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "throughline-bundle-"));
  expect(shipped(folder).command.at(-1)).toBe("dist/sidecar.mjs");
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bundleOf = (program: string): string => join(folder, `dist/${program}.mjs`);

const run = (program: string, ...args: string[]) =>
  spawnSync(process.execPath, [bundleOf(program), ...args], { cwd: folder, encoding: "utf8" });

test.each(PROGRAMS)("%s tells its flags", (program) => {
  const { status, stdout, stderr } = run(program, "--help");
  expect([status, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("--kafka");
});

test.each(PROGRAMS)("%s says what is missing, and ends with code 1", (program) => {
  const { status, stderr } = run(program);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^throughline: --kafka/m);
});

test("the operator stands by, and looks for its API server", async () => {
  const [port] = await freePorts(1);
  const kubeconfig = join(folder, "kubeconfig");
  const cluster = { name: "c", cluster: { server: `https://127.0.0.1:${port}` } };
  const context = { name: "c", context: { cluster: "c", user: "u" } };
  const [clusters, users, contexts] = [[cluster], [{ name: "u", user: {} }], [context]];
  writeFileSync(kubeconfig, JSON.stringify({ "current-context": "c", clusters, users, contexts }));
  const child = spawn(process.execPath, [
    ...[bundleOf("operator"), "--kafka", "127.0.0.1:1", "--deployment-id", "d"],
    ...["--kubeconfig", kubeconfig],
  ]);
  try {
    await new Promise<void>((resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`ended with code ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (/Topics cannot be listed: .*ECONNREFUSED/.test(line)) resolve();
      });
    });
  } finally {
    child.removeAllListeners("exit");
    child.kill("SIGKILL");
  }
});

test("the server serves its metrics and reflection, which are loaded late", async () => {
  const child = spawn(process.execPath, [
    ...[bundleOf("sidecar"), "--kafka", "127.0.0.1:1", "--deployment-id", "d", "--namespace", "n"],
    ...["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--shape", "gateway"],
  ]);
  try {
    const said = await new Promise<{ listen: string; health: string }>((resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`ended with code ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line.includes('"serving"')) resolve(JSON.parse(line));
      });
    });
    const page = await fetch(`http://${said.health}/metrics`);
    expect([page.status, await page.text()]).toEqual([
      200,
      expect.stringContaining("throughline_streams 0"),
    ]);
    const reflection = new ServerReflectionClient(said.listen, credentials.createInsecure());
    const call = reflection.serverReflectionInfo();
    const answered = new Promise<string>((resolve, reject) => {
      call.once("error", reject);
      call.once("data", ({ messageResponse }) => resolve(messageResponse.$case));
    });
    call.write({ host: "", messageRequest: { $case: "listServices", value: "" } });
    expect(await answered).toBe("listServicesResponse");
    reflection.close();
  } finally {
    child.removeAllListeners("exit");
    child.kill("SIGKILL");
  }
});
