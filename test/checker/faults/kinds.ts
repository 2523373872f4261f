/** Every kind of fault, and how often a run that proves something strikes it. */

/** Legs are cut at the wire: between clients and a server, servers and a broker, a server and the store. */
export const LEGS = ["client", "kafka", "store"] as const;
export const CUTS = ["cut", "reset", "half-open", "delayed"] as const;
export type Leg = (typeof LEGS)[number];
export type Cut = (typeof CUTS)[number];

/** A cut may wait for a step of a handoff that shows on the wire; the leg that it shows on. */
export const STEPS = {
  claim: "store",
  save: "store",
  join: "store",
  renew: "store",
  resume: "client",
  opened: "client",
  drain: "client",
  "catch-up": "kafka",
} as const satisfies Record<string, Leg>;
export type Step = keyof typeof STEPS;
const ALL_STEPS = Object.keys(STEPS) as Step[];

/** Over within seconds; the other kinds take Kafka's time. */
export const QUICK = [
  "server-kill",
  "server-freeze",
  "loser-freeze",
  "client-kill",
  "client-freeze",
  "store-kill",
  "store-freeze",
  "store-emptied",
  ...LEGS.flatMap((leg) => CUTS.map((cut) => `${leg}-${cut}` as const)),
  ...ALL_STEPS.map((step) => `at-${step}` as const),
] as const;

export const SLOW = [
  "transaction-aborted",
  "transaction-hanging",
  "partitions-added",
  "retention",
  "broker-kill",
  "leaders-moved",
  "topic-recreated",
  "rolling-restart",
] as const;

export type Quick = (typeof QUICK)[number];
export type Slow = (typeof SLOW)[number];
export type Fault = Quick | Slow;

export function isCut(fault: Quick): boolean {
  const isOnLeg = LEGS.some((leg) => CUTS.some((cut) => fault === `${leg}-${cut}`));
  return isOnLeg || fault.startsWith("at-");
}

const OFTEN = 20;
const RARE = 5;
const RARELY: readonly string[] = [
  "loser-freeze",
  "broker-kill",
  "leaders-moved",
  "topic-recreated",
  "retention",
  "rolling-restart",
];

/** What clients do by themselves all the time, counted from their histories. */
const CLIENTS_OWN = [
  "two connections with one token",
  "old token",
  "broken token",
  "slow reader",
] as const;

/** What is missing for a valid run: empty when nothing is. */
export function missing(counts: ReadonlyMap<string, number>): string[] {
  const of = (name: string): number => counts.get(name) ?? 0;
  const wanted: [string, number, number][] = [
    ...[...QUICK.filter((fault) => !isCut(fault)), ...SLOW].map(
      (fault): [string, number, number] => [
        fault,
        of(fault),
        RARELY.includes(fault) ? RARE : OFTEN,
      ],
    ),
    ...ALL_STEPS.map((step): [string, number, number] => [`at-${step}`, of(`at-${step}`), RARE]),
    ...CUTS.map((cut): [string, number, number] => [
      `${cut} on any leg`,
      LEGS.reduce((sum, leg) => sum + of(`${leg}-${cut}`), 0),
      OFTEN,
    ]),
    ...LEGS.flatMap((leg) =>
      CUTS.map((cut): [string, number, number] => [`${leg}-${cut}`, of(`${leg}-${cut}`), RARE]),
    ),
    ...CLIENTS_OWN.map((name): [string, number, number] => [name, of(name), OFTEN]),
  ];
  return wanted
    .filter(([, count, least]) => count < least)
    .map(([name, count, least]) => `${name}: ${count} of ${least}`);
}
