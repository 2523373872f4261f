/** A sequencer's place: its leg to the database, and the process that has it now. */
import { FaultProxy, type FaultProxyOptions } from "../../faults/fault-proxy.ts";
import { type SequencerProcess, startProcess } from "../../sequencer/sequencers.ts";
import { until } from "../../story/waits.ts";
import type { Crash, Stop } from "./judge/evidence.ts";
import type { SequencerOrder } from "./sequencer-process.ts";

export interface Standing {
  readonly kind: string;
  /** Why it has stopped. */
  readonly reason: string;
}

interface Line {
  readonly time?: string;
  readonly msg: string;
  readonly state?: string;
  readonly reason?: string;
}

const LOOK_MS = 50;
const STOPPED = "the sequencer has stopped";

export class Seat {
  readonly name: string;
  readonly leg: FaultProxy;
  readonly crashes: Crash[] = [];
  /** All that its processes said, one after the other. */
  readonly said: string[] = [];
  readonly #order: (seat: Seat) => SequencerOrder;
  #process: SequencerProcess | undefined;
  #isEnding = false;

  private constructor(name: string, leg: FaultProxy, order: (seat: Seat) => SequencerOrder) {
    this.name = name;
    this.leg = leg;
    this.#order = order;
  }

  static async open(
    name: string,
    options: FaultProxyOptions,
    order: (seat: Seat) => SequencerOrder,
  ): Promise<Seat> {
    return new Seat(name, await FaultProxy.listen(options), order);
  }

  start(): void {
    this.#isEnding = false;
    const process = startProcess(this.#order(this), "test/checker/sequencer/sequencer-process.ts");
    this.#process = process;
    void process.ended.then(() => {
      this.said.push(...process.lines);
      if (this.#isEnding || this.#process !== process) return;
      const { exitCode, signalCode } = process.child;
      const said = [`it ended with ${signalCode ?? exitCode}`, ...process.lines.slice(-3)];
      this.crashes.push({ name: this.name, atMs: Date.now(), said });
      this.start();
    });
  }

  /** At once; `ended` resolves when it is gone. */
  killNow(): void {
    this.#isEnding = true;
    this.#process?.child.kill("SIGKILL");
  }

  async ended(): Promise<void> {
    await this.#process?.ended;
  }

  /** What its processes said that are gone. */
  get stops(): Stop[] {
    return this.said
      .map(lineOf)
      .filter(({ msg }) => msg.startsWith(STOPPED))
      .map(({ time = "", reason = "" }) => ({
        ...{ name: this.name, atMs: Date.parse(time), reason },
      }));
  }

  freeze(): void {
    this.#process?.child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#process?.child.kill("SIGCONT");
  }

  /** How often its process has begun to send. */
  get begun(): number {
    return this.#process?.lines.filter((text) => lineOf(text).msg === "relaying").length ?? 0;
  }

  /** As it says itself. */
  get standing(): Standing {
    for (const text of this.#process?.lines.toReversed() ?? []) {
      const { msg, state, reason = "" } = lineOf(text);
      if (msg.startsWith(STOPPED)) return { kind: "failed", reason };
      if (msg === "the sequencer waits") return { kind: "waiting", reason: "" };
      if (msg === "the sequencer's state") return { kind: state ?? "", reason: "" };
    }
    return { kind: "starting", reason: "" };
  }
}

function lineOf(text: string): Line {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return { msg: text };
  }
}

/** @returns whether it came to be within that time. */
export async function within(
  ms: number,
  holds: () => boolean | Promise<boolean>,
  everyMs = LOOK_MS,
): Promise<boolean> {
  const untilMs = performance.now() + ms;
  let held = false;
  await until(async () => {
    held = await holds();
    return held || performance.now() > untilMs;
  }, everyMs);
  return held;
}
