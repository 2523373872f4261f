/**
 * A small world and histories in which everything went right, for the tests of the judge: a Topic of two
 * partitions with sparse offsets, another whose beginning is deleted under its clients, and clients of every
 * kind. Each test breaks one thing in it.
 */
import { encodeToken } from "../../../sidecar/token.ts";
import { contentOf, type History, type Line, type Role, type What } from "../history.ts";
import { type Admission, admits } from "./admission.ts";
import { type Incarnation, PartitionLog, type World } from "./world.ts";

const EVENTS = 240;
const EVERY_MS = 25;
const FROM_MS = 1000;
export const ORDERS = "a".repeat(32);
const TRIMMED = "b".repeat(32);
/** Below this offset the first partition of the second Topic is deleted, at this time. */
const TRIM = { below: 50, fromMs: 2400, toMs: 2450 };
export const END_MS = FROM_MS + EVENTS * EVERY_MS + 2000;

export interface Mutable<W = World> {
  world: W;
  histories: { name: string; lines: Line[] }[];
}

export function token(topic: string, topicId: string, next: readonly number[]): string {
  const identity = { deploymentId: "check", topic: `shop/${topic}`, topicId };
  const positions = next.map((offset) => ({ offset, epoch: 0 }));
  return encodeToken(identity, positions).toString("base64");
}

/** Writes one client's lines as a right server would have it. */
class Teller {
  readonly lines: Line[] = [];
  readonly #of: Incarnation;
  readonly #admission: Admission | undefined;
  readonly #role: Role;
  cursor: number[];
  at = FROM_MS;

  constructor(of: Incarnation, role: Role = "raw", admission?: Admission) {
    this.#of = of;
    this.#role = role;
    this.#admission = admission;
    this.cursor = of.partitions.map(() => 0);
    this.say({ kind: "client", role, topic: of.topic, pid: 1 });
  }

  get token(): string {
    return token(this.#of.topic, this.#of.id, this.cursor);
  }

  say(what: What): this {
    this.lines.push({ at: this.at, ...what });
    return this;
  }

  opens(
    at: number,
    more: Partial<Extract<What, { kind: "open" }>> = {},
    opened: Partial<Extract<What, { kind: "opened" }>> = {},
  ): this {
    this.at = at;
    const { topic } = this.#of;
    const start = this.lines.some(({ kind }) => kind === "batch")
      ? { token: this.token }
      : "earliest";
    const admission = this.#admission;
    this.say({ kind: "open", topic, server: "a", start, recovery: 0, admission, ...more });
    this.at += 10;
    const partitions = this.cursor.length;
    const { token } = this;
    return this.say({ kind: "opened", token, partitions, generation: 0, stored: "", ...opened });
  }

  /** Takes whatever is in the log by then, in batches of up to five, with heartbeats. */
  takes(
    untilMs: number,
    session?: { saved: string; acks: boolean; marked?: boolean },
    only?: readonly number[],
  ): this {
    for (; this.at < untilMs; this.at += 250) {
      for (const [partition, log] of this.#of.partitions.entries()) {
        if (only && !only.includes(partition)) continue;
        const end = log.seenMs.filter((seen) => seen <= this.at).length;
        while (log.from(this.cursor[partition] ?? 0) < end)
          this.#batch(partition, log, end, session);
      }
      const saved = session?.saved ?? "";
      const { token } = this;
      this.say({ kind: "heartbeat", token, lag: 0, waits: 0, saved });
      if (session?.acks) session.saved = this.token;
    }
    return this;
  }

  #batch(
    partition: number,
    log: PartitionLog,
    end: number,
    session?: { acks: boolean; marked?: boolean },
  ) {
    const from = log.from(this.cursor[partition] ?? 0);
    const to = Math.min(end, from + 5);
    const index = Array.from({ length: to - from }, (_, i) => from + i).filter((i) =>
      admits(this.#admission, log.contents[i] as string),
    );
    const offsets = index.map((i) => log.offsets[i] as number);
    this.cursor[partition] = (log.offsets[to - 1] as number) + 1;
    if (offsets.length === 0) return;
    const events = index.map((i) => log.contents[i] as string);
    const { token } = this;
    const marked = session?.marked ?? false;
    this.say({ kind: "batch", partition, offsets, events, token, marked });
    if (session?.acks) {
      this.say({ kind: "ack", positions: [[partition, offsets.at(-1) as number]] });
    }
  }

  ends(error = "", ours = true): this {
    return this.say({ kind: "end", error, message: error, ours });
  }

  as(name: string): { name: string; lines: Line[] } {
    return { name, lines: this.lines };
  }

  finishes(): this {
    this.takes(END_MS);
    return this.say({ kind: "finished" });
  }

  get role(): Role {
    return this.#role;
  }
}

function incarnation(
  topic: string,
  id: string,
  publisher: string,
  partitions: number,
): Incarnation {
  const logs = Array.from({ length: partitions }, () => new PartitionLog());
  for (let n = 1; n <= EVENTS; n++) {
    const partition = n % partitions;
    const log = logs[partition] as PartitionLog;
    // Every tenth offset is a transaction's marker.
    const offset = log.offsets.length + Math.floor(log.offsets.length / 9);
    const type = n % 4 < 2 ? "even" : "odd";
    const content = contentOf(`${publisher}:${n}`, `key-${n % 7}`, type);
    log.add(offset, content, FROM_MS + n * EVERY_MS);
  }
  return { topic, id, partitions: logs };
}

export function cleanRun(): Mutable {
  const orders = incarnation("orders", ORDERS, "named", 2);
  const trimmed = incarnation("trimmed", TRIMMED, "plain", 1);
  trimmed.partitions[0]?.trims.push(TRIM);
  const world = worldOf([orders, trimmed]);
  const histories: History[] = [
    new Teller(orders).opens(2500).takes(3500).ends().opens(3600).finishes().as("token"),
    new Teller(orders, "raw", { by: "type", types: ["even"] })
      .opens(2500)
      .takes(4000)
      .ends()
      .opens(4100)
      .finishes()
      .as("filtered"),
    new Teller(orders, "once").opens(1500).finishes().as("library"),
    restarted(trimmed),
    positionLost(trimmed),
    refused(orders),
    ...sessions(orders),
    ...members(orders),
    publisher(orders, "named", "named"),
    publisher(trimmed, "publisher", "plain"),
  ];
  return { world, histories: histories.map(({ name, lines }) => ({ name, lines: [...lines] })) };
}

function worldOf(incarnations: readonly Incarnation[]): World {
  const sentMs = new Map<string, number>();
  for (const { contents, seenMs } of incarnations.flatMap(({ partitions }) => partitions)) {
    for (const [i, content] of contents.entries()) sentMs.set(content, (seenMs[i] as number) - 20);
  }
  return {
    topics: new Map(incarnations.map((one) => [one.id, one])),
    deeds: [{ fault: "server-kill", target: "a", fromMs: 3450, toMs: 3550 }],
    sentMs,
    acknowledged: new Set(sentMs.keys()),
    samples: [{ atMs: 2000, server: "a", rssBytes: 100 << 20 }],
    crashes: [],
    shown: [],
    stood: [],
    moves: [],
    processes: new Map(),
    rssCapBytes: 200 << 20,
  };
}

/** Deletion passes it while it is away; it goes on at the earliest, with a notice. */
function restarted(of: Incarnation): History {
  const teller = new Teller(of).opens(1100).takes(1600).ends();
  const [from = 0] = teller.cursor;
  teller.opens(2600, { recovery: 2 });
  teller.cursor = [TRIM.below];
  const { token } = teller;
  const to = TRIM.below;
  teller.say({ kind: "notice", notice: "restarted", partition: 0, from, to, token });
  return teller.finishes().as("restarted");
}

function positionLost(of: Incarnation): History {
  const teller = new Teller(of).opens(1100).takes(1600).ends();
  return teller.opens(2600).ends("POSITION_LOST", false).as("lost");
}

function refused(of: Incarnation): History {
  const teller = new Teller(of);
  const { topic } = of;
  const start = { token: "AAAA" };
  teller.say({ kind: "open", topic, server: "a", start, broken: true, recovery: 0 });
  return teller.ends("INVALID_TOKEN", false).as("prober");
}

/** One takes the session from the other, leaves, and the first has it again. */
function sessions(of: Incarnation): History[] {
  const session = "worker";
  const named = (instance: string) => ({
    session,
    instance,
    attempt: 1,
    start: "earliest" as const,
  });
  const a = new Teller(of);
  const saved = { saved: token("orders", ORDERS, [0, 0]), acks: true };
  a.opens(1100, named("a"), { generation: 1 }).takes(2000, saved);
  const b = new Teller(of);
  b.cursor = [...a.cursor];
  b.opens(2000, named("b"), { generation: 2, stored: a.token });
  a.at += 100;
  a.say({ kind: "notice", notice: "superseded", by: "b" }).ends("SUPERSEDED", false);
  a.say({ kind: "away" });
  b.takes(3000, { ...saved, marked: true });
  b.say({ kind: "leave" }).ends();
  a.cursor = [...b.cursor];
  a.opens(3200, named("a"), { generation: 3, stored: b.token });
  a.takes(END_MS, { ...saved }).say({ kind: "finished" });
  return [a.as("session-a"), b.as("session-b")];
}

/**
 * Without the store one opens detached beside the holder, claims when the store is back, and leaves. The holder cannot
 * reach the store for longer, and hears late that it was superseded: what it delivered meanwhile is not the session's.
 */
export function detachedClaims(run: Mutable): History[] {
  const of = run.world.topics.get(ORDERS) as Incarnation;
  const named = { session: "worker", start: "earliest" as const };
  const saved = { saved: token("orders", ORDERS, [0, 0]), acks: true };
  const a = new Teller(of);
  a.opens(1100, { ...named, instance: "a", attempt: 1 }, { generation: 1 }).takes(2000, saved);
  const b = new Teller(of);
  b.cursor = [...a.cursor];
  b.opens(2000, { ...named, instance: "b", attempt: 1, start: { token: a.token } });
  b.say({ kind: "notice", notice: "unverified" });
  b.takes(2500, { ...saved, marked: true })
    .say({ kind: "leave" })
    .ends();
  a.say({ kind: "notice", notice: "unverified" }).takes(2900, { ...saved, acks: false });
  a.say({ kind: "notice", notice: "superseded", by: "b" }).ends("SUPERSEDED", false);
  b.opens(3000, { ...named, instance: "b", attempt: 2 }, { generation: 3, stored: b.token });
  b.takes(END_MS, saved).say({ kind: "finished" });
  return [a.as("session-a"), b.as("session-b")];
}

/** Never acknowledged. */
export const UNREAD = "plain:9000|key-1|odd";

/** A client has an event that came to its topic after the witness had read the last of it; then the topic was deleted. */
export function behindTheEnd(run: Mutable): void {
  const library = run.histories.find(({ name }) => name === "library")?.lines as Line[];
  const index = library.findLastIndex(({ kind }) => kind === "batch");
  const batch = library[index] as Extract<Line, { readonly kind: "batch" }>;
  const [offsets, events] = [
    [...batch.offsets, 9_999],
    [...batch.events, UNREAD],
  ];
  library[index] = { ...batch, offsets, events };
  const orders = run.world.topics.get(ORDERS) as Incarnation;
  const topics = new Map(run.world.topics).set(ORDERS, { ...orders, goneMs: END_MS });
  run.world = { ...run.world, topics, sentMs: new Map(run.world.sentMs).set(UNREAD, END_MS) };
}

/** Two members: the second gets a partition, leaves in order, and the first has both again. */
function members(of: Incarnation): History[] {
  const named = (instance: string) => ({
    ...{ session: "split", mode: "shared" as const, instance, attempt: 1 },
    start: "earliest" as const,
  });
  const stored = token("orders", ORDERS, [0, 0]);
  const ofA = { saved: stored, acks: true };
  const a = new Teller(of);
  const says = (who: Teller, notice: "assigned" | "revoked", ...partitions: number[]): Teller =>
    who.say({ kind: "notice", notice, partitions });
  a.opens(1100, named("a"), { generation: 1 });
  says(a, "assigned", 0, 1).takes(3100, ofA);
  says(a, "revoked", 1);
  const b = new Teller(of);
  const ofB = { saved: a.token, acks: true };
  b.cursor = [...a.cursor];
  b.opens(3200, named("b"), { generation: 2, stored: a.token });
  says(b, "assigned").takes(3400, ofB, []);
  says(b, "assigned", 1).takes(5900, ofB, [1]);
  b.say({ kind: "leave" }).ends();
  a.takes(6000, ofA, [0]);
  a.cursor = [a.cursor[0] as number, b.cursor[1] as number];
  says(a, "assigned", 1).takes(END_MS, ofA).say({ kind: "finished" });
  return [a.as("member-a"), b.as("member-b")];
}

function publisher(of: Incarnation, role: Role, name: string): History {
  const teller = new Teller(of, role);
  for (const [partition, log] of of.partitions.entries()) {
    for (const [i, event] of log.contents.entries()) {
      teller.at = log.seenMs[i] as number;
      const number = Number(event.split(/[:|]/)[1]);
      teller.say({ kind: "sent", events: [event], number });
      const where = [partition, log.offsets[i] as number] as const;
      teller.say({ kind: "acknowledged", event, number, where });
    }
  }
  return teller.as(name);
}
