/** What a run says at its end, and what it keeps for whoever looks into an anomaly. */
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLASSES, type Class } from "./judge/anomaly.ts";
import type { Evidence } from "./judge/evidence.ts";
import type { Verdict } from "./judge/judge.ts";
import type { Seat } from "./seat.ts";

const LONGEST = 400;

export function reportOf(outcome: {
  readonly seed: number;
  readonly minutes: number;
  readonly faults: ReadonlyMap<string, number>;
  readonly verdict: Verdict;
  readonly missing: readonly string[];
}): string {
  const { seed, minutes, faults, verdict, missing } = outcome;
  const { events, transactions, deliveries, cleaned, slots } = verdict;
  const counts = [...faults].sort(([a], [b]) => (a < b ? -1 : 1));
  const wide = Math.max(0, ...counts.map(([name]) => name.length));
  return [
    `# Faults (seed ${seed}, ${minutes.toFixed(1)} minutes)`,
    ...counts.map(([name, count]) => `  ${name.padEnd(wide)}  ${count}`),
    "# Checked",
    `  ${events} events of ${transactions} transactions, by the database's own log`,
    `  ${deliveries} deliveries, in the log and to subscribers`,
    `  ${cleaned} events cleaned away; ${slots} slots made`,
    "# Anomalies",
    ...(Object.keys(CLASSES) as Class[]).map(
      (name) => `  ${String(verdict.counts.get(name) ?? 0).padStart(6)}  ${name}: ${CLASSES[name]}`,
    ),
    ...verdict.examples.map(
      ({ class: name, where, what }) => `# ${name}, ${where}: ${what.slice(0, LONGEST)}`,
    ),
    ...(missing.length > 0
      ? ["# Not a proof; too few of:", ...missing.map((line) => `  ${line}`)]
      : []),
  ].join("\n");
}

/** A JSON line each, numbers of the log as texts. What Kafka and PostgreSQL had goes. */
export function keepHistory(folder: string, evidence: Evidence, seats: readonly Seat[]): void {
  for (const one of readdirSync(folder)) rmSync(join(folder, one), { recursive: true });
  const { watched, ...others } = evidence;
  const histories: [string, readonly unknown[]][] = [
    ...Object.entries(others),
    ...watched.map(
      ({ by, topic, events }) => [`${by}-${topic}`, events] as [string, typeof events],
    ),
  ];
  for (const [name, lines] of histories)
    writeFileSync(
      join(folder, `${name}.jsonl`),
      lines.map((line) => `${JSON.stringify(line, textOf)}\n`).join(""),
    );
  for (const { name, said } of seats) writeFileSync(join(folder, `${name}.log`), said.join("\n"));
}

function textOf(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
