/** A server as a process, as it would be started anywhere, and what a test may ask of it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { credentials } from "@grpc/grpc-js";
import { ThroughlineServiceClient } from "../../proto/gen/throughline/v1/throughline.ts";
import type { Launch } from "../shipped.ts";
import { until, Waits } from "./waits.ts";

interface Line {
  readonly msg?: string;
  readonly listen?: string;
  readonly health?: string;
}

export class StoryServer {
  readonly child: ChildProcess;
  readonly lines: Line[] = [];
  /** The exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>;
  address = "";
  health = "";
  readonly #waits = new Waits();
  #over = false;
  #endExpected = false;
  stderr = "";

  constructor(args: readonly string[], launch: Launch) {
    const { folder, command, environment } = launch;
    this.child = spawn(process.execPath, [...command, ...args], {
      ...{ cwd: folder, env: { ...process.env, ...environment } },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const endWithUs = (): void => void this.child.kill("SIGKILL");
    process.once("exit", endWithUs);
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on("line", (text) => {
      const line = (text.startsWith("{") ? JSON.parse(text) : { msg: text }) as Line;
      this.lines.push(line);
      if (line.msg === "serving") {
        this.address = line.listen ?? "";
        this.health = `http://${line.health}`;
      }
      this.#waits.changed();
    });
    this.ended = once(this.child, "close").then(([code]) => {
      process.removeListener("exit", endWithUs);
      this.#over = true;
      // Nobody ended it: whatever a test waits for now will not come.
      if (!this.#endExpected && code !== 0 && this.address !== "") {
        const last = JSON.stringify(this.lines.at(-1));
        console.error(`A server ended by itself with ${code}: ${last}\n${this.stderr}`);
      }
      this.#waits.changed();
      return code as number | null;
    });
  }

  said(msg: string, times = 1): Promise<void> {
    const count = (): number => this.lines.filter((line) => line.msg?.includes(msg)).length;
    return this.#waits.until(
      () => count() >= times,
      () =>
        this.#over && count() < times
          ? new Error(`the server ended without "${msg}": ${this.stderr}`)
          : undefined,
    );
  }

  async ready(): Promise<void> {
    await this.said("serving");
    await this.said("the catalog was read");
    await until(async () => (await this.isReady()).ready);
  }

  async isReady(): Promise<{ ready: boolean; why: string }> {
    const answer = await fetch(`${this.health}/readyz`);
    return { ready: answer.status === 200, why: (await answer.text()).trim() };
  }

  knows(topic: string, count = 1): Promise<void> {
    return untilKnown(this.address, topic, count);
  }

  /** A counter or gauge of /metrics. */
  async metric(name: string): Promise<number> {
    const page = await (await fetch(`${this.health}/metrics`)).text();
    const found = new RegExp(`^throughline_${name}(?:\\{[^}]*\\})? (\\S+)`, "m").exec(page);
    return Number(found?.[1] ?? Number.NaN);
  }

  signal(signal: NodeJS.Signals): void {
    this.#endExpected = true;
    this.child.kill(signal);
  }

  async kill(): Promise<void> {
    if (this.#over) return;
    this.#endExpected = true;
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** Resolves when the server at this address has read in its catalog of this topic with so many partitions. */
export async function untilKnown(address: string, topic: string, count = 1): Promise<void> {
  const stub = new ThroughlineServiceClient(address, credentials.createInsecure());
  const isIt = ({ name, partitions }: { name: string; partitions: number }): boolean =>
    name.endsWith(`/${topic}`) && partitions >= count;
  const knows = (): Promise<boolean> =>
    new Promise((resolve, reject) => {
      stub.listTopics({}, (error, { topics } = { topics: [] }) => {
        if (error) reject(error);
        else resolve(topics.some(isIt));
      });
    });
  try {
    await until(knows);
  } finally {
    stub.close();
  }
}
