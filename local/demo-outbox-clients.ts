/** Who works with the demo's outbox: writers as processes, a subscriber, and the killer of sequencers. */
import type { ChildProcess } from "node:child_process";
import { ThroughlineClient } from "../client/client.ts";
import type { BookedEvent, SequencerKill, WriterRecord } from "./demo-outbox-report.ts";
import { ENOUGH, type WriterReport, type WriterTask } from "./demo-writer.ts";
import type { Sql } from "./postgres-client.ts";
import { endProgram, spawnProgram } from "./program-process.ts";
import type { LocalSequencer } from "./throughline.ts";

/** One writer, and what it says of itself. */
export class DemoWriter {
  readonly record: WriterRecord = {
    ...{ committed: [], undone: [], transactions: 0, rolledBack: 0, savepointsUndone: 0 },
  };
  /** Rejects with its own words when it cannot go on. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  #isFinishing = false;

  constructor(task: WriterTask) {
    const child = spawnProgram("local/demo-writer.ts", []);
    this.#child = child;
    const words: string[] = [];
    child.stderr?.on("data", (said: Buffer) => words.push(said.toString().trim()));
    child.on("message", (report: WriterReport) => this.#take(report));
    this.ended = new Promise((resolve, reject) =>
      child.once("close", (code, signal) => {
        if (code === 0 && this.#isFinishing) resolve();
        else reject(new Error(`${task.name} ended with ${signal ?? code}: ${words.join(" ")}`));
      }),
    );
    this.ended.catch(() => {});
    // The database's password is nothing for a process list.
    child.send(task);
  }

  /** Its transactions come to their ends; `ended` resolves then. */
  finish(): void {
    this.#isFinishing = true;
    this.#child.send(ENOUGH);
  }

  stop(): Promise<void> {
    return endProgram(this.#child, "SIGTERM");
  }

  #take({ committed, undone, isRolledBack, savepointsUndone }: WriterReport): void {
    const { record } = this;
    record.committed.push(...committed);
    record.undone.push(...undone);
    record.savepointsUndone += savepointsUndone;
    if (isRolledBack) record.rolledBack++;
    else record.transactions++;
  }
}

/** Writes down what it received. */
export class BookingSubscriber {
  readonly seen: BookedEvent[] = [];
  failure: Error | undefined;
  readonly #client: ThroughlineClient;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(addresses: readonly string[], topic: string) {
    this.#client = new ThroughlineClient(addresses);
    this.#running = this.#run(topic);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#client.close();
  }

  async #run(topic: string): Promise<void> {
    try {
      for await (const { events } of this.#client.subscribe({
        ...{ topic, start: { $case: "earliest", value: {} } },
        signal: this.#abort.signal,
      })) {
        const atMs = performance.now();
        for (const { sequence, commitId, payload } of events)
          this.seen.push({
            ...{ sequence: Number(sequence), commitId, value: payload?.toString() ?? "" },
            atMs,
          });
      }
    } catch (error) {
      this.failure = error as Error;
    }
  }
}

/** SIGKILL for the sequencer at work, and it comes back as the one that stands by. */
export class SequencerKiller {
  readonly kills: SequencerKill[] = [];
  readonly #sequencers: readonly LocalSequencer[];
  readonly #sql: Sql;
  readonly #say: (line: string) => void;
  readonly #left: number[];

  /** @param killsAt when so many events are committed. */
  constructor(
    sequencers: readonly LocalSequencer[],
    sql: Sql,
    killsAt: readonly number[],
    say: (line: string) => void,
  ) {
    this.#sequencers = sequencers;
    this.#sql = sql;
    this.#left = [...killsAt];
    this.#say = say;
  }

  get atWork(): LocalSequencer | undefined {
    return this.#sequencers.find(({ state }) => state === "running");
  }

  /** Nothing is left to do, and the last one killed has its successor. */
  get isDone(): boolean {
    return this.#left.length === 0 && this.atWork !== undefined;
  }

  /** One works, and every other one stands by. */
  get isReady(): boolean {
    return (
      this.atWork !== undefined &&
      this.#sequencers.every(({ state }) => state === "running" || state === "standby")
    );
  }

  async at(committed: number): Promise<void> {
    const victim = this.atWork;
    if (committed < (this.#left[0] ?? Number.POSITIVE_INFINITY) || !victim || !this.isReady) return;
    this.#left.shift();
    this.#say(`SIGKILL ${victim.name} after ${committed} committed events`);
    const atMs = performance.now();
    await victim.kill();
    // What is committed from here on comes by another sequencer.
    const { rows } = await this.#sql.query(
      "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text as lsn",
    );
    const afterCommit = BigInt(rows[0].lsn);
    this.kills.push({ ...{ sequencer: victim.name, afterEvents: committed, atMs, afterCommit } });
    await victim.start();
  }
}
