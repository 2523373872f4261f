/**
 * What sequencers say of themselves: each writes a record every second into the deployment's progress topic
 * (`stored.proto`: OutboxState), which is read here from half a minute ago on. A report that is old is worth nothing.
 *
 * It is read at a pace, not followed: with each batch of a busy sequencer there is a record of its progress.
 *
 * Of several sequencers of an Outbox the one at work is believed, then one that has stopped, waits, or stands by.
 */
import type { Log, PartitionReader, Position } from "../../kafka/log.ts";
import { recordsOf } from "../../kafka/records.ts";
import type { Clock } from "../../process/clock.ts";
import { OutboxState } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { done, failed, Refused } from "../kafka-outcome.ts";

/** A sequencer that died in a transaction holds back what others write for 10 s. */
export const SILENT_MS = 15_000;
/** So far back it begins: what is older is old already. */
const BACK_MS = 30_000;
const FETCH_BYTES = 1 << 20;
const PREFIX = "state ";
const FORMAT_VERSION = 1;
const RANKS = ["retired", "running", "failed", "waiting", "starting", "standby"];

interface Heard {
  readonly report: OutboxState;
  readonly atMs: number;
}

/** Undefined: there is none of late. A string: Kafka cannot be asked, and why. */
export type Word = OutboxState | string | undefined;

export class SequencerReports {
  readonly #log: Log;
  readonly #topicName: string;
  /** Steady. */
  readonly #clock: Clock;
  /** Milliseconds since 1970. */
  readonly #now: () => number;
  readonly #changed: (outbox: string) => void;
  /** By Outbox, then by process. */
  readonly #heard = new Map<string, Map<string, Heard>>();
  #reader: PartitionReader | undefined;
  #position: Position = { offset: 0, epoch: -1 };
  /** Since when it cannot be read. */
  #trouble: { readonly why: string; readonly sinceMs: number } | undefined;

  /** @param changed told when a sequencer of the Outbox `<namespace>/<name>` does something else than before. */
  constructor(
    log: Log,
    deploymentId: string,
    world: { readonly clock: Clock; readonly now: () => number },
    changed: (outbox: string) => void,
  ) {
    this.#log = log;
    this.#topicName = `_throughline.${deploymentId}.progress`;
    this.#clock = world.clock;
    this.#now = world.now;
    this.#changed = changed;
  }

  /** @param outbox `<namespace>/<name>`. */
  of(outbox: string): Word {
    const nowMs = this.#clock.now();
    if (this.#trouble && nowMs - this.#trouble.sinceMs > SILENT_MS) return this.#trouble.why;
    const fresh = [...(this.#heard.get(outbox)?.values() ?? [])]
      .filter(({ atMs }) => nowMs - atMs <= SILENT_MS)
      .map(({ report }) => report);
    return fresh.toSorted((a, b) => rankOf(a) - rankOf(b))[0];
  }

  /** Reads what was written since. Never rejects: `of` says what is in the way. */
  async refresh(): Promise<void> {
    try {
      await this.#read();
      this.#trouble = undefined;
    } catch (error) {
      // Its topic is another by now, or damaged: it is begun anew. Of a Kafka that is away the reader comes back.
      if (!(error instanceof Refused)) this.close();
      const sinceMs = this.#trouble?.sinceMs ?? this.#clock.now();
      this.#trouble = { why: (error as Error).message, sinceMs };
    }
    this.#forgetOld();
  }

  /** What is said from now on is passed over, until the next `refresh`. */
  close(): void {
    this.#reader?.close();
    this.#reader = undefined;
  }

  async #read(): Promise<void> {
    this.#reader ??= await this.#open();
    // The first sequencer makes the topic.
    if (!this.#reader) return;
    for (;;) {
      const fetched = await this.#reader.fetch(this.#position, FETCH_BYTES, 0);
      if (fetched.kind === "loss") {
        if (fetched.loss.kind !== "before-earliest")
          throw new Error(`${this.#topicName}: ${fetched.loss.kind}`);
        this.#position = { offset: fetched.loss.earliest, epoch: -1 };
        continue;
      }
      if (fetched.kind !== "fetched") throw failed(fetched);
      const { records, next, epoch, damage } = recordsOf(fetched, this.#position.offset);
      if (damage) throw new Error(`${this.#topicName}: ${damage}`);
      for (const { key, value } of records) {
        const name = key?.toString() ?? "";
        if (name.startsWith(PREFIX) && value) this.#hear(name.slice(PREFIX.length), value);
      }
      if (next === this.#position.offset) return;
      this.#position = { offset: next, epoch: epoch >= 0 ? epoch : this.#position.epoch };
    }
  }

  async #open(): Promise<PartitionReader | undefined> {
    const found = done(await this.#log.admin.describeTopics([this.#topicName]));
    const topic = found.get(this.#topicName);
    if (!topic) return undefined;
    const begin = await this.#log.offset(topic, 0, { timeMs: this.#now() - BACK_MS });
    if (begin.kind === "gone") return undefined;
    if (begin.kind !== "offset") throw failed(begin);
    this.#position = { offset: begin.offset, epoch: -1 };
    return this.#log.openReader(topic, 0);
  }

  /** What a newer release writes, or is damaged, is as if it had not been said. */
  #hear(outbox: string, value: Buffer): void {
    let report: OutboxState | undefined;
    try {
      report = OutboxState.decode(value);
    } catch {
      return;
    }
    if (report.formatVersion !== FORMAT_VERSION) return;
    const all = this.#heard.get(outbox) ?? new Map<string, Heard>();
    this.#heard.set(outbox, all);
    const before = all.get(report.instance)?.report;
    all.set(report.instance, { report, atMs: this.#clock.now() });
    const isNews =
      before?.state !== report.state ||
      before.reason !== report.reason ||
      before.message !== report.message;
    if (isNews) this.#changed(outbox);
  }

  #forgetOld(): void {
    const nowMs = this.#clock.now();
    for (const [outbox, all] of this.#heard) {
      for (const [instance, { atMs }] of all) if (nowMs - atMs > SILENT_MS) all.delete(instance);
      if (all.size > 0) continue;
      this.#heard.delete(outbox);
      this.#changed(outbox);
    }
  }
}

function rankOf({ state }: OutboxState): number {
  const rank = RANKS.indexOf(state);
  return rank < 0 ? RANKS.length : rank;
}
