/** The README's client in Python, as a process: its stubs are generated, its packages come from PyPI. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { environment } from "../../local/config.ts";
import { Waits } from "./waits.ts";

const ROOT = join(import.meta.dirname, "../..");
const VERSION = "1.85.1";
const run = promisify(execFile);

const MAIN = `
import sys
for event in follow(sys.argv[3:], sys.argv[1], sys.argv[2]):
    print(event.payload.decode(), flush=True)
`;

/** Installs what is missing, once. @throws with the next step. */
async function packages(): Promise<string> {
  const { stdout } = await run("python3", ["--version"]).catch(() => {
    throw new Error("python3 is missing: the README's Python client cannot be shown. Install it.");
  });
  const folder = join(environment.cache, `grpcio-${VERSION}-${stdout.trim().replace(/\W+/g, "-")}`);
  if (existsSync(folder)) return folder;
  const partial = `${folder}.${process.pid}`;
  mkdirSync(environment.cache, { recursive: true });
  await run("python3", [
    ...["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", partial],
    ...[`grpcio==${VERSION}`, `grpcio-tools==${VERSION}`],
  ]);
  if (existsSync(folder)) rmSync(partial, { recursive: true });
  else renameSync(partial, folder);
  return folder;
}

/** The first block of Python in the README. */
function readmeSource(): string {
  const found = /```python\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, "README.md"), "utf8"));
  if (!found?.[1]) throw new Error("the README has no Python");
  return found[1];
}

export class PythonClient {
  /** Payloads in order. */
  readonly seen: string[] = [];
  readonly #child: ChildProcess;
  readonly #waits = new Waits();
  #stderr = "";
  #ended = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    const endWithUs = (): void => void child.kill("SIGKILL");
    process.once("exit", endWithUs);
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.seen.push(line);
      this.#waits.changed();
    });
    child.once("close", () => {
      process.removeListener("exit", endWithUs);
      this.#ended = true;
      this.#waits.changed();
    });
  }

  /** @param folder holds its stubs. */
  static async start(
    folder: string,
    topic: string,
    session: string,
    addresses: readonly string[],
  ): Promise<PythonClient> {
    const path = await packages();
    const env = { ...process.env, PYTHONPATH: `${path}:${folder}`, PYTHONDONTWRITEBYTECODE: "1" };
    mkdirSync(folder, { recursive: true });
    await run(
      "python3",
      [
        ...["-m", "grpc_tools.protoc", "-I", join(ROOT, "proto")],
        ...[`--python_out=${folder}`, `--grpc_python_out=${folder}`],
        "throughline/v1/throughline.proto",
      ],
      { env },
    );
    writeFileSync(join(folder, "follow.py"), readmeSource() + MAIN);
    const args = [join(folder, "follow.py"), topic, session, ...addresses];
    return new PythonClient(spawn("python3", args, { env, stdio: ["ignore", "pipe", "pipe"] }));
  }

  has(count: number): Promise<void> {
    return this.#waits.until(
      () => this.seen.length >= count,
      () => (this.#ended ? new Error(`it ended: ${this.#stderr}`) : undefined),
    );
  }

  /** Resolves with what it wrote to standard error. */
  async fails(): Promise<string> {
    await this.#waits.until(() => this.#ended);
    return this.#stderr;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#waits.until(() => this.#ended);
  }
}
