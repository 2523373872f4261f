/**
 * The judge of P8 (pure): the database's own word beside the stamps, the log, and what subscribers had. Nothing of
 * the product's reading of its own progress is believed.
 */
import type { Anomaly, Class } from "./anomaly.ts";
import type { Deed, Evidence, Stop } from "./evidence.ts";
import { judgeStamps } from "./stamps.ts";
import { judgeWatched } from "./watched.ts";

export interface Verdict {
  /** Committed ones. */
  readonly events: number;
  readonly transactions: number;
  readonly deliveries: number;
  /** Order values that were cleaned away. */
  readonly cleaned: number;
  readonly slots: number;
  readonly counts: ReadonlyMap<Class, number>;
  /** Of each class the first few. */
  readonly examples: readonly Anomaly[];
}

const EXAMPLES = 3;
/** Who stops says so some time after what stops it. */
const SAID_MS = 3000;

export function judge(evidence: Evidence): Verdict {
  const { word, watched, shown, deeds } = evidence;
  const numbers = judgeStamps(word, shown);
  const anomalies = [
    ...numbers.anomalies,
    ...watched.flatMap((one) => judgeWatched(one, numbers.byTopic.get(one.topic) ?? [], deeds)),
    ...open(evidence),
    ...crash(evidence),
  ];
  const counts = new Map<Class, number>();
  const examples: Anomaly[] = [];
  for (const anomaly of anomalies) {
    const before = counts.get(anomaly.class) ?? 0;
    counts.set(anomaly.class, before + 1);
    if (before < EXAMPLES) examples.push(anomaly);
  }
  return {
    events: numbers.events,
    transactions: word.filter(({ events }) => events.length > 0).length,
    deliveries: watched.reduce((sum, { events }) => sum + events.length, 0),
    cleaned: word.reduce((sum, { cleaned }) => sum + cleaned.length, 0),
    slots: word.filter(({ slotBegins }) => slotBegins !== undefined).length,
    ...{ counts, examples },
  };
}

function open({ deeds, stops }: Evidence): Anomaly[] {
  const forNothing = stops.filter((stop) => !deeds.some((deed) => explains(deed, stop)));
  const others = deeds.flatMap(({ fault, target, stop }): Anomaly[] => {
    if (!stop || stop.wanted === stop.said) return [];
    const what = `${fault}: ${stop.wanted} was to be said, it said ${stop.said || "nothing"}`;
    return [{ class: "open", where: target, what }];
  });
  return [
    ...others,
    ...forNothing.map(({ name, reason }): Anomaly => {
      return {
        class: "open",
        where: name,
        what: `it stopped with ${reason}, and nothing was wrong`,
      };
    }),
  ];
}

function explains({ fromMs, toMs, stop, mayStop = [] }: Deed, { atMs, reason }: Stop): boolean {
  if (atMs < fromMs || atMs > toMs + SAID_MS) return false;
  return stop?.wanted === reason || mayStop.includes(reason);
}

function crash({ crashes, ends }: Evidence): Anomaly[] {
  return [
    ...crashes.map(({ name, said }) => ({ where: name, what: said.join(" | ") })),
    ...ends.map(({ by, said }) => ({ where: by, what: said })),
  ].map((one) => ({ class: "crash", ...one }));
}
