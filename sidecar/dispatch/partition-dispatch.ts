/**
 * One partition on one server: its main dispatcher, the catch-up dispatchers that run now, and every
 * client's cursor. Clients pull; dispatchers only say that there is something to pull.
 *
 * Invariants:
 * - D1 `pull` decides and does in one go, without an await: a cursor joins the main dispatcher only where
 *   `rules.mayMerge` says that the tail goes on at its next offset. What reaches the main dispatcher
 *   before that is queued in its tail (P2).
 * - D2 A cursor only takes events at or past its own `next`, so a merge cannot repeat (P3).
 * - D3 A position is served from memory only when the log there agrees with its epoch; otherwise Kafka
 *   judges it, by a fetch at exactly that position.
 */
import type { FetchOutcome, LogLoss, Position, TopicInfo } from "../../kafka/log.ts";
import { CatchUpDispatcher, type CatchUpEvents } from "./catch-up-dispatcher.ts";
import type { Cursor, Selection } from "./cursor.ts";
import type { DispatchHost } from "./dispatch-host.ts";
import { MainDispatcher } from "./main-dispatcher.ts";
import { passes, planCatchUp } from "./plan-catch-up.ts";
import type { Segment } from "./segment.ts";
import type { Tail } from "./tail.ts";

/** Events of one segment for one client. */
export interface Slice extends Selection {
  readonly segment: Segment;
  /** Where the client stood before it. */
  readonly before: Position;
}

export class PartitionDispatch {
  readonly main: MainDispatcher;
  readonly cursors = new Set<Cursor>();
  readonly #host: DispatchHost;
  readonly #topic: TopicInfo;
  readonly #partition: number;
  readonly #catchUps = new Set<CatchUpDispatcher>();
  readonly #live = new Set<Cursor>();
  readonly #waiting = new Set<Cursor>();
  #planned = false;
  #cancelAgain: (() => void) | undefined;
  #closed = false;

  /** @param ended the topic's data is gone, or cannot be read (new streams begin anew). */
  constructor(
    host: DispatchHost,
    topic: TopicInfo,
    partition: number,
    ended: { gone(): void; unreadable(): void },
  ) {
    this.#host = host;
    this.#topic = topic;
    this.#partition = partition;
    this.main = new MainDispatcher(host, topic, partition, {
      appended: (events, bytes) => this.#appended(events, bytes),
      restarted: () => this.#restarted(),
      gone: () => ended.gone(),
      failed: (reason) => {
        ended.unreadable();
        for (const cursor of [...this.cursors]) cursor.owner.failed(cursor, reason);
      },
    });
  }

  add(cursor: Cursor): void {
    this.cursors.add(cursor);
  }

  remove(cursor: Cursor): void {
    this.#leave(cursor);
    cursor.place = { at: "closed" };
    this.cursors.delete(cursor);
  }

  /** The next events for a client; undefined when it must wait: `owner.ready` is called then. */
  pull(cursor: Cursor): Slice | undefined {
    for (;;) {
      const tail = this.#source(cursor);
      if (tail === undefined) {
        this.#want(cursor);
        return undefined;
      }
      if (cursor.next >= tail.next) {
        if (tail === this.main.tail) this.#goLive(cursor);
        else if (cursor.place.at === "member") {
          if (this.#handOver(cursor, cursor.place.of)) continue;
          cursor.place.of.poke();
        }
        return undefined;
      }
      const segment = tail.at(cursor.next) as Segment;
      const first = this.#host.rules.firstWanted(segment, cursor.next);
      const before = { offset: cursor.next, epoch: cursor.epoch };
      const selection = cursor.owner.select(cursor, segment, first);
      if (selection.end >= segment.count) cursor.moveTo(segment.next, segment.epoch);
      else if (selection.end > first) {
        const last = segment.base + (segment.deltas[selection.end - 1] as number);
        cursor.moveTo(last + 1, segment.epoch);
      } else return undefined;
      if (selection.count === 0) continue;
      if (cursor.place.at === "member") cursor.place.of.delivered(selection.bytes);
      return { ...selection, segment, before };
    }
  }

  close(): void {
    this.#closed = true;
    this.#cancelAgain?.();
    this.#host.budget.forget(this.#planAgain);
    this.main.close();
    for (const catchUp of [...this.#catchUps]) this.#end(catchUp);
  }

  #source(cursor: Cursor): Tail | undefined {
    const { rules } = this.#host;
    const main = this.main.tail;
    if (main === undefined) return undefined;
    if (cursor.onMain) {
      if (!rules.fellBehind(main, cursor.next)) return main;
      cursor.onMain = false;
      this.#host.metrics.demotions();
    }
    if (rules.mayMerge(main, cursor.next) && this.#trusts(cursor, main)) {
      if (cursor.place.at === "member") this.#host.metrics.merges();
      this.#leave(cursor);
      cursor.onMain = true;
      return main;
    }
    if (cursor.place.at !== "member") return undefined;
    const { tail } = cursor.place.of;
    if (cursor.next < tail.from) {
      this.#leave(cursor);
      return undefined;
    }
    if (this.#trusts(cursor, tail)) return tail;
    // The shared run has another history at this position: only Kafka can judge it.
    cursor.alone = true;
    this.#leave(cursor);
    return undefined;
  }

  #trusts(cursor: Cursor, tail: Tail): boolean {
    if (!cursor.verified) cursor.verified = tail.agrees(cursor.next, cursor.epoch);
    return cursor.verified;
  }

  #goLive(cursor: Cursor): void {
    if (cursor.place.at !== "live") this.#leave(cursor);
    this.#live.add(cursor);
    cursor.place = { at: "live" };
  }

  #want(cursor: Cursor): void {
    if (cursor.place.at === "waiting" || cursor.place.at === "member") return;
    this.#leave(cursor);
    this.#wait(cursor, this.#host.clock.now());
    this.#planSoon();
  }

  #wait(cursor: Cursor, sinceMs: number): void {
    cursor.place = { at: "waiting", sinceMs };
    this.#waiting.add(cursor);
  }

  #leave(cursor: Cursor): void {
    const { place } = cursor;
    cursor.place = { at: "idle" };
    if (place.at === "live") this.#live.delete(cursor);
    else if (place.at === "waiting") this.#waiting.delete(cursor);
    else if (place.at === "member") {
      place.of.leave(cursor);
      if (place.of.members.size === 0) this.#end(place.of);
      else place.of.poke();
    }
  }

  #appended(events: number, bytes: number): void {
    if (this.#catchUps.size > 0) this.#host.metrics.eventsQueuedDuringCatchUp(events);
    if (this.#live.size > 0) {
      if (events > 0) this.#host.turns.live(bytes);
      const live = [...this.#live];
      this.#live.clear();
      for (const cursor of live) {
        if (cursor.place.at === "live") cursor.place = { at: "idle" };
        cursor.owner.ready(cursor);
      }
    }
    for (const catchUp of [...this.#catchUps]) {
      // It may have read past the main dispatcher: who waited at its end is met only now.
      for (const member of [...catchUp.members]) {
        if (member.next >= catchUp.tail.next) member.owner.ready(member);
      }
      catchUp.poke();
    }
    if (this.#waiting.size > 0) this.#planSoon();
  }

  #restarted(): void {
    for (const cursor of [...this.cursors]) {
      cursor.onMain = false;
      cursor.verified = cursor.epoch === -1;
      if (cursor.place.at === "live") this.#leave(cursor);
      cursor.owner.ready(cursor);
    }
  }

  /** Events mark, one loop acts: a herd that comes in one burst is planned as one. */
  #planSoon(): void {
    if (this.#planned || this.#closed) return;
    this.#planned = true;
    this.#host.clock.setTimer(2, () => {
      this.#planned = false;
      if (!this.#closed && this.main.tail) this.#plan(this.main.tail);
      this.#host.budget.pass();
    });
  }

  readonly #planAgain = (): void => this.#planSoon();

  #plan(main: Tail): void {
    const { clock, limits, pace, budget, load, rules } = this.#host;
    const { shareDistanceBytes } = limits;
    // Asked in time, so that it is known when it matters.
    void load.saturated;
    const waiting = [...this.#waiting].sort((a, b) => a.next - b.next);
    const isHerd = waiting.length > budget.dispatchers;
    const situation = { nowMs: clock.now(), main, shareDistanceBytes, isHerd, pace };
    let wantsPlace = false;
    for (const cursor of waiting) {
      if (cursor.place.at !== "waiting") continue;
      // Since it began to wait its frames filled up elsewhere: a place would be read into for nobody.
      if (!cursor.owner.canTake()) {
        this.#stalled(cursor);
        continue;
      }
      if (rules.mayMerge(main, cursor.next) && this.#trusts(cursor, main)) {
        this.#leave(cursor);
        cursor.owner.ready(cursor);
        continue;
      }
      const plan = planCatchUp(cursor, this.#catchUps, situation);
      if (plan.act === "join") this.#share(cursor, plan.sweep);
      else if (plan.act === "start" && !this.#startInsteadOf(cursor, plan.insteadOf)) {
        wantsPlace = true;
      }
    }
    if (!wantsPlace) budget.forget(this.#planAgain);
    // What it waits for may turn out slow.
    this.#cancelAgain?.();
    if (this.#waiting.size > 0) this.#cancelAgain = clock.setTimer(pace.againMs, this.#planAgain);
  }

  /** Who waited for this dispatcher and is now in its window. One that waits is looked at, no more. */
  #pickUp(catchUp: CatchUpDispatcher): void {
    const met: Cursor[] = [];
    for (const cursor of this.#waiting) {
      if (!cursor.alone && passes(catchUp.tail, cursor.next)) met.push(cursor);
    }
    for (const cursor of met) {
      if (cursor.place.at !== "waiting") continue;
      if (cursor.owner.canTake()) this.#share(cursor, catchUp);
      else this.#stalled(cursor);
    }
  }

  /**
   * The dispatcher that has in its window what this one would read next. One whose members are slow is
   * passed by (P6), and who was told apart from shared runs is kept apart (D3).
   */
  #ahead(of: CatchUpDispatcher): CatchUpDispatcher | undefined {
    const { next } = of.tail;
    for (const other of this.#catchUps) {
      if (other === of || next < other.tail.from || next >= other.tail.next) continue;
      if (!other.atFullSpeed(this.#host.clock.now())) continue;
      for (const member of of.members) if (member.alone) return undefined;
      return other;
    }
    return undefined;
  }

  #servedElsewhere(dispatcher: CatchUpDispatcher): boolean {
    if (this.#ahead(dispatcher) === undefined) return false;
    for (const member of [...dispatcher.members]) {
      if (member.next >= dispatcher.tail.next) member.owner.ready(member);
    }
    return true;
  }

  #handOver(cursor: Cursor, from: CatchUpDispatcher): boolean {
    const ahead = cursor.next === from.tail.next ? this.#ahead(from) : undefined;
    if (ahead === undefined) return false;
    // Not by `#leave`: that one would hand over the next, and so on, a thousand calls deep.
    from.leave(cursor);
    this.#join(cursor, ahead);
    if (from.members.size === 0) this.#end(from);
    return true;
  }

  #share(cursor: Cursor, catchUp: CatchUpDispatcher): void {
    this.#host.metrics.catchUpShared();
    this.#join(cursor, catchUp);
    cursor.owner.ready(cursor);
  }

  #join(cursor: Cursor, catchUp: CatchUpDispatcher): void {
    this.#waiting.delete(cursor);
    cursor.place = { at: "member", of: catchUp };
    catchUp.enter(cursor);
  }

  /** @returns false when there is no place: it is planned again when one is free. */
  #startInsteadOf(cursor: Cursor, insteadOf: readonly CatchUpDispatcher[]): boolean {
    const { clock, budget } = this.#host;
    let sinceMs = cursor.place.at === "waiting" ? cursor.place.sinceMs : clock.now();
    // Who disagreed with a shared run has its own, and nobody is put off for long: both are never young.
    if (cursor.alone) sinceMs = Number.NEGATIVE_INFINITY;
    const [first] = insteadOf;
    // Its place is taken over: freed, it would go to whoever waits for one.
    if (first === undefined && !budget.take(this.#planAgain)) return false;
    for (const young of insteadOf) {
      sinceMs = Math.min(sinceMs, young.sinceMs);
      for (const member of [...young.members]) {
        young.leave(member);
        this.#wait(member, young.sinceMs);
      }
      this.#close(young);
      if (young !== first) budget.give();
    }
    this.#start(cursor, sinceMs);
    return true;
  }

  #start(cursor: Cursor, sinceMs: number): void {
    const events: CatchUpEvents = {
      advanced: (dispatcher) => {
        if (this.#waiting.size > 0) this.#pickUp(dispatcher);
        for (const member of [...dispatcher.members]) {
          if (member.next < dispatcher.tail.next) member.owner.ready(member);
          else if (!member.verified && this.#trusts(member, dispatcher.tail)) {
            member.owner.ready(member);
          }
        }
      },
      refused: (dispatcher, outcome) => this.#refused(dispatcher, outcome),
      servedElsewhere: (dispatcher) => this.#servedElsewhere(dispatcher),
      left: (_dispatcher, member) => this.#stalled(member),
    };
    const reader = this.#host.log.openReader(this.#topic, this.#partition);
    const start = { offset: cursor.next, epoch: cursor.epoch, sinceMs };
    const stopBefore = (): number => this.main.tail?.from ?? Number.POSITIVE_INFINITY;
    const catchUp = new CatchUpDispatcher(this.#host, reader, start, stopBefore, events);
    this.#catchUps.add(catchUp);
    this.#host.metrics.catchUpsMade();
    this.#join(cursor, catchUp);
    catchUp.poke();
  }

  /** A member that takes nothing leaves with its position; it comes back when it pulls again. */
  #stalled(cursor: Cursor): void {
    this.#leave(cursor);
    cursor.owner.ready(cursor);
  }

  #refused(
    dispatcher: CatchUpDispatcher,
    outcome: Exclude<FetchOutcome, { kind: "fetched" }>,
  ): void {
    const at = dispatcher.tail.next;
    if (outcome.kind === "unavailable") {
      this.#host.reads.readFailed(this.main.read, outcome.reason);
      this.#host.clock.setTimer(100, () => dispatcher.poke());
      return;
    }
    const forAll =
      outcome.kind === "unauthorised" || (outcome.kind === "loss" && outcome.loss.kind === "gone");
    for (const cursor of [...dispatcher.members]) {
      // Only who stands where Kafka refused is judged by it; the others ask from where they stand.
      if (!forAll && cursor.next !== at) this.#stalled(cursor);
      else if (outcome.kind === "loss") this.#lose(cursor, outcome.loss);
      else cursor.owner.failed(cursor, outcome);
    }
  }

  #lose(cursor: Cursor, loss: LogLoss): void {
    this.#leave(cursor);
    cursor.alone = false;
    cursor.owner.lost(cursor, loss);
  }

  #end(catchUp: CatchUpDispatcher): void {
    if (catchUp.closed) return;
    this.#close(catchUp);
    this.#host.budget.give();
    if (this.#waiting.size > 0) this.#planSoon();
  }

  #close(catchUp: CatchUpDispatcher): void {
    catchUp.close();
    this.#catchUps.delete(catchUp);
  }
}
