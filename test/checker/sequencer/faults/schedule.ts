/**
 * What is done to the system, in which order, to whom, for how long (pure): all of it follows from the seed. One
 * fault begins when the one before it is over, not when its harm is; after some of them comes a calm.
 */
import { Random } from "../../../sim/random.ts";
import { Bag } from "../../faults/bag.ts";
import { BAG, type Fault } from "./kinds.ts";

export interface Planned {
  readonly fault: Fault;
  /** Which broker, which way, before or after: modulo how many there are. */
  readonly pick: number;
  /** How long it lasts, where it lasts. */
  readonly holdMs: number;
  /** Before the next one. */
  readonly restMs: number;
}

const FAULTS = 4000;
const CALM_EVERY = 8;
const CALM_MS = 5000;
/** More than the 15 s after which what is not delivered is late. */
const LONG_CALM_MS = 20_000;
const LONG_CALM_EVERY = 24;

/** @param of what there is to draw from. @returns more than any run takes. */
export function scheduleOf(seed: number, of: readonly Fault[] = BAG): Planned[] {
  const random = new Random(seed);
  const bag = new Bag(of, random);
  return Array.from({ length: FAULTS }, (_, i) => {
    const calmMs = (i + 1) % LONG_CALM_EVERY === 0 ? LONG_CALM_MS : CALM_MS;
    return {
      ...{ fault: bag.take(), pick: random.int(0, 999), holdMs: random.int(300, 3000) },
      restMs: random.int(50, 1000) + ((i + 1) % CALM_EVERY === 0 ? calmMs : 0),
    };
  });
}
