/** What a run says at its end. */
import { type Anomaly, CLASSES, type Class } from "./judge/anomaly.ts";
import type { Verdict } from "./judge/judge.ts";

export interface Outcome {
  readonly seed: number;
  readonly minutes: number;
  readonly faults: ReadonlyMap<string, number>;
  readonly events: number;
  readonly eventsPerSecond: number;
  readonly verdict: Verdict;
  readonly missing: readonly string[];
  readonly folder: string;
  readonly startedMs: number;
}

const LONGEST = 400;

export function reportOf(outcome: Outcome): string {
  const { seed, minutes, faults, events, verdict, missing, folder } = outcome;
  const counts = [...faults].sort(([a], [b]) => (a < b ? -1 : 1));
  const wide = Math.max(...counts.map(([name]) => name.length));
  const anomalies = (Object.keys(CLASSES) as Class[]).map(
    (name) => `  ${String(verdict.counts.get(name) ?? 0).padStart(6)}  ${name}: ${CLASSES[name]}`,
  );
  const shown = new Set<Class>();
  const firsts = verdict.examples.filter((one) => !shown.has(one.class) && shown.add(one.class));
  return [
    `# Faults (seed ${seed}, ${minutes.toFixed(1)} minutes)`,
    ...counts.map(([name, count]) => `  ${name.padEnd(wide)}  ${count}`),
    "# Checked",
    `  ${events} events in the log (${outcome.eventsPerSecond.toFixed(0)} a second)`,
    `  ${verdict.deliveries} deliveries in ${verdict.streams} streams`,
    "# Anomalies",
    ...anomalies,
    ...firsts.flatMap((one) => exampleOf(one, outcome.startedMs)),
    `# Histories: ${folder}`,
    ...(missing.length > 0
      ? ["# Not a proof; too few of:", ...missing.map((line) => `  ${line}`)]
      : []),
  ].join("\n");
}

function exampleOf(anomaly: Anomaly, startedMs: number): string[] {
  const { class: name, client, atMs, what, lines } = anomaly;
  const at = ((atMs - startedMs) / 1000).toFixed(3);
  return [
    `# First ${name}: ${client} at ${at} s (${atMs} in its history)`,
    `  ${what}`,
    ...lines.map((line) => `    ${JSON.stringify(line).slice(0, LONGEST)}`),
  ];
}
