/** The sequencer and a server as the image ships them, and others, as processes whose costs can be read. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { endWithUs } from "../../../local/end-with-us.ts";
import type { Bed, Shop } from "../../sequencer/bed.ts";
import { DEPLOYMENT, NAMESPACE } from "../../sequencer/bed.ts";
import type { Launch } from "../../shipped.ts";

const TICKS_PER_SECOND = 100;

export class Program {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #look: () => void = () => {};

  constructor(
    command: string,
    args: readonly string[],
    how: { readonly cwd: string; readonly environment?: Readonly<Record<string, string>> },
  ) {
    this.#child = spawn(command, args, {
      ...{ cwd: how.cwd, env: { ...process.env, ...how.environment } },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const release = endWithUs(this.#child.pid as number);
    this.#child.once("close", release);
    const input = this.#child.stdout as NonNullable<ChildProcess["stdout"]>;
    createInterface({ input }).on("line", (line) => {
      this.#lines.push(line);
      this.#look();
    });
  }

  /** The line with these words, once it is said. */
  async said(words: string): Promise<string> {
    for (;;) {
      const found = this.#lines.find((line) => line.includes(words));
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null) throw new Error(this.#lines.join("\n"));
      await new Promise<void>((resolve) => {
        this.#look = resolve;
        this.#child.once("exit", () => resolve());
      });
    }
  }

  /** @throws when it has ended. */
  assertRuns(): void {
    if (this.#child.exitCode !== null) throw new Error("it has ended");
  }

  /** What fails meanwhile is told with this program's last words. */
  async during<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw new Error([(error as Error).message, ...this.#lines.slice(-20)].join("\n"));
    }
  }

  cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }

  peakRssMb(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "utf8");
    return (Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024) / 1e6;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill(signal);
    await ended;
  }
}

export class Sequencer extends Program {
  constructor(launch: Launch, bed: Bed, { database, outbox }: Shop) {
    const { user, host, port, database: name } = database;
    super(
      process.execPath,
      shippedAs("sequencer", launch, bed, [
        ...["--database", `postgres://${user}@${host}:${port}/${name}`, "--outbox", outbox],
        ...["--health-listen", "127.0.0.1:0"],
      ]),
      { cwd: launch.folder, environment: launch.environment },
    );
  }

  /** A figure of its metrics page; those that a label tells apart by `name{label="value"}`. */
  async figures(): Promise<(name: string) => number> {
    const { health } = JSON.parse(await this.said('"sequencing"')) as { health: string };
    const page = await (await fetch(`http://${health}/metrics`)).text();
    return (name) => {
      const line = page.split("\n").find((one) => one.startsWith(`${name} `));
      return Number(line?.slice(name.length));
    };
  }
}

export function server(launch: Launch, bed: Bed): Program {
  const flags = ["--listen", "127.0.0.1:0", "--shape", "gateway"];
  const how = { cwd: launch.folder, environment: launch.environment };
  return new Program(process.execPath, shippedAs("sidecar", launch, bed, flags), how);
}

function shippedAs(name: string, { command }: Launch, bed: Bed, flags: readonly string[]) {
  return [
    ...command.map((part) => part.replace("sidecar.mjs", `${name}.mjs`)),
    ...["--kafka", bed.brokers.join(","), "--deployment-id", DEPLOYMENT, "--namespace", NAMESPACE],
    ...flags,
  ];
}
