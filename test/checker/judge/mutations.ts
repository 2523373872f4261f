/** One fault each, done to a clean run: for each class of anomaly, and for classes with more than one way. */
import type { Line, What } from "../history.ts";
import type { Class } from "./anomaly.ts";
import { behindTheEnd, END_MS, type Mutable, ORDERS, token, UNREAD } from "./generated-history.ts";
import { nextIn, positionsOf } from "./positions.ts";
import type { PartitionLog } from "./world.ts";

function linesOf(run: Mutable, name: string): Line[] {
  const lines = run.histories.find((history) => history.name === name)?.lines;
  if (!lines) throw new Error(`no client ${name}`);
  return lines;
}

type Of<Kind extends What["kind"]> = Extract<Line, { readonly kind: Kind }>;

/** Replaces the `nth` line of a kind, from the end when below 0. */
function change<Kind extends What["kind"]>(
  run: Mutable,
  name: string,
  kind: Kind,
  nth: number,
  to: (line: Of<Kind>) => Line[],
): void {
  const lines = linesOf(run, name);
  const found = lines.flatMap((line, i) => (line.kind === kind ? [i] : []));
  const index = found.at(nth) as number;
  lines.splice(index, 1, ...to(lines[index] as Of<Kind>));
}

function patch<Kind extends What["kind"]>(
  run: Mutable,
  name: string,
  kind: Kind,
  nth: number,
  to: (line: Of<Kind>) => Partial<Of<Kind>>,
): void {
  change(run, name, kind, nth, (line) => [{ ...line, ...to(line) } as Line]);
}

/** Index of the first batch after the stream's catch-up has met the live events, of partition 0. */
const LATE = -3;

/** A token some events further in partition 0, or back. */
function shifted(of: string, by: number): string {
  const positions = positionsOf(of);
  if (!positions) throw new Error("no token");
  return token("orders", ORDERS, [nextIn(positions, 0) + by, nextIn(positions, 1)]);
}

/** Without the first of a batch, which follows another of its partition. */
function withoutFirst({ offsets, events }: Of<"batch">): Partial<Of<"batch">> {
  return { offsets: offsets.slice(1), events: events.slice(1) };
}

function named(run: Mutable, partition = 0): PartitionLog {
  return run.world.topics.get(ORDERS)?.partitions[partition] as PartitionLog;
}

export const MUTATIONS: Record<Class, (run: Mutable) => void> = {
  gap: (run) => patch(run, "token", "batch", LATE, withoutFirst),
  repeat: (run) =>
    patch(run, "token", "batch", LATE, ({ offsets, events }) => ({
      offsets: [...offsets, offsets.at(-1) as number],
      events: [...events, events.at(-1) as string],
    })),
  backward: (run) =>
    patch(run, "token", "batch", 1, ({ offsets, events }) => ({
      offsets: [offsets[1] as number, offsets[0] as number, ...offsets.slice(2)],
      events: [events[1] as string, events[0] as string, ...events.slice(2)],
    })),
  resume: (run) => {
    const lines = linesOf(run, "token");
    const reopened = lines.findLastIndex(({ kind }) => kind === "opened");
    const next = lines.findIndex(({ kind }, i) => i > reopened && kind === "batch");
    const batch = lines[next] as Of<"batch">;
    lines[next] = { ...batch, ...withoutFirst(batch) };
  },
  merge: (run) => {
    // The second batch of a partition, of a catch-up that has not met the live events.
    const lines = linesOf(run, "token");
    const [, second] = lines.flatMap((line, i) =>
      line.kind === "batch" && line.partition === 0 ? [i] : [],
    );
    const batch = lines[second as number] as Of<"batch">;
    lines[second as number] = { ...batch, ...withoutFirst(batch) };
  },
  lost: (run) =>
    patch(run, "plain", "acknowledged", 5, ({ where }) => ({ where: [0, (where?.[1] ?? 0) + 1] })),
  undelivered: (run) => {
    const lines = linesOf(run, "library");
    const last = lines.findLastIndex(({ kind }) => kind === "batch");
    const { partition } = lines[last] as Of<"batch">;
    const dropped = lines.filter(
      (line, i) =>
        !(i === last && line.kind === "batch" && line.partition === partition) &&
        line.kind !== "heartbeat",
    );
    lines.splice(0, lines.length, ...withBeats(dropped));
  },
  phantom: (run) =>
    patch(run, "library", "batch", LATE, ({ offsets, events }) => ({
      offsets: [...offsets, 9_999],
      events: [...events, "aborted:1|key-1|odd"],
    })),
  disagree: (run) =>
    patch(run, "token", "batch", LATE, ({ events }) => ({
      events: ["named:7000|key-1|odd", ...events.slice(1)],
    })),
  "heartbeat-ahead": (run) => {
    const lines = linesOf(run, "token");
    const first = lines.findIndex(({ kind }) => kind === "opened");
    const { token: at } = lines[first] as Of<"opened">;
    const beat = { kind: "heartbeat", lag: 0, waits: 0, saved: "" } as const;
    lines.splice(first + 1, 0, { at: 2511, ...beat, token: shifted(at, 3) });
  },
  "silent-loss": (run) => change(run, "restarted", "notice", 0, () => []),
  "false-alarm": (run) => {
    linesOf(run, "restarted").splice(0);
    run.world.topics.get("b".repeat(32))?.partitions[0]?.trims.splice(0);
  },
  "broken-token": (run) =>
    change(run, "prober", "end", 0, (line) => {
      const opened = { token: token("orders", ORDERS, [0, 0]), partitions: 2, generation: 0 };
      return [{ at: line.at, kind: "opened", stored: "", ...opened }, line];
    }),
  "superseded-moves": (run) => {
    // What b was told to be stored is less than what a finds, by what a acknowledged meanwhile.
    const lines = linesOf(run, "session-b");
    const acks = lines.flatMap((line, i) => (line.kind === "ack" ? [i] : []));
    const last = lines.splice(acks.at(-1) as number, 1)[0] as Of<"ack">;
    const theirs = linesOf(run, "session-a");
    const superseded = theirs.findIndex(({ kind }) => kind === "notice");
    theirs.splice(superseded, 0, { ...last, at: theirs[superseded]?.at ?? 0 });
  },
  "two-streams": (run) => {
    const lines = linesOf(run, "session-a");
    const end = lines.findIndex(({ kind }) => kind === "notice");
    const beat = lines.findLast(
      ({ kind }, i) => i < end && kind === "heartbeat",
    ) as Of<"heartbeat">;
    lines.splice(end, 0, { ...beat, at: 3700 });
    for (const [i, line] of lines.entries()) {
      if (i > end && line.at < 3700) lines[i] = { ...line, at: 3710 };
    }
    run.world = { ...run.world, deeds: [] };
  },
  "two-members": (run) => {
    // The first goes on with the partition as if it had not been revoked.
    const lines = linesOf(run, "member-a");
    const notices = lines.flatMap((line, i) => (line.kind === "notice" ? [i] : []));
    const [, revoked = 0, again = 0] = notices;
    const theirs = linesOf(run, "member-b").filter(
      (line) => line.kind === "batch" && line.partition === 1,
    ) as Of<"batch">[];
    const before = lines.slice(0, revoked);
    const silent = (line: Line): Line => ("token" in line ? { ...line, token: "" } : line);
    const after = [
      ...lines.slice(revoked + 1, again),
      ...theirs.map((line) => ({ ...line, marked: true })),
    ].map(silent);
    after.sort((x, y) => x.at - y.at);
    const rest = lines.slice(again + 1);
    lines.splice(0, lines.length, ...before, ...after, ...rest);
    run.world = { ...run.world, deeds: [] };
  },
  unassigned: (run) => change(run, "member-b", "notice", 1, () => []),
  orphaned: (run) => {
    // Nobody comes for what the second one left, for long.
    const later = 9000;
    const lines = linesOf(run, "member-a");
    const again = lines.findLastIndex(({ kind }) => kind === "notice");
    const away = lines[again] as Line;
    const beats = Array.from({ length: 9 }, (_, i): Line => {
      const heard = { lag: 0, waits: 0, saved: "", token: "" };
      return { at: away.at + i * 1000, kind: "heartbeat", ...heard };
    });
    for (let i = again; i < lines.length; i++) {
      const line = lines[i] as Line;
      lines[i] = { ...line, at: line.at + later };
    }
    lines.splice(again, 0, ...beats);
    run.world = { ...run.world, deeds: [] };
  },
  "late-wins": (run) => {
    // What a opens the second time is a lower attempt than the first.
    patch(run, "session-a", "open", 0, () => ({ attempt: 2 }));
  },
  stuck: (run) => {
    const lines = linesOf(run, "prober");
    const [first] = lines;
    const heard = { token: token("orders", ORDERS, [0, 0]), lag: 0, waits: 0, saved: "" };
    const beat = { kind: "heartbeat", ...heard } as const;
    lines.splice(0, lines.length, first as Line, { at: 1000, ...beat }, { at: 9000, ...beat });
    run.world = { ...run.world, deeds: [] };
  },
  filter: (run) => {
    const wrong = 3;
    const log = named(run);
    patch(run, "filtered", "batch", 0, ({ partition, offsets, events }) => {
      const of = run.world.topics.get(ORDERS)?.partitions[partition] ?? log;
      const index = of.contents.findIndex((content, i) => i < wrong && content.endsWith("odd"));
      const all = [...offsets, of.offsets[index] as number].sort((a, b) => a - b);
      const at = all.indexOf(of.offsets[index] as number);
      return { offsets: all, events: events.toSpliced(at, 0, of.contents[index] as string) };
    });
  },
  "token-inside": (run) =>
    patch(run, "token", "batch", 0, (line) => ({ token: shifted(line.token, -1) })),
  "stored-backward": (run) =>
    patch(run, "session-b", "heartbeat", -1, () => ({ saved: token("orders", ORDERS, [0, 0]) })),
  mirror: (run) => shows(run, END_MS - 5000, { afterMs: 4500, by: -1 }),
  rss: (run) => {
    run.world = { ...run.world, rssCapBytes: 64 << 20 };
  },
  unheeded: (run) => sought(run, "seek", 4000),
  unverified: (run) => {
    patch(run, "session-b", "open", 0, () => ({ strict: true }));
    const lines = linesOf(run, "session-b");
    const at = (lines.at(-1) as Line).at;
    lines.splice(-1, 0, { at, kind: "notice", notice: "unverified" });
  },
  harm: (run) => {
    const at = comesLate(run);
    const deed = {
      fault: "client-freeze",
      target: "process 3",
      fromMs: at - 3000,
      toMs: at - 1000,
    };
    run.world = {
      ...run.world,
      deeds: [deed],
      processes: new Map([
        ["library", "process 1"],
        ["named", "process 2"],
      ]),
    };
  },
  lag: (run) => void comesLate(run),
  duplicate: (run) => {
    const log = named(run);
    const content = log.contents[2] as string;
    log.add((log.offsets.at(-1) as number) + 1, content, END_MS + 1);
    run.world = { ...run.world, acknowledged: new Set() };
  },
  crash: (run) => {
    run.world = { ...run.world, crashes: [{ server: "a", atMs: 1, said: ["exit code 2"] }] };
  },
  internal: (run) => patch(run, "lost", "end", -1, () => ({ error: "INTERNAL", message: "a bug" })),
};

/** An event, long after the last deed. @returns when it was sent */
function comesLate(run: Mutable): number {
  const later = 60_000;
  const { world } = run;
  const lines = linesOf(run, "library");
  const batch = lines.findLastIndex(({ kind }) => kind === "batch");
  const { events } = lines[batch] as Of<"batch">;
  const sentMs = new Map(world.sentMs);
  const [late = ""] = events;
  sentMs.set(late, END_MS + later);
  for (let i = batch; i < lines.length; i++) {
    lines[i] = { ...(lines[i] as Line), at: END_MS + later + 5000 };
  }
  for (const event of events.slice(1)) sentMs.set(event, END_MS + later + 4900);
  const beats = Array.from({ length: 30 }, (_, i): Line => {
    const { token: at } = lines[batch] as Of<"batch">;
    const heard = { lag: 0, waits: 0, saved: "", token: at };
    return { at: END_MS - 3000 + i * 2500, kind: "heartbeat", ...heard };
  });
  lines.splice(batch, 0, ...beats);
  run.world = { ...world, sentMs };
  return END_MS + later;
}

/** The session is moved at that time, and nobody takes notice. */
function sought(run: Mutable, kind: "seek" | "forget", fromMs: number): void {
  const to = kind === "seek" ? token("orders", ORDERS, [5, 5]) : "";
  const move = { topic: "orders", session: "worker", fromMs, toMs: fromMs + 10, isDone: true };
  run.world = { ...run.world, deeds: [], moves: [{ kind, ...move, token: to }] };
}

/** What Kafka shows of a session, each so long after one heartbeat and so far from what that said is saved. */
function shows(
  run: Mutable,
  beatMs: number,
  ...all: readonly { afterMs: number; by: number }[]
): void {
  const beat = linesOf(run, "session-a").findLast(
    (line) => line.kind === "heartbeat" && line.at < beatMs,
  ) as Of<"heartbeat">;
  const saved = positionsOf(beat.saved)?.next as number[];
  const shown = all.map(({ afterMs, by }) => ({
    ...{ topic: "orders", session: "worker", atMs: beat.at + afterMs },
    next: saved.map((at) => at + by),
  }));
  run.world = { ...run.world, deeds: [], shown };
}

/** Classes that have more than one way to come about, and the other ways. */
export const OTHERWISE: Record<string, [Class, (run: Mutable) => void]> = {
  "an event that no member of a shared session had": [
    "gap",
    (run) => {
      const lines = linesOf(run, "member-b");
      const first = lines.findIndex(({ kind }) => kind === "batch");
      const batch = lines[first] as Of<"batch">;
      lines[first] = { ...batch, ...withoutFirst(batch) };
    },
  ],
  "an event that two members had, without the mark": [
    "repeat",
    (run) => {
      const had = linesOf(run, "member-a").flatMap((line) =>
        line.kind === "batch" && line.partition === 1 && line.at < 3100 ? [line] : [],
      );
      patch(run, "member-b", "batch", 0, ({ offsets, events }) => ({
        offsets: [...had.flatMap((line) => line.offsets), ...offsets],
        events: [...had.flatMap((line) => line.events), ...events],
      }));
    },
  ],
  "an acknowledged event behind the end of a topic that is gone": [
    "phantom",
    (run) => {
      behindTheEnd(run);
      run.world = { ...run.world, acknowledged: new Set([...run.world.acknowledged, UNREAD]) };
    },
  ],
  "a position that no member acknowledged is saved": [
    "gap",
    (run) => {
      const far = [0, 1].map((p) => named(run, p).offsets.at(-1) as number);
      patch(run, "member-b", "heartbeat", -1, () => ({ saved: token("orders", ORDERS, far) }));
    },
  ],
  "a position of a shared session goes back": [
    "stored-backward",
    (run) => {
      patch(run, "member-a", "heartbeat", -1, () => ({ saved: token("orders", ORDERS, [0, 0]) }));
      run.world = { ...run.world, deeds: [] };
    },
  ],
  "a shared session that is asked for stands further back": [
    "stored-backward",
    (run) => {
      const of = { topic: "orders", session: "split" };
      const stood = [5, 3].map((next, i) => ({
        ...{ ...of, atMs: 2000 + 100 * i },
        token: token("orders", ORDERS, [next, 2]),
      }));
      run.world = { ...run.world, deeds: [], stood };
    },
  ],
  "who opens a forgotten session finds a position": [
    "unheeded",
    (run) => sought(run, "forget", 3050),
  ],
  "who has a forgotten session keeps it": ["unheeded", (run) => sought(run, "forget", 4000)],
  "group offsets are ahead": [
    "mirror",
    (run) => shows(run, END_MS - 5000, { afterMs: 1, by: 9_999 }),
  ],
  "group offsets move back": [
    "mirror",
    (run) => shows(run, END_MS, { afterMs: 1, by: 0 }, { afterMs: 5, by: -2 }),
  ],
  "the last events reach no member": [
    "undelivered",
    (run) => {
      const lines = linesOf(run, "member-a");
      const last = lines.findLastIndex(({ kind }) => kind === "batch");
      const rest = lines.splice(last).slice(1);
      lines.push(...rest.filter(({ kind }) => kind !== "heartbeat"));
    },
  ],
};

/** A heartbeat that says nothing new, so that nobody is silent. */
function withBeats(lines: readonly Line[]): Line[] {
  const all: Line[] = [];
  for (const line of lines) {
    let last = all.at(-1)?.at ?? line.at;
    for (; line.at - last > 2000; last += 2000) {
      const heard = { lag: 0, waits: 0, saved: "", token: "" };
      all.push({ at: last + 2000, kind: "heartbeat", ...heard });
    }
    all.push(line);
  }
  return all;
}
