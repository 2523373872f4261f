/** The sequencer and a server as the image ships them, as processes whose costs can be read. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Bed, Shop } from "../../sequencer/bed.ts";
import { DEPLOYMENT, NAMESPACE } from "../../sequencer/bed.ts";
import type { Launch } from "../../shipped.ts";

const TICKS_PER_SECOND = 100;

class Program {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #look: () => void = () => {};

  constructor(launch: Launch, name: string, flags: readonly string[]) {
    const command = launch.command.map((part) => part.replace("sidecar.mjs", `${name}.mjs`));
    this.#child = spawn(process.execPath, [...command, ...flags], {
      ...{ cwd: launch.folder, env: { ...process.env, ...launch.environment } },
      stdio: ["ignore", "pipe", "inherit"],
    });
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

export function sequencer(launch: Launch, bed: Bed, { database, outbox }: Shop): Program {
  const { user, host, port, database: name } = database;
  return new Program(launch, "sequencer", [
    ...["--database", `postgres://${user}@${host}:${port}/${name}`, "--outbox", outbox],
    ...["--kafka", bed.brokers.join(","), "--deployment-id", DEPLOYMENT, "--namespace", NAMESPACE],
  ]);
}

export function server(launch: Launch, bed: Bed): Program {
  return new Program(launch, "sidecar", [
    ...["--kafka", bed.brokers.join(","), "--deployment-id", DEPLOYMENT, "--namespace", NAMESPACE],
    ...["--listen", "127.0.0.1:0", "--shape", "gateway"],
  ]);
}
