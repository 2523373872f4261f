/** What seldom happens to a sequencer, and what its operator then does: each as a whole, until it goes on. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Admin } from "kafkajs";
import { ROOT } from "../../../source-files.ts";
import { pause } from "../../clients/pace.ts";
import type { Field } from "../field.ts";
import { SELDOM } from "../field.ts";
import type { Deed, Watched } from "../judge/evidence.ts";
import { within } from "../seat.ts";
import type { WordWatch } from "../word-watch.ts";
import type { DISASTERS } from "./kinds.ts";
import { thawLate } from "./late-thaw.ts";

/** Without a target it was not to be had. */
export interface Done extends Pick<Deed, "stop" | "mayStop"> {
  readonly target: string | undefined;
}

/** Each look of a stopped sequencer comes 5 s after the one before. */
const STOPS_MS = 30_000;
const GOES_ON_MS = 40_000;
const TWO_AT_ONCE_MS = 5000;
/** What a log is older than when it is past its retention. */
const QUIET_MS = 2500;
const QUIET_WITHIN_MS = 12_000;
const run = promisify(execFile);

export interface Around {
  readonly admin: Admin;
  readonly word: WordWatch;
  readonly watched: readonly Watched[];
}

export class Disasters {
  readonly #field: Field;
  readonly #around: Around;

  constructor(field: Field, around: Around) {
    this.#field = field;
    this.#around = around;
  }

  do(
    disaster: (typeof DISASTERS)[number],
    pick: number,
    holdMs: number,
  ): Promise<Done | undefined> {
    switch (disaster) {
      case "two-relays":
        return this.#twoRelays();
      case "slot-dropped":
        return this.#slotDropped(holdMs);
      case "backup-restored":
        return this.#backupRestored(pick % 2 === 1, holdMs);
      case "standby-promoted":
        return this.#standbyPromoted();
      case "past-retention":
        return this.#pastRetention(holdMs);
      case "late-thaw":
        return thawLate(this.#field).then((target) => ({ target }));
    }
  }

  /** The lock that keeps a standby away is always free for them. */
  async #twoRelays(): Promise<Done | undefined> {
    const { database, seats } = this.#field;
    await database.ask(
      "create or replace function public.pg_try_advisory_lock(int, int) returns boolean language sql as 'select true'",
    );
    await database.ask("alter role sequencer set search_path = public, pg_catalog");
    await this.#endSessions();
    const before = seats.map(({ begun }) => begun);
    await pause(TWO_AT_ONCE_MS);
    const both = await within(TWO_AT_ONCE_MS, () =>
      seats.every(({ begun }, i) => begun > (before[i] ?? 0)),
    );
    await database.ask("alter role sequencer reset search_path");
    await this.#endSessions();
    await this.#field.isAtWork(GOES_ON_MS);
    // Each may find that the other one has stamped.
    return { target: both ? "both sequencers" : undefined, mayStop: ["StampsChanged"] };
  }

  /** By somebody who does not know what it is for; the sequencer's own command mends it. */
  async #slotDropped(holdMs: number): Promise<Done | undefined> {
    const { database, slot, flags } = this.#field;
    if (!(await this.#field.isAtWork(GOES_ON_MS))) return undefined;
    await database.dropSlot(slot);
    const stop = await this.#stops("SlotMissing");
    // What is committed now waits for the next slot.
    await pause(holdMs);
    const main = join(ROOT, "sequencer/main.ts");
    await run(process.execPath, [main, "--do", "forget-slot", ...flags]);
    await this.#field.isAtWork(GOES_ON_MS);
    return { target: "the slot", stop };
  }

  /**
   * To before what is in Kafka; apps write to it. Then the true one comes back.
   * @param anew as a standby that was late and is promoted.
   */
  async #backupRestored(anew: boolean, holdMs: number): Promise<Done | undefined> {
    const { database } = this.#field;
    const { word, watched } = this.#around;
    const copy = await database.coldCopy();
    const before = eventsOf(watched);
    const isAhead = await within(GOES_ON_MS, () => eventsOf(watched) > before + 200);
    let stop: Deed["stop"];
    await word.without(async () => {
      const putBack = await database.restore(copy, anew);
      stop = await this.#stops("OtherHistory");
      await pause(holdMs);
      await putBack();
    });
    await this.#field.isAtWork(GOES_ON_MS);
    const target = anew ? "a late standby" : "a copy";
    if (isAhead && stop) return { target, stop };
    return { target: undefined, mayStop: ["OtherHistory"] };
  }

  async #standbyPromoted(): Promise<Done | undefined> {
    const { database, slot } = this.#field;
    if (!(await this.#field.isAtWork(GOES_ON_MS))) return undefined;
    const promote = await database.makeStandby(slot);
    await this.#around.word.without(promote);
    await this.#field.isAtWork(GOES_ON_MS);
    return { target: "PostgreSQL" };
  }

  /** All of a topic is deleted; a sequencer that begins finds its log empty. */
  async #pastRetention(holdMs: number): Promise<Done | undefined> {
    const { admin, watched } = this.#around;
    const seldom = watched.filter(({ topic }) => topic === SELDOM);
    const isQuiet = (): boolean =>
      new Set(seldom.map(({ events }) => events.length)).size === 1 &&
      seldom.every(({ events }) => Date.now() - (events.at(-1)?.atMs ?? Date.now()) > QUIET_MS);
    if (!(await within(QUIET_WITHIN_MS, isQuiet))) return undefined;
    const topic = this.#field.kafkaTopic(SELDOM);
    const [end] = await admin.fetchTopicOffsets(topic);
    if (!end) return undefined;
    const { partition, high: offset } = end;
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset }] });
    const seat = this.#field.active(0);
    seat.killNow();
    await seat.ended();
    await pause(holdMs / 3);
    seat.start();
    return { target: SELDOM };
  }

  #endSessions(): Promise<unknown> {
    return this.#field.database.ask(
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'sequencer'",
    );
  }

  async #stops(wanted: string): Promise<NonNullable<Deed["stop"]>> {
    const { seats } = this.#field;
    const reasons = () => seats.map(({ standing }) => standing.reason).filter(Boolean);
    const isSaid = await within(STOPS_MS, () => reasons().includes(wanted));
    return { wanted, said: isSaid ? wanted : reasons().join(", ") };
  }
}

function eventsOf(watched: readonly Watched[]): number {
  return watched.reduce((sum, { by, events }) => sum + (by === "log" ? events.length : 0), 0);
}
