/** The bundle that the image ships runs with nothing beside it. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ServerReflectionClient } from "../../proto/gen/grpc/reflection/v1/reflection.ts";
import { shipped } from "../shipped.ts";

let folder: string;
let server: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "throughline-bundle-"));
  server = join(folder, "dist/sidecar.mjs");
  expect(shipped(folder).command.at(-1)).toBe("dist/sidecar.mjs");
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args: string[]) =>
  spawnSync(process.execPath, [server, ...args], { cwd: folder, encoding: "utf8" });

test("it tells its flags", () => {
  const { status, stdout, stderr } = run("--help");
  expect([status, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("--kafka");
});

test("it says what is missing, and ends with code 1", () => {
  const { status, stderr } = run();
  expect(status).toBe(1);
  expect(stderr).toMatch(/^throughline: --kafka/m);
});

test("it serves its metrics and reflection, which are loaded late", async () => {
  const child = spawn(process.execPath, [
    ...[server, "--kafka", "127.0.0.1:1", "--deployment-id", "d", "--namespace", "n"],
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
