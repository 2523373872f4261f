/** What is spoilt in a clean run, for each class in the stamps, in the log and at a subscriber. */
import type { Class } from "./anomaly.ts";
import type { Mutable } from "./generated-evidence.ts";

type Spoil = (run: Mutable) => void;
type Events = Mutable["watched"][number]["events"];
type Stamp = Mutable["word"][number]["stamps"][number];

function seen(run: Mutable, by: string): Events {
  const found = run.watched.find((one) => one.by === by);
  if (!found) throw new Error(`nobody is ${by}`);
  return found.events;
}

function nth<T>(of: readonly T[], index: number): T {
  const found = of.at(index);
  if (found === undefined) throw new Error(`there is no number ${index}`);
  return found;
}

function copied<T>(of: readonly T[], index: number, but: Partial<T> = {}): T {
  return { ...nth(of, index), ...but };
}

/** Two of one topic, stamped together. */
function pair(run: Mutable): [Stamp, Stamp] {
  const topics = new Map(
    run.word.flatMap(({ events }) => events.map((one) => [one.id, one.topic])),
  );
  for (const { stamps, slotBegins } of run.word) {
    const [first, ...others] = stamps;
    if (!first || slotBegins !== undefined) continue;
    const topic = topics.get(first.eventId);
    const second = others.find(({ eventId }) => topics.get(eventId) === topic);
    if (second) return [first, second];
  }
  throw new Error("no two stamps of one topic");
}

/** Named after the class that must be found, and where it is. */
export const MUTATIONS: Readonly<Record<string, readonly [Class, Spoil]>> = {
  "missing: never stamped": [
    "missing",
    (run) => run.word.findLast(({ stamps }) => stamps.length > 0)?.stamps.pop(),
  ],
  "missing: parked": [
    "missing",
    (run) => {
      const event = run.word.findLast(({ events }) => events.length > 0)?.events[0];
      nth(run.word, -1).parked.push(event?.id ?? 0n);
    },
  ],
  "missing: in the log": ["missing", (run) => seen(run, "log").splice(7, 1)],
  "missing: at a subscriber": ["missing", (run) => seen(run, "subscriber").pop()],
  "late: at a subscriber, in calm": [
    "late",
    (run) => {
      for (const event of seen(run, "subscriber")) event.atMs += 20_000;
    },
  ],
  "repeated: in the log": ["repeated", (run) => seen(run, "log").push(copied(seen(run, "log"), 3))],
  "repeated: at a subscriber": [
    "repeated",
    (run) => seen(run, "subscriber").splice(9, 0, copied(seen(run, "subscriber"), 8)),
  ],
  "repeated: stamped again": [
    "repeated",
    (run) => nth(run.word, -1).stamps.push(copied(pair(run), 0)),
  ],
  "renumbered: stamped again": [
    "renumbered",
    (run) => nth(run.word, -1).stamps.push(copied(pair(run), 0, { sequence: 999 })),
  ],
  "renumbered: the stamp was changed": [
    "renumbered",
    (run) => nth(run.word, -1).changed.push(copied(pair(run), 0, { sequence: 999 })),
  ],
  "renumbered: in the log": [
    "renumbered",
    (run) => {
      nth(seen(run, "log"), 4).sequence = 99;
    },
  ],
  "phantom: in the log": [
    "phantom",
    (run) => seen(run, "log").push(copied(seen(run, "log"), 0, { content: "undone|key|made" })),
  ],
  "phantom: stamped": [
    "phantom",
    (run) => nth(run.word, -1).stamps.push(copied(pair(run), 0, { eventId: 9999n })),
  ],
  "disordered: two of one topic stamped the other way round": [
    "disordered",
    (run) => {
      const [first, second] = pair(run);
      [first.eventId, second.eventId] = [second.eventId, first.eventId];
    },
  ],
  "disordered: what a new slot found, by commit": [
    "disordered",
    (run) => {
      const made = run.word.find(({ slotBegins }) => slotBegins !== undefined);
      const ids = made?.stamps.map(({ eventId }) => eventId).reverse() ?? [];
      for (const [i, eventId] of ids.entries()) nth(made?.stamps ?? [], i).eventId = eventId;
    },
  ],
  "disordered: in the log": [
    "disordered",
    (run) => {
      const events = seen(run, "log");
      events.splice(5, 2, nth(events, 6), nth(events, 5));
    },
  ],
  "gap: a number left out": [
    "gap",
    (run) => {
      pair(run)[0].sequence += 1000;
    },
  ],
  "differs: the commit of another": [
    "differs",
    (run) => {
      pair(run)[0].commitId += 1000n;
    },
  ],
  "differs: SQL shows another number": [
    "differs",
    (run) => {
      nth(run.shown, 3).sequence++;
    },
  ],
  "differs: SQL does not show it": ["differs", (run) => run.shown.shift()],
  "differs: the log has another commit": [
    "differs",
    (run) => {
      nth(seen(run, "log"), 2).commitId++;
    },
  ],
  "open: it went on": [
    "open",
    (run) => {
      nth(run.deeds, 1).stop = { wanted: "SlotMissing", said: "" };
    },
  ],
  "open: it stopped, and nothing was done": [
    "open",
    (run) => {
      nth(run.stops, 0).atMs = 2200;
    },
  ],
  "open: it stopped with another reason too": [
    "open",
    (run) => run.stops.push(copied(run.stops, 0, { reason: "StampsChanged" })),
  ],
  "crash: a sequencer": [
    "crash",
    (run) => run.crashes.push({ name: "sequencer-1", atMs: 1, said: ["exit code 2"] } as never),
  ],
  "crash: a subscriber": [
    "crash",
    (run) => run.ends.push({ by: "subscriber", atMs: 1, said: "SEQUENCE_GAP" }),
  ],
};
