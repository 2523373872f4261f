/**
 * What sequencers say of themselves: each writes a record every second into the deployment's progress topic
 * (`stored.proto`: OutboxState), which is read here from half a minute ago on, and followed. A report that is old is
 * worth nothing.
 *
 * Of several sequencers of an Outbox the one at work is believed, then one that has stopped, waits, or stands by.
 */
import type { Log, Position, TopicInfo } from "../../kafka/log.ts";
import type { Clock } from "../../process/clock.ts";
import { OutboxState } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { done, failed, Refused } from "../kafka-outcome.ts";
import { readToEnd } from "../read-to-end.ts";

/** A sequencer that died in a transaction holds back what others write for 10 s. */
export const SILENT_MS = 15_000;
/** So far back it begins: what is older is old already. */
const BACK_MS = 30_000;
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
  #topic: TopicInfo | undefined;
  #position: Position = { offset: 0, epoch: -1 };
  #readMs: number | undefined;
  #trouble = "it was not asked yet";

  /** @param changed told when a sequencer of the Outbox `<namespace>/<name>` does something else than before. */
  constructor(
    log: Log,
    deploymentId: string,
    world: { clock: Clock; now: () => number },
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
    const isDeaf = this.#readMs === undefined || nowMs - this.#readMs > SILENT_MS;
    if (isDeaf) return this.#trouble;
    const fresh = [...(this.#heard.get(outbox)?.values() ?? [])]
      .filter(({ atMs }) => nowMs - atMs <= SILENT_MS)
      .map(({ report }) => report);
    return fresh.toSorted((a, b) => rankOf(a) - rankOf(b))[0];
  }

  /** Reads what was written since. Never rejects: `of` says what is in the way. */
  async refresh(): Promise<void> {
    try {
      await this.#read();
      this.#readMs = this.#clock.now();
    } catch (error) {
      // Another by now, or damaged: it is begun anew.
      if (!(error instanceof Refused)) this.#topic = undefined;
      this.#trouble = (error as Error).message;
    }
    this.#forgetOld();
  }

  async #read(): Promise<void> {
    this.#topic ??= await this.#open();
    // The first sequencer makes it.
    if (!this.#topic) return;
    await readToEnd(this.#log, this.#topic, this.#position, {
      take: ({ key, value }) => {
        const name = key?.toString() ?? "";
        if (name.startsWith(PREFIX) && value) this.#hear(name.slice(PREFIX.length), value);
      },
      moved: (to) => {
        this.#position = to;
      },
    });
  }

  async #open(): Promise<TopicInfo | undefined> {
    const found = done(await this.#log.admin.describeTopics([this.#topicName]));
    const topic = found.get(this.#topicName);
    if (!topic) return undefined;
    const begin = await this.#log.offset(topic, 0, { timeMs: this.#now() - BACK_MS });
    if (begin.kind === "gone") return undefined;
    if (begin.kind !== "offset") throw failed(begin);
    this.#position = { offset: begin.offset, epoch: -1 };
    return topic;
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
