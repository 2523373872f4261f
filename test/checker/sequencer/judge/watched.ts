/** Judges what one saw of a topic, in the log or as a subscriber (pure), against the numbers in the database. */
import type { Anomaly, Class } from "./anomaly.ts";
import type { Deed, Watched } from "./evidence.ts";
import type { Numbered } from "./stamps.ts";

/** What a takeover of a frozen sequencer may take, on a machine that is busy. */
const PATIENCE_MS = 15_000;
/** Who only stands by may be late himself. */
const WITNESS = "log";

export function judgeWatched(
  { by, topic, events }: Watched,
  numbered: readonly Numbered[],
  deeds: readonly Deed[],
): Anomaly[] {
  const anomalies: Anomaly[] = [];
  const wrong = (name: Class, what: string): void => {
    anomalies.push({ class: name, where: `${by}, ${topic}`, what });
  };
  const byContent = new Map(numbered.map((one) => [one.content, one]));
  const missing = new Map(byContent);
  const calms = calmBetween(deeds);
  let last = 0;
  for (const { sequence, commitId, content, atMs } of events) {
    const wanted = byContent.get(content);
    const what = `number ${sequence} (${content})`;
    if (!wanted) {
      wrong("phantom", what);
      continue;
    }
    if (!missing.delete(content)) {
      wrong("repeated", what);
      continue;
    }
    if (sequence !== wanted.sequence) wrong("renumbered", `${what} is ${wanted.sequence} in SQL`);
    if (commitId !== wanted.commitId) wrong("differs", `${what} has commit ${commitId}`);
    if (wanted.sequence < last) wrong("disordered", `${what} came after ${last}`);
    last = Math.max(last, wanted.sequence);
    const calmMs = by === WITNESS ? 0 : calms(wanted.committedMs, atMs);
    if (calmMs > PATIENCE_MS) wrong("late", `${what} after ${Math.round(calmMs)} ms of calm`);
  }
  for (const { sequence, content } of missing.values())
    wrong("missing", `number ${sequence} (${content})`);
  return anomalies;
}

/** @returns the longest time between two moments in which nothing was being done to anything. */
function calmBetween(deeds: readonly Deed[]): (fromMs: number, toMs: number) => number {
  const inOrder = deeds.toSorted((a, b) => a.fromMs - b.fromMs);
  return (fromMs, toMs) => {
    if (toMs - fromMs <= PATIENCE_MS) return 0;
    let longest = 0;
    let from = fromMs;
    for (const deed of inOrder) {
      if (deed.toMs <= from) continue;
      if (deed.fromMs >= toMs) break;
      longest = Math.max(longest, deed.fromMs - from);
      from = deed.toMs;
    }
    return Math.max(longest, toMs - from);
  };
}
