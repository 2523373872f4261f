/**
 * What is done to the system, in which order, to whom, for how long (pure): all of it follows from the seed.
 * Acts follow one another: in each, quick faults and slow ones go on beside each other, then comes a calm.
 * A deed begins when the one before it in its lane is over, so the clock of a run may differ, its order not.
 */
import { Random } from "../../sim/random.ts";
import { Bag } from "./bag.ts";
import { type Fault, isCut, QUICK, type Quick, SLOW, type Slow } from "./kinds.ts";

export interface Planned<F extends Fault = Fault> {
  readonly fault: F;
  /** Which server, process, broker or topic: modulo how many there are. */
  readonly pick: number;
  /** How long it lasts, where it lasts. */
  readonly holdMs: number;
  /** Before the next one of its lane. */
  readonly restMs: number;
}

export interface Act {
  readonly quick: readonly Planned<Quick>[];
  readonly slow: readonly Planned<Slow>[];
  readonly calmMs: number;
  /** After the calm: done to clients only, so that what is late then is late because of them. */
  readonly toClients: readonly Planned<"client-freeze" | "client-kill">[];
}

const QUICK_OF_ACT = 11;
const SLOW_OF_ACT = 3;
/** More than the 5 s after which a silent stream is stuck. */
const CALM_MS = 6500;
/** More than the 30 s after which lag must be gone. */
const LONG_CALM_MS = 34_000;
const LONG_CALM_EVERY = 8;
const TO_CLIENTS = ["client-freeze", "client-kill", "client-freeze"] as const;
const ACTS = 400;

/** A part of what is struck often; of the cuts there are many kinds. */
const QUICK_BAG: readonly Quick[] = [
  ...QUICK,
  ...QUICK.filter((fault) => !isCut(fault)).flatMap((fault) => [fault, fault]),
];

/** Transactions are light, and have to be many. */
const SLOW_BAG: readonly Slow[] = [
  ...SLOW,
  ...(["transaction-aborted", "transaction-hanging", "partitions-added"] as const).flatMap(
    (fault) => [fault, fault],
  ),
];

/** @returns more acts than any run takes. */
export function scheduleOf(seed: number): Act[] {
  const random = new Random(seed);
  const quick = new Bag(QUICK_BAG, random);
  const slow = new Bag(SLOW_BAG, random);
  const planned = <F extends Fault>(fault: F): Planned<F> => ({
    fault,
    pick: random.int(0, 999),
    holdMs: random.int(300, 3000),
    restMs: random.int(50, 700),
  });
  return Array.from({ length: ACTS }, (_, act) => {
    const isLong = act % LONG_CALM_EVERY === LONG_CALM_EVERY - 1;
    return {
      quick: Array.from({ length: QUICK_OF_ACT }, () => planned(quick.take())),
      slow: Array.from({ length: SLOW_OF_ACT }, () => planned(slow.take())),
      calmMs: isLong ? LONG_CALM_MS : CALM_MS,
      toClients: isLong ? TO_CLIENTS.map(planned) : [],
    };
  });
}
