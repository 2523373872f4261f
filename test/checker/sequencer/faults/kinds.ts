/** Every kind of fault, how often a run strikes it, and how often one that proves something has (pure). */
import { CUTS } from "../../faults/kinds.ts";

/** Done to a whole process, or all of a database's. */
export const WHOLE = [
  "sequencer-kill",
  "sequencer-freeze",
  "postgres-kill",
  "postgres-freeze",
  "broker-kill",
  "broker-freeze",
] as const;

export const LEGS = ["database", "kafka"] as const;

/** Of a batch, by what shows on the wire: rows come, stamps go, the Kafka transaction ends, the slot is confirmed. */
export const STEPS = ["decode", "stamp", "commit", "confirm"] as const;
export type Step = (typeof STEPS)[number];

/** What is done when a step shows. */
const BLOWS = [...CUTS, "sequencer-kill", "sequencer-freeze", "postgres-kill"] as const;
export type Blow = (typeof BLOWS)[number];

export const DISASTERS = [
  "two-relays",
  "slot-dropped",
  "backup-restored",
  "standby-promoted",
  "past-retention",
  "late-thaw",
] as const;

const OF_LEGS = LEGS.flatMap((leg) => CUTS.map((cut) => `${leg}-${cut}` as const));
const AT_STEPS = STEPS.flatMap((step) => BLOWS.map((blow) => `${step}: ${blow}` as const));
export const KINDS = [...WHOLE, ...OF_LEGS, ...AT_STEPS, ...DISASTERS] as const;
export type Fault = (typeof KINDS)[number];

/** How often each is in the bag that a schedule is drawn from. */
export const BAG: readonly Fault[] = [...KINDS, ...WHOLE];

/** On a busy machine the whole bag takes so long. */
const BAG_MINUTES = 10;
const CLEANED_PER_MINUTE = 500;
const EVENTS_PER_MINUTE = 3000;
const FAULTS_PER_MINUTE = 3;

/** What is missing for a valid run: empty when nothing is. */
export function missing(
  minutes: number,
  counts: ReadonlyMap<string, number>,
  done: { readonly cleaned: number; readonly events: number },
): string[] {
  const bags = Math.floor(minutes / BAG_MINUTES);
  const faults = KINDS.reduce((sum, kind) => sum + (counts.get(kind) ?? 0), 0);
  const wanted: (readonly [string, number, number])[] = [
    ...KINDS.map((kind) => {
      const least = BAG.filter((one) => one === kind).length * bags;
      return [kind, counts.get(kind) ?? 0, least] as const;
    }),
    ["faults", faults, Math.floor(minutes * FAULTS_PER_MINUTE)],
    ["events", done.events, Math.floor(minutes * EVENTS_PER_MINUTE)],
    // What is cleaned away is half a minute old.
    ["events cleaned away", done.cleaned, Math.floor((minutes - 1) * CLEANED_PER_MINUTE)],
  ];
  return wanted
    .filter(([, count, least]) => count < least)
    .map(([name, count, least]) => `${name}: ${count} of ${least}`);
}
